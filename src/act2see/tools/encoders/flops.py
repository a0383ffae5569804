"""FLOPs of the frame encoders, by formulas over their configs: see `act2see.core.flops` for what counts.

Known are SigLIP and SigLIP 2, CLIP and MetaCLIP 2, and BLIP-2's image-text contrast.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from act2see.backends.flops import Settings, number, part
from act2see.core.flops import attention, product


@dataclass(frozen=True, slots=True)
class EncoderFlops:
    """FLOPs of one encoder."""

    frame: float
    """Of one frame."""
    text: Callable[[int], float]
    """Of a text with so many tokens."""

    @classmethod
    def of(cls, settings: Settings) -> "EncoderFlops | None":
        """From the model's config; None for an architecture without a formula."""
        make = _KNOWN.get(str(settings.get("model_type")))
        return None if make is None else make(settings)


def transformer(settings: Settings, tokens: float) -> float:
    """All layers of an encoder with full attention and a plain MLP."""
    hidden = number(settings, "hidden_size")
    weights = product(tokens, hidden, 4 * hidden) + 2 * product(tokens, hidden, number(settings, "intermediate_size"))
    return number(settings, "num_hidden_layers") * (weights + attention(tokens, tokens, hidden))


def _patches(settings: Settings) -> float:
    given = settings.get("num_patches")  # NaFlex: every frame is padded to so many
    return number(settings, "num_patches") if given is not None else (number(settings, "image_size") // number(settings, "patch_size")) ** 2


def _embedding(settings: Settings, patches: float) -> float:
    return product(patches, number(settings, "num_channels", 3) * number(settings, "patch_size") ** 2, number(settings, "hidden_size"))


def _siglip(settings: Settings) -> EncoderFlops:
    vision, text = part(settings, "vision_config"), part(settings, "text_config")
    hidden, patches = number(vision, "hidden_size"), _patches(vision)
    frame = _embedding(vision, patches) + transformer(vision, patches)
    if vision.get("vision_use_head", True):
        pooled = product(1, hidden, 2 * hidden) + product(patches, hidden, 2 * hidden) + attention(1, patches, hidden)
        frame += pooled + 2 * product(1, hidden, number(vision, "intermediate_size"))
    width = number(text, "hidden_size")
    head = product(1, width, number(text, "projection_size", width))
    return EncoderFlops(frame, lambda tokens: transformer(text, tokens) + head)


def _clip(settings: Settings) -> EncoderFlops:
    vision, text, shared = part(settings, "vision_config"), part(settings, "text_config"), number(settings, "projection_dim")
    patches = _patches(vision)
    frame = _embedding(vision, patches) + transformer(vision, patches + 1) + product(1, number(vision, "hidden_size"), shared)
    return EncoderFlops(frame, lambda tokens: transformer(text, tokens) + product(1, number(text, "hidden_size"), shared))


def _blip2(settings: Settings) -> EncoderFlops:
    vision, former = part(settings, "vision_config"), part(settings, "qformer_config")
    queries, shared = number(settings, "num_query_tokens"), number(settings, "image_text_hidden_size")
    hidden, layers = number(former, "hidden_size"), number(former, "num_hidden_layers")
    tokens = _patches(vision) + 1
    crossed = -(-layers // number(former, "cross_attention_frequency"))
    cross = (
        product(queries, hidden, 2 * hidden) + product(tokens, number(former, "encoder_hidden_size"), 2 * hidden) + attention(queries, tokens, hidden)
    )
    frame = _embedding(vision, tokens - 1) + transformer(vision, tokens) + transformer(former, queries) + crossed * cross
    return EncoderFlops(frame + product(queries, hidden, shared), lambda length: transformer(former, length) + product(1, hidden, shared))


_KNOWN: Mapping[str, Callable[[Settings], EncoderFlops]] = {
    "siglip": _siglip,
    "siglip2": _siglip,
    "clip": _clip,
    "metaclip_2": _clip,
    "blip-2": _blip2,
}
