"""FLOPs of a vision-language model's prefill, decoding and vision tower, by formulas over its config: see `act2see.core.flops` for what counts.

Known are Qwen3-VL and Qwen3.5 with their mixtures of experts, and Qwen2.5-VL.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product as pairs

from act2see.backends.pieces import Piece, borders
from act2see.core.flops import Flops, attention, product

Settings = Mapping[str, object]
"""A config as transformers' `to_dict` gives it."""
Grid = tuple[int, int, int]
"""Time, height and width in patches."""


def number(settings: Settings, name: str, default: float | None = None) -> float:
    """A number of a config. Raises `KeyError` if it has none, `TypeError` if it is something else."""
    value = settings.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise KeyError(name) if value is None else TypeError(f"{name} is {value!r}")
    return value


def numbers(settings: Settings, name: str) -> tuple[int, ...]:
    """A list of whole numbers of a config; empty if it has none."""
    value = settings.get(name)
    return tuple(one for one in value if isinstance(one, int)) if isinstance(value, list | tuple) else ()


def part(settings: Settings, name: str) -> Settings:
    """A config within a config."""
    value = settings[name]
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A decoder with grouped-query attention, in some layers a gated delta rule instead, and a gated MLP or a mixture of experts."""

    layers: float
    """Layers whose tokens attend to all that came before."""
    token: float
    """FLOPs of all layers' weights for one token."""
    width: float
    """Width of all attention heads together."""
    head: float
    """FLOPs of the language model's head for one token."""
    chunked: float = 0.0
    """FLOPs of linear attention for one token of a prefill, which goes chunk by chunk."""
    recurrent: float = 0.0
    """FLOPs of linear attention for one decoded token: what the state foretells of its value, the state's update, and reading it."""

    @classmethod
    def of(cls, settings: Settings) -> "LanguageModel":
        """From a text config."""
        hidden, heads = number(settings, "hidden_size"), number(settings, "num_attention_heads")
        width = heads * number(settings, "head_dim", hidden / heads)
        keys = number(settings, "num_key_value_heads", heads) * width / heads
        layers = int(number(settings, "num_hidden_layers"))
        linear = _linear_layers(settings)
        gate = width if linear else 0.0  # Qwen3.5 gates what its heads give, in the layers that attend
        weights = product(1, hidden, width) * 2 + product(1, hidden, keys) * 2 + product(1, hidden, gate)
        mixed = sum(_is_mixture(settings, layer) for layer in range(layers))
        plain = (layers - mixed) * 3 * product(1, hidden, number(settings, "intermediate_size")) if layers > mixed else 0.0
        rule = DeltaRule.of(settings) if linear else DeltaRule(0.0, 0.0, 0.0)
        token = (layers - linear) * weights + linear * rule.weights + mixed * _mixture(settings, hidden) + plain
        head = product(1, hidden, number(settings, "vocab_size"))
        return cls(layers - linear, token, width, head, linear * rule.chunked, linear * rule.recurrent)

    def forward(self, tokens: int, keys: int) -> float:
        """One pass over so many new tokens, of which the last attends to `keys` tokens; logits of the last one only."""
        return tokens * (self.token + self.chunked) + self.layers * attention(tokens, keys, self.width) + self.head

    def decode(self, tokens: int, held: int) -> float:
        """So many passes over one token each, the first of which follows `held` tokens."""
        keys = tokens * held + tokens * (tokens + 1) / 2
        return tokens * (self.token + self.recurrent + self.head) + self.layers * attention(1, keys, self.width)


_CHUNK = 64
"""Tokens that the gated delta rule folds into its state at once, in transformers and in its kernels."""


@dataclass(frozen=True, slots=True)
class DeltaRule:
    """One layer of linear attention by the gated delta rule; FLOPs of one token. Triangular systems do not count, as in torch."""

    weights: float
    chunked: float
    recurrent: float

    @classmethod
    def of(cls, settings: Settings) -> "DeltaRule":
        """From a text config."""
        hidden, heads = number(settings, "hidden_size"), number(settings, "linear_num_value_heads")
        key, value = number(settings, "linear_key_head_dim"), number(settings, "linear_value_head_dim")
        keys, values = number(settings, "linear_num_key_heads") * key, heads * value
        convolved = 2 * keys + values
        weights = product(1, hidden, convolved + values + 2 * heads) + product(1, values, hidden)
        weights += product(1, number(settings, "linear_conv_kernel_dim"), convolved)  # each channel alone
        states = 3 * product(1, key, value)
        return cls(weights, heads * (states + product(1, _CHUNK, 2 * key + value)), heads * states)


def _linear_layers(settings: Settings) -> int:
    kinds = settings.get("layer_types")
    return sum(kind == "linear_attention" for kind in kinds) if isinstance(kinds, list | tuple) else 0


def _is_mixture(settings: Settings, layer: int) -> bool:
    if not number(settings, "num_experts", 0) or layer in numbers(settings, "mlp_only_layers"):
        return False
    return (layer + 1) % int(number(settings, "decoder_sparse_step", 1)) == 0


def _mixture(settings: Settings, hidden: float) -> float:
    if not number(settings, "num_experts", 0):
        return 0.0
    chosen, width = number(settings, "num_experts_per_tok"), number(settings, "moe_intermediate_size")
    shared = number(settings, "shared_expert_intermediate_size", 0)
    gates = number(settings, "num_experts") + (1 if shared else 0)
    return product(1, hidden, gates) + chosen * 3 * product(1, hidden, width) + 3 * product(1, hidden, shared)


@dataclass(frozen=True, slots=True)
class VisionTower:
    """A vision transformer over patches, whose tokens are merged."""

    patch: float
    """FLOPs of all weights for one patch."""
    merged: float
    """FLOPs of the mergers for one token that the language model reads."""
    merge: int
    """Side of the square of patches that becomes one token."""
    width: float
    full_layers: int
    """Layers in which a patch attends to its whole frame."""
    window_layers: int = 0
    window: int = 0
    """Side of the other layers' windows, in patches."""

    def picture(self, grid: Grid) -> float:
        """One picture, or one video of `time` temporal patches."""
        time, height, width = grid
        patches = time * height * width
        full = time * attention(height * width, height * width, self.width)
        windows = 0.0
        if self.window_layers:
            for rows, columns in pairs(_cut(height, self.window), _cut(width, self.window)):
                windows += time * attention(rows * columns, rows * columns, self.width)
        return patches * self.patch + patches / self.merge**2 * self.merged + self.full_layers * full + self.window_layers * windows


def _cut(length: int, most: int) -> list[int]:
    return [min(most, length - start) for start in range(0, length, most)]


def _qwen3_vision(settings: Settings) -> VisionTower:
    hidden, depth, merge = number(settings, "hidden_size"), int(number(settings, "depth")), int(number(settings, "spatial_merge_size"))
    block = product(1, hidden, 4 * hidden) + 2 * product(1, hidden, number(settings, "intermediate_size"))
    mergers = 1 + len(numbers(settings, "deepstack_visual_indexes"))
    wide = hidden * merge**2
    merged = mergers * (product(1, wide, wide) + product(1, wide, number(settings, "out_hidden_size")))
    return VisionTower(_embedding(settings, hidden) + depth * block, merged, merge, hidden, depth)


def _qwen2_5_vision(settings: Settings) -> VisionTower:
    hidden, depth, merge = number(settings, "hidden_size"), int(number(settings, "depth")), int(number(settings, "spatial_merge_size"))
    block = product(1, hidden, 4 * hidden) + 3 * product(1, hidden, number(settings, "intermediate_size"))
    full = len(numbers(settings, "fullatt_block_indexes"))
    wide = hidden * merge**2
    merged = product(1, wide, wide) + product(1, wide, number(settings, "out_hidden_size"))
    window = int(number(settings, "window_size")) // int(number(settings, "patch_size")) // merge * merge
    return VisionTower(_embedding(settings, hidden) + depth * block, merged, merge, hidden, full, depth - full, window)


def _embedding(settings: Settings, hidden: float) -> float:
    """The convolution that embeds one patch."""
    channels = number(settings, "in_channels", number(settings, "in_chans", 3))
    return product(1, channels * number(settings, "temporal_patch_size") * number(settings, "patch_size") ** 2, hidden)


_VISION: Mapping[str, Callable[[Settings], VisionTower]] = {
    "qwen3_vl": _qwen3_vision,
    "qwen3_vl_moe": _qwen3_vision,
    "qwen2_5_vl": _qwen2_5_vision,
    "qwen3_5": _qwen3_vision,
    "qwen3_5_moe": _qwen3_vision,
}


@dataclass(frozen=True, slots=True)
class VisionLanguageModel:
    """FLOPs of one vision-language model."""

    language: LanguageModel
    vision: VisionTower

    @classmethod
    def of(cls, settings: Settings) -> "VisionLanguageModel | None":
        """From the model's config; None for an architecture without a formula."""
        tower = _VISION.get(str(settings.get("model_type")))
        if tower is None:
            return None
        return cls(LanguageModel.of(part(settings, "text_config")), tower(part(settings, "vision_config")))

    def continuation(self, pieces: Sequence[Piece], tokens_in: int, reused: int, tokens_out: int) -> Flops:
        """One continuation of a prompt of `tokens_in` tokens, of which a cache held the first `reused`.

        The last token that is decoded is not fed back, so it costs no pass.
        """
        # States of linear attention are kept at borders, so that a prefill ends there and goes on: fewer keys are read.
        ends = set(borders(pieces)[:-1]) if self.language.recurrent else set()
        at, held, seen, prefill = 0, reused, 0.0, 0.0
        for place, piece in enumerate(pieces, start=1):
            at += len(piece.ids)
            if piece.grid is not None and at > reused:
                seen += self.vision.picture(piece.grid)
            if place in ends and at > held:
                prefill += self.language.forward(at - held, at)
                held = at
        prefill += self.language.forward(tokens_in - held, tokens_in)
        return {"vision": seen, "prefill": prefill, "decode": self.language.decode(max(0, tokens_out - 1), tokens_in)}


UNKNOWN: Mapping[str, None] = {"vision": None, "prefill": None, "decode": None}
"""For a model without a formula."""


def continuation_flops(model: VisionLanguageModel | None, pieces: Sequence[Piece], tokens_in: int, reused: int, tokens_out: int) -> Flops:
    """See `VisionLanguageModel.continuation`; nothing but unknown parts without a model."""
    return dict(UNKNOWN) if model is None else model.continuation(pieces, tokens_in, reused, tokens_out)
