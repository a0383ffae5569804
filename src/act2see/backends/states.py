"""Layers of a cache that cannot be cropped, and copies of them at the borders that a conversation may return to.

A linear attention layer folds all tokens into one state; a sliding window forgets the tokens before it. Neither can give back what it was some tokens
ago. Both are small: a state does not grow with the conversation.
"""

import copy
from bisect import bisect_right
from typing import TYPE_CHECKING, TypeAlias

from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, LinearAttentionCacheLayerMixin

if TYPE_CHECKING:
    from transformers.cache_utils import DummyLayer

_Layer: TypeAlias = "CacheLayerMixin | LinearAttentionCacheLayerMixin | DummyLayer"
_EMPTY = "DummyLayer"
"""A layer that holds nothing. By name: transformers 5.19, which vLLM wants, has no such class."""
_MOST = 8
"""Borders kept; the first one and the last ones. Our choice: a border of Qwen3.5-9B takes about 50 MiB."""


def can_be_cut(cache: DynamicCache) -> bool:
    """Whether every layer holds the keys and values of each token, so that the cache can be cropped anywhere."""
    return not _uncut(cache)


def _uncut(cache: DynamicCache) -> list[int]:
    # A sliding window can be cropped as long as it is not full; that it may become full is enough to treat it as one that cannot.
    return [number for number, layer in enumerate(cache.layers) if type(layer) is not DynamicLayer and type(layer).__name__ != _EMPTY]


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
            if len(self._kept) > _MOST:
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
