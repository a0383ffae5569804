"""Tiny models of every family's own classes, with random weights: they know nothing, but compute as real ones do."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from act2see.backends.pieces import Piece, joined

PARTS = "{% for part in message.content %}{{ part.text if part.type == 'text' else PICTURE }}{% endfor %}"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    + PARTS
    + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

Inputs = dict[str, torch.Tensor]
SCALE = 0.7
"""Of random weights: small enough for rounding to stay small in linear attention, large enough for a wrong position to show in the logits."""


@dataclass(frozen=True)
class Tiny:
    """What it takes to make a tiny model of one type, and to ask transformers for the same without act2see."""

    config: Callable[[Mapping[str, int], int], Any]
    """The config, from the tokens' ids and the size of the vocabulary."""
    processor: Callable[[], Any]
    marks: tuple[str, ...]
    template: str
    end: str
    pad: str
    """The placeholder token."""
    inputs: Callable[[Any, Sequence[Image.Image], torch.Tensor], Inputs]
    """What the model is given beside ids, from the image processor, the pictures and the placeholders' mask (1, tokens)."""


def tokenizer_of(tiny: Tiny) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that it can encode any text; with a few merges."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = [AddedToken(mark, special=True, normalized=False) for mark in tiny.marks]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(["Question: What colour is the star? You see frames of a video, each after its time."] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=tiny.end, pad_token=tiny.marks[0])
    tokenizer.chat_template = tiny.template
    return tokenizer


def make(tiny: Tiny, folder: Path, seed: int = 0) -> Path:
    """Write a folder with the model, its tokenizer and its image processor."""
    tokenizer = tokenizer_of(tiny)
    ids: dict[str, Any] = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in tiny.marks}
    torch.manual_seed(seed)
    model: Any = AutoModelForImageTextToText.from_config(tiny.config(ids, len(tokenizer)))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, SCALE / math.sqrt(weight[0].numel()))
    model.generation_config.eos_token_id = ids[tiny.end]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tiny.processor().save_pretrained(folder)
    return folder


def whole(tiny: Tiny, model: Any, processor: Any, pieces: Sequence[Piece], pictures: Sequence[Image.Image], pad: int) -> Inputs:
    """The arguments with which transformers computes the prompt at once, with positions and masks of its own."""
    ids = torch.tensor([joined(pieces)])
    inner = getattr(model, "model", model)
    if hasattr(inner, "rope_deltas"):
        inner.rope_deltas = None
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **(tiny.inputs(processor, pictures, ids == pad) if pictures else {})}


def _patches() -> Qwen2VLImageProcessorPil:
    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64},
        patch_size=8,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def _grid_inputs(processor: Any, pictures: Sequence[Image.Image], pads: torch.Tensor) -> Inputs:
    made = processor(images=list(pictures), return_tensors="pt")
    return {"pixel_values": made["pixel_values"].float(), "image_grid_thw": made["image_grid_thw"], "mm_token_type_ids": pads.int()}


_SIZES: dict[str, Any] = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096}
_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


def _qwen_ids(ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def _qwen3_vl(ids: Mapping[str, int], size: int, *, experts: bool = False) -> Any:
    from transformers import Qwen3VLConfig, Qwen3VLMoeConfig

    text: dict[str, Any] = {"vocab_size": size, "hidden_size": 48, "intermediate_size": 64, "head_dim": 16, **_SIZES}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    if experts:
        text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    vision = {**_VISION, "out_hidden_size": 48, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return (Qwen3VLMoeConfig if experts else Qwen3VLConfig)(text_config=text, vision_config=vision, **_qwen_ids(ids), tie_word_embeddings=False)


def _qwen2_5_vl(ids: Mapping[str, int], size: int) -> Any:
    from transformers import Qwen2_5_VLConfig

    text: dict[str, Any] = {"vocab_size": size, "hidden_size": 64, "intermediate_size": 64, **_SIZES}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    vision = {**_VISION, "out_hidden_size": 64, "window_size": 32, "fullatt_block_indexes": [1]}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_ids(ids))


def _qwen3_5(ids: Mapping[str, int], size: int, *, experts: bool = False) -> Any:
    from transformers import Qwen3_5Config, Qwen3_5MoeConfig

    text: dict[str, Any] = {"vocab_size": size, "hidden_size": 48, "head_dim": 16, **_SIZES, "num_hidden_layers": 4}
    text |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
        "partial_rotary_factor": 0.5,
    }
    if experts:
        text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
    else:
        text["intermediate_size"] = 64
    vision = {**_VISION, "out_hidden_size": 48, "num_position_embeddings": 64}
    return (Qwen3_5MoeConfig if experts else Qwen3_5Config)(text_config=text, vision_config=vision, **_qwen_ids(ids))


def _qwen(config: Callable[..., Any], opening: str = "") -> Tiny:
    template = CHATML.replace("PICTURE", "'<|vision_start|><|image_pad|><|vision_end|>'").replace("assistant\n{%", f"assistant\n{opening}{{%")
    return Tiny(config, _patches, QWEN_MARKS, template, "<|im_end|>", "<|image_pad|>", _grid_inputs)


def _glm(ids: Mapping[str, int], size: int, name: str) -> Any:
    from transformers import Glm4vConfig, Glm4vMoeConfig, Glm46VConfig

    text: dict[str, Any] = {"vocab_size": size, "hidden_size": 64, "intermediate_size": 64, **_SIZES, "pad_token_id": 0}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}
    if name == "glm4v_moe":
        text |= {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1, "head_dim": 16}
        text |= {"first_k_dense_replace": 1, "n_shared_experts": 1}
    vision: dict[str, Any] = {**_VISION, "out_hidden_size": 64, "image_size": 64}
    special: dict[str, Any] = {
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
        "image_start_token_id": ids["<|begin_of_image|>"],
        "image_end_token_id": ids["<|end_of_image|>"],
        "video_start_token_id": ids["<|begin_of_video|>"],
        "video_end_token_id": ids["<|end_of_video|>"],
    }
    if name == "glm46v":
        text["model_type"], vision["model_type"] = "glm4v_text", "glm4v_vision"
        return Glm46VConfig(text_config=text, vision_config=vision, **special)
    return (Glm4vMoeConfig if name == "glm4v_moe" else Glm4vConfig)(text_config=text, vision_config=vision, **special)


_GLM_MARKS = (
    *("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|video|>", "<|end_of_video|>"),
)
_GLM_TEMPLATE = (
    "[gMASK]<sop>{% for message in messages %}{% if message.role == 'system' %}<|system|>\n{{ message.content }}"
    "{% elif message.role == 'user' %}<|user|>\n"
    + PARTS.replace("PICTURE", "'<|begin_of_image|><|image|><|end_of_image|>'")
    + "{% else %}<|assistant|>\n{{ message.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n<think>{% endif %}"
)


def _glm_patches() -> Any:
    from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil

    own: dict[str, Any] = {"size": {"shortest_edge": 2 * 16 * 16, "longest_edge": 2 * 64 * 64}}
    own |= {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    return Glm4vImageProcessorPil(**own)


def _glm_of(name: str) -> Tiny:
    return Tiny(lambda ids, size: _glm(ids, size, name), _glm_patches, _GLM_MARKS, _GLM_TEMPLATE, "<|user|>", "<|image|>", _grid_inputs)


def _internvl(ids: Mapping[str, int], size: int) -> Any:
    from transformers import InternVLConfig

    text: dict[str, Any] = {"model_type": "qwen2", "vocab_size": size, "hidden_size": 48, "intermediate_size": 64, **_SIZES}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    return InternVLConfig(text_config=text, vision_config=vision, image_token_id=ids["<IMG_CONTEXT>"], image_seq_length=4, tie_word_embeddings=False)


def _internvl_tiles() -> Any:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    return GotOcr2ImageProcessorPil(size={"height": 32, "width": 32})


def _internvl_inputs(processor: Any, pictures: Sequence[Image.Image], pads: torch.Tensor) -> Inputs:
    return {"pixel_values": processor(images=list(pictures), crop_to_patches=False, return_tensors="pt")["pixel_values"].float()}


def _smolvlm(ids: Mapping[str, int], size: int) -> Any:
    from transformers import SmolVLMConfig

    text: dict[str, Any] = {"model_type": "llama", "vocab_size": size, "hidden_size": 48, "intermediate_size": 64, "pad_token_id": 0, **_SIZES}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    return SmolVLMConfig(text_config=text, vision_config=vision, image_token_id=ids["<image>"], scale_factor=2)


def _smolvlm_tiles() -> Any:
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    return SmolVLMImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})


def _smolvlm_inputs(processor: Any, pictures: Sequence[Image.Image], pads: torch.Tensor) -> Inputs:
    made = processor(images=[list(pictures)], do_image_splitting=False, return_tensors="pt")
    return {"pixel_values": made["pixel_values"].float(), "pixel_attention_mask": made["pixel_attention_mask"]}


_SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message.role | capitalize }}{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}"
    "{{ ': ' }}{% endif %}" + PARTS.replace("PICTURE", "'<image>'") + "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}"
    "{{ 'Assistant:' }}{% endif %}"
)


def _gemma3(ids: Mapping[str, int], size: int) -> Any:
    from transformers import Gemma3Config

    text: dict[str, Any] = {"vocab_size": size, "hidden_size": 48, "intermediate_size": 64, "head_dim": 12, **_SIZES}
    text |= {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "query_pre_attn_scalar": 12}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    special: dict[str, Any] = {
        "boi_token_index": ids["<start_of_image>"],
        "eoi_token_index": ids["<end_of_image>"],
        "image_token_index": ids["<image_soft_token>"],
    }
    return Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, **special)


def _gemma3_tiles() -> Any:
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    return Gemma3ImageProcessorPil(size={"height": 32, "width": 32})


def _gemma3_inputs(processor: Any, pictures: Sequence[Image.Image], pads: torch.Tensor) -> Inputs:
    pixels = processor(images=list(pictures), do_pan_and_scan=False, return_tensors="pt")["pixel_values"].float()
    return {"pixel_values": pixels, "token_type_ids": pads.int()}


_GEMMA3_TEMPLATE = (
    "<bos>{% set first = messages[0]['content'][0]['text'] + '\n\n' %}{% for message in messages[1:] %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n{{ first if loop.first else '' }}"
    "{% for part in message.content %}{{ '<start_of_image>' if part.type == 'image' else part.text | trim }}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_GEMMA3_MARKS = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<image_soft_token>", "<end_of_image>")


def _gemma4(ids: Mapping[str, int], size: int, *, large: bool = False) -> Any:
    from transformers import Gemma4Config

    text: dict[str, Any] = {"vocab_size": size, "hidden_size": 48, "intermediate_size": 64, "head_dim": 16, **_SIZES, "num_hidden_layers": 6}
    text |= {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"] * 3, "global_head_dim": 24}
    text |= {"use_bidirectional_attention": "vision", "hidden_size_per_layer_input": 0} if large else {}
    text |= {} if large else {"num_kv_shared_layers": 2, "vocab_size_per_layer_input": size, "hidden_size_per_layer_input": 8}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    vision |= {"patch_size": 4, "position_embedding_size": 256}
    special: dict[str, Any] = {
        "boi_token_id": ids["<|image>"],
        "eoi_token_id": ids["<image|>"],
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
    }
    return Gemma4Config(text_config=text, vision_config=vision, audio_config=None, audio_token_id=ids["<|audio|>"], **special)


def _gemma4_patches() -> Any:
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    return Gemma4ImageProcessorPil(patch_size=4, max_soft_tokens=70)


def _gemma4_inputs(processor: Any, pictures: Sequence[Image.Image], pads: torch.Tensor) -> Inputs:
    made = processor(images=list(pictures), return_tensors="pt")
    return {"pixel_values": made["pixel_values"].float(), "image_position_ids": made["image_position_ids"], "mm_token_type_ids": pads.int()}


_GEMMA4_TEMPLATE = (
    "<bos>{% for message in messages %}<|turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{% for part in message.content %}{{ PICTURE if part.type == 'image' else part.text | trim }}{% endfor %}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n<|channel>thought\n<channel|>{% endif %}"
)
_GEMMA4_MARKS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<|turn>",
    "<turn|>",
    "<|channel>",
    "<channel|>",
    "<|image>",
    "<|image|>",
    "<image|>",
    "<|video|>",
    "<|audio|>",
)


def _gemma4_of(picture: str, *, large: bool = False) -> Tiny:
    template = _GEMMA4_TEMPLATE.replace("PICTURE", picture)
    return Tiny(lambda ids, size: _gemma4(ids, size, large=large), _gemma4_patches, _GEMMA4_MARKS, template, "<turn|>", "<|image|>", _gemma4_inputs)


TINY: dict[str, Tiny] = {
    "qwen3_vl": _qwen(_qwen3_vl),
    "qwen3_vl_moe": _qwen(lambda ids, size: _qwen3_vl(ids, size, experts=True)),
    "qwen3_5": _qwen(_qwen3_5, opening="<think>\n"),
    "qwen3_5_moe": _qwen(lambda ids, size: _qwen3_5(ids, size, experts=True), opening="<think>\n"),
    "qwen2_5_vl": _qwen(_qwen2_5_vl),
    **{name: _glm_of(name) for name in ("glm4v", "glm4v_moe", "glm46v")},
    "internvl": Tiny(
        _internvl,
        _internvl_tiles,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "<IMG_CONTEXT>", "</img>"),
        CHATML.replace("PICTURE", "'<IMG_CONTEXT>\n'"),
        "<|im_end|>",
        "<IMG_CONTEXT>",
        _internvl_inputs,
    ),
    "smolvlm": Tiny(
        _smolvlm,
        _smolvlm_tiles,
        ("<|endoftext|>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>", "<image>"),
        _SMOLVLM_TEMPLATE,
        "<end_of_utterance>",
        "<image>",
        _smolvlm_inputs,
    ),
    "gemma3": Tiny(_gemma3, _gemma3_tiles, _GEMMA3_MARKS, _GEMMA3_TEMPLATE, "<end_of_turn>", "<image_soft_token>", _gemma3_inputs),
    "gemma4": _gemma4_of("'<|image|>'"),
    "gemma4 (large)": _gemma4_of("'\\n\\n<|image|>\\n\\n'", large=True),
}
