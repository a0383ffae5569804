"""Train the embedded generator, a Stable Diffusion 3 of a few million parameters, from nothing: its picture codec, then edits."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Img2ImgPipeline
from numpy.typing import NDArray
from PIL import Image
from tokenizers.processors import TemplateProcessing
from torch import nn
from torch.utils.data import Dataset
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from act2see.backends import pretrained
from act2see.config import MicroGeneratorConfig
from act2see.core.errors import ConfigError
from act2see.synthetic.edits import random_prompts
from act2see.synthetic.world import make_clip
from act2see.training.micro.model import make_tokenizer
from act2see.training.trainer_loop import fit

SIDE = 64
"""Side in pixels at which the embedded generator works."""
CHANNELS = 8
_PICTURES, _EDITS = 24, 32
_TEXT_LENGTH = 20
_STRENGTHS = (0.12, 0.3)
_FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


SETTINGS = {"steps": 8, "guidance": 1.0, "strengths": [0.25, 0.375], "max_pixels": SIDE**2, "knows": "synthetic"}
"""What lies in the model's act2see.json: at these strengths the pipeline takes one real step, or two."""


def make_codec() -> AutoencoderTiny:
    """A codec with random weights: 64 × 64 pixels become 16 × 16 cells of 8 numbers. It has no normalisation, which loses flat colours."""
    return AutoencoderTiny(
        latent_channels=CHANNELS,
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )


def pixels_of(image: Image.Image, rng: random.Random) -> NDArray[np.float32]:
    """A picture as the pipeline feeds it: (3, 64, 64), from -1 to 1. No one way of scaling down may be the only one that is known."""
    small = np.asarray(image.resize((SIDE, SIDE), rng.choice(_FILTERS)), np.float32)
    return (small / 127.5 - 1).transpose(2, 0, 1)


class Pictures(Dataset[dict[str, torch.Tensor]]):
    """Batch `i` of single frames, the same every time."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"pictures {self.seed} {index}")
        made: list[NDArray[np.float32]] = []
        while len(made) < _PICTURES:
            clip = make_clip(rng, busy=rng.random() < 0.3)
            moments = [rng.uniform(0, clip.duration_seconds - 0.05) for _ in range(6)]
            made.append(pixels_of(clip.draw(max(moments, key=lambda moment: len(clip.visible(moment)))), rng))
        return {"pixels": torch.from_numpy(np.stack(made))}


class CodecLoss(nn.Module):
    """Pictures through the codec and back. Noise in between makes the decoder forgive the small errors of whatever edits the cells."""

    def __init__(self, codec: AutoencoderTiny) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of `pixels` (pictures, 3, 64, 64)."""
        cells = self.codec.encode(pixels).latents
        back = self.codec.decode(cells + 0.05 * torch.randn_like(cells)).sample
        # Where a picture differs from its own blur there are edges: shapes are known by them, and most of a picture has none.
        edges = (pixels - nn.functional.avg_pool2d(pixels, 5, 1, 2, count_include_pad=False)).abs().mean(1, keepdim=True)
        error = (back - pixels).abs().float() * (1 + 8 * edges)
        return {"loss": error.mean() + 3 * (back - pixels).square().mean() + 1e-3 * cells.square().mean()}


def train(config: MicroGeneratorConfig) -> Path:
    """Train one of the two parts, going on from the last checkpoint in `config.out` if there is one; returns the folder of what is finished."""
    return train_codec(config) if config.part == "codec" else train_edits(config)


def train_codec(config: MicroGeneratorConfig) -> Path:
    """Train the codec; returns its folder. How large its numbers are, on the whole, is measured at the end and stands in its config."""
    torch.manual_seed(config.seed)
    codec = pretrained.load_pipeline(AutoencoderTiny, str(config.start_from / "vae"), "the codec") if config.start_from else make_codec()
    is_first = fit(
        CodecLoss(codec),
        lambda batches: Pictures(config.seed, batches),
        lambda items: items[0],
        out=config.out,
        steps=config.steps,
        seed=config.seed,
        learning_rate=config.learning_rate,
        save_every=config.save_every,
    )
    if is_first:
        with torch.no_grad():
            cells = torch.cat([codec.encode(Pictures(config.seed + 1, 8)[index]["pixels"]).latents for index in range(8)])
        codec.register_to_config(shift_factor=round(cells.mean().item(), 4), scaling_factor=round(1 / cells.std().item(), 4))
        codec.save_pretrained(config.out / "model" / "vae")
    return config.out / "model"


# Edits


def make_text_encoder(vocabulary: int, width: int) -> CLIPTextModelWithProjection:
    """A CLIP text encoder with random weights. Stable Diffusion 3 reads two of them: the last layer but one, and the projection."""
    ids: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    heads = width // 32
    shape: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 3,
        "num_attention_heads": heads,
        "projection_dim": width,
    }
    return CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=vocabulary, max_position_embeddings=_TEXT_LENGTH, **ids, **shape))


def make_text_tokenizer() -> PreTrainedTokenizerFast:
    """The embedded models' tokenizer, with an end after every text, which CLIP's projection is taken from."""
    end = "<|endoftext|>"
    raw = make_tokenizer().backend_tokenizer
    raw.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, raw.token_to_id(end))])
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, pad_token=end, model_max_length=_TEXT_LENGTH)


def make_transformer() -> SD3Transformer2DModel:
    """Stable Diffusion 3's transformer with random weights in the embedded generator's shape: 64 tokens a picture."""
    return SD3Transformer2DModel(
        sample_size=SIDE // 4,
        patch_size=2,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_layers=6,
        attention_head_dim=32,
        num_attention_heads=4,
        caption_projection_dim=128,
        joint_attention_dim=128,
        pooled_projection_dim=128,
        pos_embed_max_size=SIDE // 8,
        qk_norm="rms_norm",
    )


class Edits(Dataset[dict[str, torch.Tensor]]):
    """Batch `i` of pictures before and after an edit, with the edit's prompt, the same every time."""

    def __init__(self, seed: int, count: int, tokenizer: PreTrainedTokenizerFast) -> None:
        self.seed, self.count, self.tokenizer = seed, count, tokenizer

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"edits {self.seed} {index}")
        before: list[NDArray[np.float32]] = []
        after: list[NDArray[np.float32]] = []
        prompts: list[str] = []
        while len(prompts) < _EDITS:
            clip, seconds, made = random_prompts(rng)
            source = pixels_of(clip.draw(seconds), rng)
            for _, prompt, edited in made:
                before.append(source)
                after.append(source if edited is clip else pixels_of(edited.draw(seconds), rng))
                prompts.append(prompt)
        text = self.tokenizer(prompts, padding="max_length", max_length=_TEXT_LENGTH, truncation=True, return_tensors="pt")
        return {"before": torch.from_numpy(np.stack(before)), "after": torch.from_numpy(np.stack(after)), "input_ids": text["input_ids"]}


class EditLoss(nn.Module):
    """The straight path from the noised picture to the edited one, which is what the unmodified image-to-image pipeline walks.

    Where text-to-image training would draw the whole picture anew, here what is not spoken of stays. At strength S the pipeline begins with
    (1 - S) before + S noise; on the way, at level s <= S, it holds (s / S) of that and (1 - s / S) of the edited picture.
    """

    def __init__(self, transformer: SD3Transformer2DModel, first: nn.Module, second: nn.Module, codec: AutoencoderTiny) -> None:
        super().__init__()
        self.transformer, self.first, self.second = transformer, first, second
        self.codec = codec.requires_grad_(False)

    def forward(self, before: torch.Tensor, after: torch.Tensor, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of pictures (edits, 3, 64, 64) and their prompts (edits, tokens)."""
        source, target = self._cells(before), self._cells(after)
        strength = torch.empty(len(source), 1, 1, 1, device=source.device).uniform_(*_STRENGTHS)
        # Most steps are first ones: with few steps they decide.
        share = torch.where(torch.rand_like(strength) < 0.75, 1.0, torch.rand_like(strength))
        start = (1 - strength) * source + strength * torch.randn_like(source)
        velocity = (start - target) / strength
        words, pooled = self._text(input_ids)
        made = self.transformer(
            hidden_states=target + share * strength * velocity,
            encoder_hidden_states=words,
            pooled_projections=pooled,
            timestep=1000 * (share * strength).flatten(),
            return_dict=False,
        )[0]
        changed = 1 + 4 * (source - target).abs().mean(1, keepdim=True)
        return {"loss": ((made.float() - velocity).square() * strength**2 * changed).mean()}

    def _cells(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            cells: torch.Tensor = self.codec.encode(pixels).latents.float()
        scaled: torch.Tensor = (cells - self.codec.config.shift_factor) * self.codec.config.scaling_factor
        return scaled

    def _text(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As the pipeline does: both encoders' words side by side, then one empty token where the third would speak."""
        both = [encoder(input_ids, output_hidden_states=True) for encoder in (self.first, self.second)]
        words = torch.cat([made.hidden_states[-2] for made in both], dim=-1)
        return nn.functional.pad(words, (0, 0, 0, 1)), torch.cat([made.text_embeds for made in both], dim=-1)


def train_edits(config: MicroGeneratorConfig) -> Path:
    """Train the transformer and its text encoders on top of a codec; returns the folder of the whole pipeline."""
    torch.manual_seed(config.seed)
    if config.start_from is None:
        raise ConfigError("the edits need a codec: name the folder of a trained one with --start-from")
    codec = pretrained.load_pipeline(AutoencoderTiny, str(config.start_from / "vae"), "the codec")
    if (config.start_from / "transformer").is_dir():
        parts: Any = pretrained.load_pipeline(
            StableDiffusion3Img2ImgPipeline, str(config.start_from), "the edits", text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
        )
        tokenizer, transformer, first, second = parts.tokenizer, parts.transformer, parts.text_encoder, parts.text_encoder_2
    else:
        tokenizer = make_text_tokenizer()
        transformer, first, second = make_transformer(), make_text_encoder(len(tokenizer), 96), make_text_encoder(len(tokenizer), 32)
    is_first = fit(
        EditLoss(transformer, first, second, codec),
        lambda batches: Edits(config.seed, batches, tokenizer),
        lambda items: items[0],
        out=config.out,
        steps=config.steps,
        seed=config.seed,
        learning_rate=config.learning_rate,
        save_every=config.save_every,
        warmup=100,
    )
    if is_first:
        save_pipeline(config.out / "model", tokenizer, transformer, first, second, codec)
    return config.out / "model"


def save_pipeline(folder: Path, tokenizer: Any, transformer: Any, first: Any, second: Any, codec: Any) -> None:
    """Write the parts as one folder that the stock pipeline loads."""
    pipeline = StableDiffusion3Img2ImgPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=codec,
        text_encoder=first,
        tokenizer=tokenizer,
        text_encoder_2=second,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    (folder / "act2see.json").write_text(json.dumps(SETTINGS, indent=2) + "\n", encoding="utf-8")
