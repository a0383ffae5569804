"""Architecture of the embedded vision-language model: a Qwen3-VL of about 4 million parameters, its tokenizer and image processor."""

import json
import random
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from act2see.core import chat
from act2see.core.trace import Generate, Observation, Retrieve, Thought
from act2see.synthetic.hypothetical import ask_hypothetical, explain_hypothetical
from act2see.synthetic.questions import Look, ask, describe, explain
from act2see.synthetic.world import make_clip

NOTICE = "the embedded model knows only the synthetic world of coloured shapes; for any other video name a full-size one with --backend"
PICTURE = 64
"""Side length in pixels to which the embedded VLM's image processor scales a frame: 16 tokens."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TAGS = tuple(f"<{slash}{name}>" for name in ("think", "retrieve", "generate", "frame", "answer") for slash in ("", "/"))
# Pre-tokenization: words with the character before them, single digits, punctuation, line ends, spaces. BPE merges within each only.
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+"
_VOCABULARY = 1024


def tokenizer_texts(seed: int, count: int) -> Iterator[str]:
    """Texts of the synthetic world that contain all words of prompts and traces."""
    rng = random.Random(seed)
    for tools in ((), ("retrieve",), ("retrieve", "generate")):
        yield chat.system_prompt(tools)
    for number in range(count):
        if number % 20 == 0:  # few distinct sentences, and slow to generate
            yield from _supposed_texts(rng)
        clip = make_clip(rng, unseen=True)
        yield "Question: Describe every frame. " + describe(clip, clip.times(1.0)) + "<3.0 seconds>\nsystem\nuser\nassistant\n"
        for question in ask(rng, clip)[:4]:
            yield chat.question_text(question.text, question.choices)
            for step in explain(rng, clip, question, [Look(None, "no look is left (at most 1): answer from what you have seen")]):
                match step:
                    case Thought(text) | Retrieve(text) | Generate(text):
                        yield text
                    case Observation(_, error):
                        yield f"error: {error}"
                    case _:
                        pass


def _supposed_texts(rng: random.Random) -> Iterator[str]:
    clip, question = ask_hypothetical(rng, unseen=True)
    yield chat.question_text(question.text, question.choices)
    for step in explain_hypothetical(rng, clip, question, "no faithful picture could be made: answer from what you have seen"):
        if isinstance(step, Thought | Generate):
            yield step.text if isinstance(step, Thought) else step.prompt


def make_tokenizer(seed: int = 0, count: int = 3000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the synthetic world's texts; byte-level, so that it can encode any text."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    raw.decoder = decoders.ByteLevel()
    special = [AddedToken(mark, special=True, normalized=False) for mark in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - len(TAGS),
        min_frequency=3,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(tokenizer_texts(seed, count), trainer)
    raw.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>", clean_up_tokenization_spaces=False)


def make_image_processor(pixels: int = PICTURE**2) -> Qwen2VLImageProcessorPil:
    """Scales frames to 64 × 64 pixels (or as many in the frame's aspect ratio), with patches of 8 × 8 merged two by two."""
    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": pixels, "longest_edge": pixels},
        patch_size=8,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def _id_of(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    found = tokenizer.backend_tokenizer.token_to_id(token)
    assert found is not None, token
    return int(found)


def make_vlm(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLForConditionalGeneration:
    """A Qwen3-VL with random weights, in the embedded model's size."""
    ids = {mark: _id_of(tokenizer, mark) for mark in SPECIAL}
    hidden, heads, head_dim = 192, 6, 32
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "head_dim": head_dim,
            "max_position_embeddings": 8192,
            "pad_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5], "mrope_interleaved": True},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden,
            "num_position_embeddings": (PICTURE // 8) ** 2,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return Qwen3VLForConditionalGeneration(config)


LIMITS: Mapping[str, str | int] = {"knows": "synthetic", "max_tokens": 512, "repeated_tokens": 64}
"""Scope and token limits in the embedded model's act2see.json; its longest correct turns take about 300 tokens."""


def save_parts(
    folder: Path, tokenizer: PreTrainedTokenizerFast, processor: Qwen2VLImageProcessorPil, limits: Mapping[str, str | int] | None = None
) -> None:
    """Write tokenizer, image processor, chat template and settings: everything but the weights."""
    tokenizer.chat_template = files("act2see.core").joinpath("templates", "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    settings = {"frames_as": "images", "rendering": "same_turn", "notice": NOTICE, **(limits or {})}
    (folder / "act2see.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
