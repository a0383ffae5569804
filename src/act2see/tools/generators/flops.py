"""FLOPs of Stable Diffusion 3 image-to-image, by formulas over the configs of its parts: see `act2see.core.flops` for what counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from act2see.backends.flops import Settings, number, numbers
from act2see.core.flops import attention, convolution, product
from act2see.tools.encoders.flops import transformer

_TIME_CHANNELS = 256  # of the sinusoids that embed a time step, fixed in diffusers
_GATED = "gated-"


class _Configured(Protocol):
    @property
    def config(self) -> object:
        """Its settings: a mapping in diffusers, an object with `to_dict` in transformers."""
        ...


class _WithDict(Protocol):
    def to_dict(self) -> dict[str, object]: ...


class _Lengths(Protocol):
    vae_scale_factor: int
    tokenizer_max_length: int


@dataclass(frozen=True, slots=True)
class StableDiffusion3:
    """FLOPs of one pipeline."""

    transformer: Settings
    vae: Settings
    is_tiny: bool
    """Whether the codec is the tiny one."""
    clips: Sequence[Settings]
    t5: Settings | None
    scale: int
    """Pixels a side of a latent."""
    clip_tokens: int

    @classmethod
    def of(cls, pipeline: object) -> "StableDiffusion3 | None":
        """From a loaded pipeline; None for any other than Stable Diffusion 3 with one of its two kinds of codec."""
        if type(pipeline).__name__ != "StableDiffusion3Img2ImgPipeline":
            return None
        lengths, parts = cast("_Lengths", pipeline), {name: getattr(pipeline, name, None) for name in _PARTS}
        settings = {name: _settings(part) for name, part in parts.items() if part is not None}
        codec = type(parts["vae"]).__name__
        if codec not in ("AutoencoderKL", "AutoencoderTiny"):
            return None
        clips = [settings[name] for name in ("text_encoder", "text_encoder_2") if name in settings]
        t5 = settings.get("text_encoder_3")
        return cls(
            settings["transformer"], settings["vae"], codec == "AutoencoderTiny", clips, t5, lengths.vae_scale_factor, lengths.tokenizer_max_length
        )

    def texts(self, count: int, t5_tokens: int) -> float:
        """Encoding so many prompts, the empty one of guidance included."""
        clips = sum(_clip_text(one, self.clip_tokens) for one in self.clips)
        return count * (clips + (0.0 if self.t5 is None else _t5(self.t5, t5_tokens)))

    def denoising(self, steps: int, size: tuple[int, int], t5_tokens: int, *, guided: bool) -> float:
        """So many steps at a size in pixels, (width, height)."""
        return steps * (2 if guided else 1) * self._step(size[0] // self.scale, size[1] // self.scale, self.clip_tokens + t5_tokens)

    def _step(self, width: int, height: int, text_tokens: int) -> float:
        of = self.transformer
        inner = number(of, "num_attention_heads") * number(of, "attention_head_dim")
        layers, side = int(number(of, "num_layers")), int(number(of, "patch_size"))
        tokens, channels = width * height // side**2, number(of, "in_channels")
        outer = channels * side**2 + number(of, "out_channels", channels) * side**2
        ends = product(tokens, outer, inner) + product(text_tokens, number(of, "joint_attention_dim"), number(of, "caption_projection_dim"))
        conditions = product(1, _TIME_CHANNELS + inner + number(of, "pooled_projection_dim") + inner + 2 * inner, inner)
        stream = 12 * product(1, inner, inner)  # queries, keys, values, output, and an MLP four times as wide
        joint = attention(tokens + text_tokens, tokens + text_tokens, inner)
        blocks = layers * (tokens * stream + joint + product(1, inner, 6 * inner)) + (layers - 1) * (
            text_tokens * stream + product(1, inner, 6 * inner)
        )
        last = text_tokens * product(1, inner, 3 * inner) + product(1, inner, 2 * inner)  # its texts are read, and go no further
        dual = len(numbers(of, "dual_attention_layers"))
        second = product(tokens, inner, 4 * inner) + attention(tokens, tokens, inner) + product(1, inner, 3 * inner)
        return ends + conditions + blocks + last + dual * second

    def encoding(self, size: tuple[int, int]) -> float:
        """The codec's encoder on a picture of this size."""
        return _tiny(self.vae, size, decodes=False) if self.is_tiny else _kl(self.vae, size, decodes=False)

    def decoding(self, size: tuple[int, int]) -> float:
        """The codec's decoder to a picture of this size."""
        return _tiny(self.vae, size, decodes=True) if self.is_tiny else _kl(self.vae, size, decodes=True)


_PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


def _settings(part: object) -> Settings:
    config = cast("_Configured", part).config
    return config if isinstance(config, Mapping) else cast("_WithDict", config).to_dict()


def _clip_text(settings: Settings, tokens: int) -> float:
    return transformer(settings, tokens) + product(1, number(settings, "hidden_size"), number(settings, "projection_dim"))


def _t5(settings: Settings, tokens: int) -> float:
    hidden, width = number(settings, "d_model"), number(settings, "d_kv") * number(settings, "num_heads")
    matrices = 3 if str(settings.get("feed_forward_proj", "")).startswith(_GATED) else 2
    weights = product(tokens, hidden, 4 * width) + matrices * product(tokens, hidden, number(settings, "d_ff"))
    return number(settings, "num_layers") * (weights + attention(tokens, tokens, width))


# Codecs


def _tiny(settings: Settings, size: tuple[int, int], *, decodes: bool) -> float:
    pixels = float(size[0] * size[1])
    channels = numbers(settings, "decoder_block_out_channels" if decodes else "encoder_block_out_channels")
    blocks = numbers(settings, "num_decoder_blocks" if decodes else "num_encoder_blocks")
    ends = (number(settings, "latent_channels"), number(settings, "out_channels" if decodes else "in_channels"))
    if decodes:
        at, found = pixels / 4 ** (len(channels) - 1), 0.0
        found += convolution(at, ends[0], channels[0], 3)
        for level, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            is_last = level == len(channels) - 1
            found += count * 3 * convolution(at, width, width, 3)
            at = at if is_last else 4 * at
            found += convolution(at, width, ends[1] if is_last else width, 3)
        return found
    found = 0.0
    for level, (width, count) in enumerate(zip(channels, blocks, strict=True)):
        at = pixels / 4**level
        found += convolution(at, width if level else ends[1], width, 3) + count * 3 * convolution(at, width, width, 3)
    return found + convolution(pixels / 4 ** (len(channels) - 1), channels[-1], ends[0], 3)


def _kl(settings: Settings, size: tuple[int, int], *, decodes: bool) -> float:
    channels, layers = numbers(settings, "block_out_channels"), int(number(settings, "layers_per_block"))
    latents, colours = number(settings, "latent_channels"), number(settings, "out_channels" if decodes else "in_channels")
    pixels, deepest, widest = float(size[0] * size[1]), len(channels) - 1, channels[-1]
    least = pixels / 4**deepest
    found = 2 * _resnet(least, widest, widest)
    if settings.get("mid_block_add_attention", True):
        found += product(least, widest, 4 * widest) + attention(least, least, widest)
    if decodes:
        found += convolution(least, latents, widest, 3) + convolution(pixels, channels[0], colours, 3)
        before = widest
        for level in range(deepest, -1, -1):
            at, width = pixels / 4**level, channels[level]
            found += _resnet(at, before, width) + layers * _resnet(at, width, width) + (convolution(4 * at, width, width, 3) if level else 0.0)
            before = width
        return found + (convolution(least, latents, latents, 1) if settings.get("use_post_quant_conv", True) else 0.0)
    found += convolution(pixels, colours, channels[0], 3) + convolution(least, widest, 2 * latents, 3)
    before = channels[0]
    for level, width in enumerate(channels):
        at = pixels / 4**level
        found += _resnet(at, before, width) + (layers - 1) * _resnet(at, width, width)
        found += convolution(at / 4, width, width, 3) if level < deepest else 0.0
        before = width
    return found + (convolution(least, 2 * latents, 2 * latents, 1) if settings.get("use_quant_conv", True) else 0.0)


def _resnet(pixels: float, channels: float, filters: float) -> float:
    shortcut = convolution(pixels, channels, filters, 1) if channels != filters else 0.0
    return convolution(pixels, channels, filters, 3) + convolution(pixels, filters, filters, 3) + shortcut
