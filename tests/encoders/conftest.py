"""A tiny model of every class that the encoders take, saved as a real one is. Its random weights know nothing, but compute as real ones do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    ChineseCLIPConfig,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPModel,
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from act2see.training.micro.model import make_image_processor, make_tokenizer, make_vlm, save_parts

WORDS = ["a", "the", "red", "blue", "star", "ring", "is", "where", "long", "query", "that", "goes", "on", "and"]
SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
PICTURE: dict[str, Any] = {"image_size": 32, "patch_size": 8}


def words_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, between a beginning and an end."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", bos_token="[CLS]", eos_token="[SEP]")


def _siglip(vocabulary: int) -> tuple[Any, Any]:
    text = SMALL | TEXT | {"vocab_size": vocabulary, "max_position_embeddings": 10, "projection_size": 32}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=SMALL | PICTURE)), SiglipImageProcessorPil(size={"height": 32, "width": 32})


def _siglip2(vocabulary: int) -> tuple[Any, Any]:
    text = SMALL | TEXT | {"vocab_size": vocabulary, "max_position_embeddings": 10, "projection_size": 32}
    vision = SMALL | {"patch_size": 8, "num_patches": 16}
    return Siglip2Model(Siglip2Config(text_config=text, vision_config=vision)), Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)


def _clip_processor() -> Any:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def _clip(vocabulary: int) -> tuple[Any, Any]:
    text = SMALL | TEXT | {"vocab_size": vocabulary, "max_position_embeddings": 10}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=SMALL | PICTURE, projection_dim=24)), _clip_processor()


def _metaclip2(vocabulary: int) -> tuple[Any, Any]:
    text = SMALL | TEXT | {"vocab_size": vocabulary, "max_position_embeddings": 10}
    return MetaClip2Model(MetaClip2Config(text_config=text, vision_config=SMALL | PICTURE, projection_dim=24)), _clip_processor()


def _chinese_clip(vocabulary: int) -> tuple[Any, Any]:
    text = SMALL | {"vocab_size": vocabulary, "max_position_embeddings": 10, "pad_token_id": 0}
    return ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=SMALL | PICTURE, projection_dim=24)), _clip_processor()


def _altclip(vocabulary: int) -> tuple[Any, Any]:
    text = SMALL | TEXT | {"vocab_size": vocabulary, "max_position_embeddings": 10, "project_dim": 32}
    return AltCLIPModel(AltCLIPConfig(text_config=text, vision_config=SMALL | PICTURE, projection_dim=24)), _clip_processor()


def _blip2(vocabulary: int) -> tuple[Any, Any]:
    text = {"vocab_size": vocabulary, "max_position_embeddings": 64, "use_qformer_text_input": True, "initializer_range": 0.2}
    config = Blip2Config(
        vision_config=SMALL | PICTURE | {"initializer_range": 0.2},
        qformer_config=SMALL | text,
        text_config={"model_type": "opt", "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": vocabulary},
        num_query_tokens=6,
        image_text_hidden_size=24,
    )
    model = Blip2ForImageTextRetrieval(config)
    for weights in (model.query_tokens, model.vision_projection.weight, model.text_projection.weight):  # else all would look nearly the same to it
        torch.nn.init.normal_(weights)
    return model, BlipImageProcessorPil(size={"height": 32, "width": 32})


MAKERS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "siglip": _siglip,
    "siglip2": _siglip2,
    "clip": _clip,
    "metaclip_2": _metaclip2,
    "chinese_clip": _chinese_clip,
    "altclip": _altclip,
    "blip2": _blip2,
}


def save_tiny(model_class: str, folder: Path, seed: int = 0) -> Path:
    """Make a model of that class with that seed's weights and write it into the folder."""
    torch.manual_seed(seed)
    if model_class == "embedding":
        return _save_embedding(folder)
    tokenizer = words_tokenizer()
    model, image_processor = MAKERS[model_class](len(tokenizer))
    for name in ("logit_scale", "logit_bias"):  # as they are after training, more or less; else both would drop out of the scores
        if hasattr(model, name):
            torch.nn.init.constant_(getattr(model, name), {"logit_scale": 2.5, "logit_bias": -1.5}[name])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return folder


def _save_embedding(folder: Path) -> Path:
    """A Qwen3-VL with the files beside it that make it a model of sentence-transformers, as those of Qwen3-VL-Embedding do."""
    tokenizer = make_tokenizer(count=50)
    save_parts(folder, tokenizer, make_image_processor())
    make_vlm(tokenizer).save_pretrained(folder)
    parts = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"} for n, (path, name) in enumerate(parts)]
    step = {"method": "forward", "method_output_name": "last_hidden_state"}
    files: dict[str, Any] = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 192, "pooling_mode_lasttoken": True, "include_prompt": True},
        "config_sentence_transformers.json": {"prompts": {"query": "", "document": ""}, "similarity_fn_name": "cosine"},
        "video_preprocessor_config.json": {"video_processor_type": "Qwen3VLVideoProcessor"},
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": dict.fromkeys(("text", "image", "video"), step) | {"message": step | {"format": "structured"}},
            "module_output_name": "token_embeddings",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of that class, the same for all tests: not to be written to."""
    made: dict[str, Path] = {}

    def folder(model_class: str) -> Path:
        if model_class not in made:
            made[model_class] = save_tiny(model_class, tmp_path_factory.mktemp(model_class))
        return made[model_class]

    return folder


@pytest.fixture(scope="session")
def make_tiny() -> Callable[..., Path]:
    """Write a tiny model of one's own: `make_tiny(class, folder, seed)`."""
    return save_tiny


@pytest.fixture(scope="session")
def images() -> list[Image.Image]:
    """Seven pictures, wide, high and square, smaller and larger than the models want them, no two alike."""
    rng = np.random.default_rng(0)
    sizes = [(64, 36), (36, 64), (32, 32), (20, 20), (90, 40), (40, 40), (64, 48)]
    coarse = [Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)) for _ in sizes]
    return [picture.resize(size, Image.Resampling.BICUBIC) for picture, size in zip(coarse, sizes, strict=True)]
