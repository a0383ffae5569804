"""Trains the embedded generator, a Stable Diffusion 3 of a few million parameters, from random weights: the image codec, then the edits."""

import json
import random
from pathlib import Path

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
from act2see.training.trainer_loop import LoopSettings, run_trainer

SIDE = 64
"""Side length of the generator's images in pixels."""
CHANNELS = 8
_PICTURES, _EDITS = 24, 32
_TEXT_LENGTH = 20
_STRENGTHS = (0.12, 0.3)
_FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


SETTINGS = {"steps": 8, "guidance": 1.0, "strengths": [0.25, 0.375], "max_pixels": SIDE**2, "knows": "synthetic"}
"""Contents of the model's act2see.json. At these strengths the pipeline takes one or two denoising steps."""


def make_codec() -> AutoencoderTiny:
    """A codec with random weights: 64 × 64 pixels become 16 × 16 latents of 8 channels. No normalization layers: they lose flat colours."""
    return AutoencoderTiny(
        latent_channels=CHANNELS,
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )


def pixels_of(image: Image.Image, rng: random.Random) -> NDArray[np.float32]:
    """An image as the pipeline passes it on: (3, 64, 64), from -1 to 1. The resampling filter is random, as augmentation."""
    small = np.asarray(image.resize((SIDE, SIDE), rng.choice(_FILTERS)), np.float32)
    return (small / 127.5 - 1).transpose(2, 0, 1)


class CodecBatches(Dataset[dict[str, torch.Tensor]]):
    """Batch `i` of single frames. Deterministic."""

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
    """Reconstruction loss of the codec. Noise on the latents makes the decoder robust against small errors of the edits."""

    def __init__(self, codec: AutoencoderTiny) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of `pixels` (images, 3, 64, 64)."""
        cells = self.codec.encode(pixels).latents
        back = self.codec.decode(cells + 0.05 * torch.randn_like(cells)).sample
        # Edges, where an image differs from its blur, get more weight: they define the shapes and cover little of an image.
        edges = (pixels - nn.functional.avg_pool2d(pixels, 5, 1, 2, count_include_pad=False)).abs().mean(1, keepdim=True)
        error = (back - pixels).abs().float() * (1 + 8 * edges)
        return {"loss": error.mean() + 3 * (back - pixels).square().mean() + 1e-3 * cells.square().mean()}


def train(config: MicroGeneratorConfig) -> Path:
    """Train one of the two parts, resuming from the last checkpoint in `config.out`; returns the folder of the result."""
    return train_codec(config) if config.part == "codec" else train_edits(config)


def train_codec(config: MicroGeneratorConfig) -> Path:
    """Train the codec; returns its folder. The mean and scale of its latents are measured at the end and stored in its config."""
    torch.manual_seed(config.seed)
    codec = pretrained.load_pipeline(AutoencoderTiny, str(config.start_from / "vae"), "the codec") if config.start_from else make_codec()
    is_main = run_trainer(
        CodecLoss(codec),
        lambda batches: CodecBatches(config.seed, batches),
        lambda items: items[0],
        LoopSettings(config.out, config.steps, config.seed, config.learning_rate, config.save_every),
    )
    if is_main:
        with torch.no_grad():
            cells = torch.cat([codec.encode(CodecBatches(config.seed + 1, 8)[index]["pixels"]).latents for index in range(8)])
        codec.register_to_config(shift_factor=round(cells.mean().item(), 4), scaling_factor=round(1 / cells.std().item(), 4))
        codec.save_pretrained(config.out / "model" / "vae")
    return config.out / "model"


# Edits


def make_text_encoder(vocabulary: int, width: int) -> CLIPTextModelWithProjection:
    """A CLIP text encoder with random weights. Stable Diffusion 3 uses two of them: the penultimate layer and the projection."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        max_position_embeddings=_TEXT_LENGTH,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=width // 32,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return CLIPTextModelWithProjection(config)


def make_text_tokenizer(count: int = 3000) -> PreTrainedTokenizerFast:
    """The embedded models' tokenizer (see `make_tokenizer` for `count`), with an end token after every text, at which CLIP's projection is taken."""
    end = "<|endoftext|>"
    raw = make_tokenizer(count=count).backend_tokenizer
    raw.post_processor = TemplateProcessing(single=f"$A {end}", special_tokens=[(end, raw.token_to_id(end))])
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, pad_token=end, model_max_length=_TEXT_LENGTH)


def make_transformer() -> SD3Transformer2DModel:
    """Stable Diffusion 3's transformer with random weights, in the embedded generator's size: 64 tokens per image."""
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


class EditBatches(Dataset[dict[str, torch.Tensor]]):
    """Batch `i` of images before and after an edit, with the edit's prompt. Deterministic."""

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
    """Flow-matching loss on the straight path from the noised source to the edited image, which the stock image-to-image pipeline integrates.

    Unlike in text-to-image training, what the prompt does not mention is kept. At strength S the pipeline starts from (1 - S) before + S noise; at
    level s <= S its state is (s / S) of that start and (1 - s / S) of the edited image.
    """

    def __init__(self, transformer: SD3Transformer2DModel, first: nn.Module, second: nn.Module, codec: AutoencoderTiny) -> None:
        super().__init__()
        self.transformer, self.first, self.second = transformer, first, second
        self.codec = codec.requires_grad_(False)

    def forward(self, before: torch.Tensor, after: torch.Tensor, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """The loss of images (edits, 3, 64, 64) and their prompts (edits, tokens)."""
        source, target = self._cells(before), self._cells(after)
        strength = torch.empty(len(source), 1, 1, 1, device=source.device).uniform_(*_STRENGTHS)
        # With one or two steps at inference, the first step matters most.
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
        """As in the pipeline: both encoders' embeddings concatenated, then one zero token in place of the third encoder."""
        both = [encoder(input_ids, output_hidden_states=True) for encoder in (self.first, self.second)]
        words = torch.cat([made.hidden_states[-2] for made in both], dim=-1)
        return nn.functional.pad(words, (0, 0, 0, 1)), torch.cat([made.text_embeds for made in both], dim=-1)


def train_edits(config: MicroGeneratorConfig) -> Path:
    """Train the transformer and its text encoders on top of a codec; returns the folder of the complete pipeline."""
    torch.manual_seed(config.seed)
    if config.start_from is None:
        raise ConfigError("the edits need a trained codec: pass its folder with --start-from")
    codec = pretrained.load_pipeline(AutoencoderTiny, str(config.start_from / "vae"), "the codec")
    if (config.start_from / "transformer").is_dir():
        parts: StableDiffusion3Img2ImgPipeline = pretrained.load_pipeline(
            StableDiffusion3Img2ImgPipeline, str(config.start_from), "the edits", text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
        )
        tokenizer, transformer, first, second = parts.tokenizer, parts.transformer, parts.text_encoder, parts.text_encoder_2
    else:
        tokenizer = make_text_tokenizer()
        transformer, first, second = make_transformer(), make_text_encoder(len(tokenizer), 96), make_text_encoder(len(tokenizer), 32)
    is_main = run_trainer(
        EditLoss(transformer, first, second, codec),
        lambda batches: EditBatches(config.seed, batches, tokenizer),
        lambda items: items[0],
        LoopSettings(config.out, config.steps, config.seed, config.learning_rate, config.save_every, warmup=100),
    )
    if is_main:
        save_pipeline(config.out / "model", tokenizer, transformer, first, second, codec)
    return config.out / "model"


def save_pipeline(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    transformer: SD3Transformer2DModel,
    first: CLIPTextModelWithProjection,
    second: CLIPTextModelWithProjection,
    codec: AutoencoderTiny,
) -> None:
    """Write the parts as one folder that the stock diffusers pipeline loads."""
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
