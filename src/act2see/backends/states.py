"""Layers of a cache that cannot be cropped, and copies of them at the borders that a conversation may return to.

A linear attention layer folds all tokens into one state; a sliding window forgets the tokens before it. Neither can give back what it was some tokens
ago. Both are small: a state does not grow with the conversation.
"""

import copy
from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import torch
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, LinearAttentionCacheLayerMixin, LinearAttentionLayer

if TYPE_CHECKING:
    from transformers.cache_utils import DummyLayer

_Layer: TypeAlias = "CacheLayerMixin | LinearAttentionCacheLayerMixin | DummyLayer"
_EMPTY = "DummyLayer"
"""A layer that holds nothing. By name: transformers 5.19, which vLLM wants, has no such class."""


@runtime_checkable
class _LinearConfig(Protocol):
    layer_types: list[str]
    linear_conv_kernel_dim: int
    linear_key_head_dim: int
    linear_num_key_heads: int
    linear_num_value_heads: int
    linear_value_head_dim: int


CONVOLVED, RECURRENT = "convolved", "recurrent"
"""The two states of a linear attention layer: its last inputs, and what it has folded all tokens into."""
MOST_BORDERS = 4
"""Borders kept: the first one, which is after the initial frames, and the last ones. Our choice: one of Qwen3.5-9B takes about 50 MiB."""


def can_be_cut(cache: DynamicCache) -> bool:
    """Whether every layer holds the keys and values of each token, so that the cache can be cropped anywhere."""
    return not _uncut(cache)


def _uncut(cache: DynamicCache) -> list[int]:
    # A sliding window can be cropped as long as it is not full; that it may become full is enough to treat it as one that cannot.
    return [number for number, layer in enumerate(cache.layers) if type(layer) is not DynamicLayer and type(layer).__name__ != _EMPTY]


def can_lie_beside(cache: DynamicCache) -> bool:
    """Whether several such caches can be laid side by side: keys and values of all tokens, or states of a size of their own."""
    # transformers 5.19 keeps one state a layer, and its models reach for it past the cache's methods.
    linear = [layer for layer in cache.layers if type(layer) is LinearAttentionLayer and isinstance(layer.conv_states, dict)]
    return sum(type(layer) is DynamicLayer for layer in cache.layers) + len(linear) == len(cache.layers)


def states_of(cache: DynamicCache) -> dict[tuple[int, str], torch.Tensor]:
    """The states of the linear attention layers, each (1, …), by layer and kind."""
    found = {}
    for number, layer in enumerate(cache.layers):
        if isinstance(layer, LinearAttentionLayer):
            for kind, state in ((CONVOLVED, layer.conv_states[0]), (RECURRENT, layer.recurrent_states[0])):
                assert state is not None
                found[number, kind] = state
    return found


def bytes_of_states(config: object, itemsize: int) -> int:
    """Bytes that the linear attention layers of a conversation take, from the language model's config; 0 without such layers.

    `itemsize` is that of the weights; a recurrent state is float32 whatever they are.
    """
    if not isinstance(config, _LinearConfig):
        return 0
    keys, values = config.linear_num_key_heads * config.linear_key_head_dim, config.linear_num_value_heads * config.linear_value_head_dim
    layer = 4 * values * config.linear_key_head_dim + itemsize * (2 * keys + values) * config.linear_conv_kernel_dim
    return config.layer_types.count("linear_attention") * layer


def set_states(cache: DynamicCache, states: Mapping[tuple[int, str], torch.Tensor]) -> None:
    """Give a new cache such states."""
    for (number, kind), state in states.items():
        layer = cache.layers[number]
        assert isinstance(layer, LinearAttentionLayer)
        layer.update_conv_state(state) if kind == CONVOLVED else layer.update_recurrent_state(state)


class Borders:
    """Copies of a cache's layers that cannot be cropped, by the number of units after which they were made."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[int, _Layer]] = {}

    def before(self, units: int) -> int:
        """The last border up to so many units; 0, which needs no copy, if there is none."""
        places = sorted(self._kept)
        at = bisect_right(places, units)
        return places[at - 1] if at else 0

    def keep(self, cache: DynamicCache, units: int) -> None:
        """Make the cache's present state a border."""
        if units not in self._kept:
            self._kept[units] = {number: copy.deepcopy(cache.layers[number]) for number in _uncut(cache)}
            if len(self._kept) > MOST_BORDERS:
                del self._kept[sorted(self._kept)[1]]

    def restore(self, cache: DynamicCache, units: int, removed: int) -> None:
        """Bring the cache back to a border, `removed` tokens ago."""
        for number, layer in enumerate(cache.layers):
            if number in self._kept[units]:
                cache.layers[number] = copy.deepcopy(self._kept[units][number])
            elif type(layer) is DynamicLayer:
                layer.crop(-removed)

    def forget(self, units: int) -> None:
        """Drop the borders after so many units."""
        self._kept = {place: layers for place, layers in self._kept.items() if place <= units}

    def copy(self, cache: DynamicCache, units: int, removed: int) -> tuple[DynamicCache, "Borders"]:
        """A new cache that is as this one was at a border, `removed` tokens ago, with the borders up to there."""
        self.keep(cache, units)  # its end need not be a border yet
        other, borders = copy.copy(cache), Borders()
        other.layers = [copy.copy(layer) for layer in cache.layers]  # what is not restored is never changed in place
        borders._kept = dict(self._kept)
        borders.forget(units)
        borders.restore(other, units, removed)
        return other, borders
