"""KV caches of conversations: one that is extended piece by piece, and many side by side for decoding."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from act2see.backends.families import family_of
from act2see.backends.families.description import Family, Inputs, Model
from act2see.backends.pieces import Piece, borders, joined
from act2see.backends.states import CONVOLVED, RECURRENT, Borders, can_be_cut, can_lie_beside, set_states, states_of

_CHUNK = 256
"""The cache of a batch grows by so many tokens at once. Our choice."""
_ROW_BY_ROW = "act2see_row_by_row"


class CachedConversation:
    """A model with the KV cache of one conversation.

    `feed` extends or crops the cache to the given pieces and computes only what is missing. Rope positions are computed here and passed to the model,
    because its own would be wrong for a chunk of a prompt. A cache with layers that cannot be cropped (see `states`) returns to the border before
    the first change: the end of the pictures, of a prompt, or of one of the model's turns. An interrupt (Ctrl-C) may leave the layers at different
    lengths: the next `feed` then returns to what is known to be whole.
    """

    def __init__(self, model: Any, merge: int) -> None:
        self.model, self.merge, self.family = model, merge, family_of_model(model)
        self._takes_cache_as = name_of_cache(model)
        self.cache = DynamicCache(config=model.config)
        self._borders = None if can_be_cut(self.cache) else Borders()
        self._held: list[_Unit] = []
        self._is_whole = True  # False while the cache is changed

    @property
    def fits_slots(self) -> bool:
        """Whether its cache can lie beside others in `Slots`."""
        return can_lie_beside(self.cache)

    @property
    def next_position(self) -> int:
        """The rope position of the next token."""
        return self._held[-1].after if self._held else 0

    @property
    def _tokens(self) -> int:
        return self._held[-1].until if self._held else 0

    def copy(self, units: int) -> "CachedConversation":
        """Another conversation that begins with the first units (text tokens and whole pictures) of this one; see `begun_like`."""
        other = CachedConversation(self.model, self.merge)
        other._held = self._held[:units]
        if self._borders is not None:
            other.cache, other._borders = self._borders.copy(self.cache, units, self._tokens - other._tokens)
            return other
        for number, keys, values in _tensors(self.cache):
            other.cache.update(keys[:, :, : other._tokens], values[:, :, : other._tokens], number)
        return other

    def feed(self, pieces: Sequence[Piece]) -> tuple[torch.Tensor, int, int]:
        """Logits (vocabulary,) float32 after the last token, the number of tokens, and how many of them were reused from the cache."""
        wanted = list(self._units(pieces))
        if not self._is_whole:
            self._mend()
        self._is_whole = False
        same = self._reachable(min(_shared(self._held, wanted), len(wanted) - 1))  # the last unit is recomputed for its logits
        self._cut(same)
        reused = self._tokens
        ends = [len(wanted)]
        if self._borders is not None:
            self._keep_border()  # the end of the model's own turn
            ends = [end for end in borders([unit.piece for unit in wanted]) if end > same]
        for end in ends:
            logits = self._forward([unit.piece for unit in wanted[len(self._held) : end]])
            self._held = wanted[:end]
            self._keep_border()
        self._is_whole = True
        return logits, self._tokens, reused

    def append(self, token: int) -> torch.Tensor:
        """Logits (vocabulary,) after one more token."""
        self._is_whole = False
        logits = self._forward([Piece((token,), token)])
        self.hold(token)
        self._is_whole = True
        return logits

    def release(self) -> None:
        """Give the cache's memory back: it is held elsewhere."""
        self.cache = DynamicCache(config=self.model.config)

    def hold(self, token: int) -> None:
        """Note a token whose keys and values are in the cache."""
        self._held.append(_Unit(token, 1, self._tokens + 1, self.next_position + 1, Piece((token,), token)))

    def _reachable(self, units: int) -> int:
        return units if self._borders is None or units == len(self._held) else self._borders.before(units)

    def _keep_border(self) -> None:
        if self._borders is not None and self._held:
            self._borders.keep(self.cache, len(self._held))

    def _mend(self) -> None:
        """Crop every layer to the tokens of `_held`; begin anew where a layer has fewer, or cannot be cropped."""
        mended, layers = DynamicCache(config=self.model.config), list(_tensors(self.cache)) if self._borders is None else []
        if not layers or any(min(_length(keys), _length(values)) < self._tokens for _, keys, values in layers):
            self._held = []
            self._borders = None if self._borders is None else Borders()
        for number, keys, values in layers if self._held else ():
            mended.update(keys[:, :, : self._tokens], values[:, :, : self._tokens], number)
        self.cache = mended

    def _cut(self, units: int) -> None:
        if units < len(self._held):
            removed = sum(unit.tokens for unit in self._held[units:])
            if not units:
                self.cache = DynamicCache(config=self.model.config)
            elif self._borders is None:
                self.cache.crop(-removed)
            else:
                self._borders.restore(self.cache, units, removed)
            del self._held[units:]
            if self._borders is not None:
                self._borders.forget(units)

    def _forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        inputs = inputs_of(_joined_text(pieces), self.merge, self.model, self._tokens, self.next_position)
        with torch.inference_mode():
            out = self.model(**inputs, **{self._takes_cache_as: self.cache}, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = out.logits[0, -1].float()
        return logits

    def _units(self, pieces: Sequence[Piece]) -> Iterator["_Unit"]:
        until = at = 0
        for piece in pieces:
            if piece.is_picture:
                _, at = self.family.positions([piece], self.merge, at)
                until += len(piece.ids)
                yield _Unit(piece.same, len(piece.ids), until, at, piece)
                continue
            for token in piece.ids:
                at, until = at + 1, until + 1
                yield _Unit(token, 1, until, at, Piece((token,), token, piece.own))


@dataclass(frozen=True, slots=True)
class _Unit:
    """The smallest unit that the cache is cropped by: one text token, or a whole picture.

    `until` is the number of tokens up to its end, `after` the next rope position.
    """

    key: object
    tokens: int
    until: int
    after: int
    piece: Piece


def _shared(held: Iterable[_Unit], wanted: Iterable[_Unit]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0].key == pair[1].key, zip(held, wanted, strict=False)))


def begun_like(conversations: Iterable[CachedConversation], pieces: Sequence[Piece]) -> CachedConversation | None:
    """A new conversation with what one of these has in common with the pieces, the one with the most; None if none has anything."""
    best, most, wanted = None, 0, None
    for one in conversations:
        wanted = list(one._units(pieces)) if wanted is None else wanted  # the same for all of a model
        units = one._reachable(_shared(one._held, wanted))
        if units > most:
            best, most = one, units
    return best.copy(most) if best is not None else None


def _joined_text(pieces: Sequence[Piece]) -> list[Piece]:
    """The same tokens in fewer pieces: positions are computed piece by piece."""
    found: list[Piece] = []
    for is_picture, some in groupby(pieces, key=lambda piece: piece.is_picture):
        if is_picture:
            found += some
        else:
            ids = tuple(joined(list(some)))
            found.append(Piece(ids, ids))
    return found


def family_of_model(model: Model) -> Family:
    """The family of a loaded model. Raises `ValueError` for a model of none."""
    family = family_of(model.config.model_type)
    if family is None:
        raise ValueError(f"no family of models is described for {model.config.model_type}")
    return family


def inputs_of(pieces: Sequence[Piece], merge: int, model: Model, held: int = 0, start: int = 0) -> Inputs:
    """The arguments of a forward pass over pieces that follow `held` tokens, from rope position `start` on."""
    family = family_of_model(model)
    rope, _ = family.positions(pieces, merge, start)
    order = torch.arange(held, held + rope.shape[1])[None]
    return {
        "input_ids": torch.tensor([joined(pieces)], device=model.device),
        "position_ids": family.position_ids(order, torch.from_numpy(rope)[:, None]).to(model.device),
        **family.pixels(pieces, model),
        **family.attention(pieces, held, model),
    }


def name_of_cache(model: Any) -> str:
    """The argument in which a model takes its cache: `cache` since transformers 5.24, which warns of the older `past_key_values`."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


class Slots(Cache):
    """The keys and values of several conversations side by side, so that one forward pass decodes the next token of each.

    Each layer has tensors of shape (rows, heads, capacity, width), which grow by need, up to `most_rows`. Row `i` begins at the left and has
    `lengths[i]` tokens; what is right of them is hidden. A linear attention layer has states of shape (rows, …) instead, which are exchanged once a
    forward pass is over. The first `len(lengths)` rows are taken.
    """

    def __init__(self, model: Any, most_rows: int) -> None:
        super().__init__(layers=[])
        self._most_rows = most_rows
        self.lengths: list[int] = []
        self._model, self._family = model, family_of_model(model)
        self._takes_cache_as = name_of_cache(model)
        self._keys: dict[int, torch.Tensor] = {}  # by layer
        self._values: dict[int, torch.Tensor] = {}
        self._states: dict[tuple[int, str], torch.Tensor] = {}  # by layer and kind
        self._stepped_states: dict[tuple[int, str], torch.Tensor] = {}
        self._is_row_by_row = False
        if model.device.type == "cpu" and model.config.get_text_config()._attn_implementation in ("sdpa", _ROW_BY_ROW):  # the latter by another batch
            AttentionInterface.register(_ROW_BY_ROW, _attend_row_by_row)
            AttentionMaskInterface.register(_ROW_BY_ROW, sdpa_mask)
            model.set_attn_implementation({"text_config": _ROW_BY_ROW})
            self._is_row_by_row = True
        self._stepped = slice(0, 0)  # the rows of the current forward pass
        self._longest = 0
        self._index = self._place = torch.zeros(0, dtype=torch.long)  # of the tokens that are fed: row, and place in the row

    def join(self, cache: DynamicCache) -> None:
        """Copy the cache of one conversation into the next free row. On an error, the rows are as before."""
        row, length = len(self.lengths), cache.get_seq_length()
        for number, keys, values in _tensors(cache):
            for tensors, new in ((self._keys, keys), (self._values, values)):
                if number not in tensors:
                    tensors[number] = new.new_zeros((1, new.shape[1], _rounded(length + 1), new.shape[3]))
                if tensors[number].shape[0] <= row:  # twice as many: each time everything is copied
                    tensors[number] = _grown(tensors[number], max(row + 1, min(2 * row, self._most_rows)), length + 1)
                tensors[number] = _grown(tensors[number], row + 1, length + 1)
                tensors[number][row, :, :length] = new[0]
        for place, state in states_of(cache).items():
            held = self._states.get(place, state[:0])
            self._states[place] = torch.cat([held[:row], state])
        self.lengths.append(length)

    def leave(self, row: int) -> DynamicCache:
        """Free a row, and return its cache. The last row takes its place."""
        cache, length = DynamicCache(config=self._model.config), self.lengths[row]
        last = len(self.lengths) - 1
        for number, keys in self._keys.items():
            values = self._values[number]
            cache.update(keys[row : row + 1, :, :length], values[row : row + 1, :, :length], number)
            if row != last:
                for tensor in (keys, values):
                    tensor[row, :, : self.lengths[last]] = tensor[last, :, : self.lengths[last]]
        set_states(cache, {place: state[row : row + 1] for place, state in self._states.items()})
        for state in self._states.values():
            state[row] = state[last]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        return cache

    def keep(self, rows: int) -> None:
        """Drop all rows but the first ones, and give their memory back."""
        del self.lengths[rows:]
        longest = max(self.lengths, default=0) + 1
        for tensors in (self._keys, self._values):
            for number, tensor in tensors.items():
                tensors[number] = tensor[:rows, :, : _rounded(longest)].clone()
        self._states = {place: state[:rows].clone() for place, state in self._states.items()}

    @property
    def takes_drafts(self) -> bool:
        """Whether a row may be fed several tokens in one step: where rows are attended one by one, and no state would have to be taken back."""
        return self._is_row_by_row and not self._states

    def accept(self, row: int) -> None:
        """Count one more of the tokens that the last step fed a row."""
        self.lengths[row] += 1

    @torch.inference_mode()
    def step(self, fed: Sequence[Sequence[int]], next_positions: Sequence[int], first: int = 0) -> list[torch.Tensor]:
        """Feed each of the rows from `first` on its tokens, and return its logits (tokens, vocabulary) float32.

        Of a row's tokens, only the first one counts; see `accept`. More than one may be fed if `takes_drafts`. On an error, the rows are as before.
        """
        self._stepped = slice(first, first + len(fed))
        counts = [len(tokens) for tokens in fed]
        ends = [length + count for length, count in zip(self.lengths[self._stepped], counts, strict=True)]
        for tensors in (self._keys, self._values):
            for number, tensor in tensors.items():
                tensors[number] = _grown(tensor, len(self.lengths), max(ends))
        self._longest = max(ends)
        self._stepped_states = {}
        device = self._model.device
        offsets = [offset for count in counts for offset in range(count)]
        rows = [row for row, count in enumerate(counts) for _ in range(count)]
        self._index = torch.tensor([first + row for row in rows], device=device)
        self._place = torch.tensor([self.lengths[first + row] + offset for row, offset in zip(rows, offsets, strict=True)], device=device)
        rope = torch.tensor([next_positions[row] + offset for row, offset in zip(rows, offsets, strict=True)], device=device)
        tokens = torch.tensor([token for row in fed for token in row], device=device)
        # One after the other if they are attended row by row, as (1, tokens); else side by side, as (rows, 1).
        shape = (1, -1) if self.takes_drafts else (-1, 1)
        out = self._model(
            input_ids=tokens.view(shape),
            attention_mask=self._mask(),
            position_ids=self._family.position_ids(self._place.view(shape), rope.view(shape).expand(self._family.rows, -1, -1)),
            **{self._takes_cache_as: self},
            use_cache=True,
            **({"row_ends": [(count, end, _seen(count, end)) for count, end in zip(counts, ends, strict=True)]} if self._is_row_by_row else {}),
        )
        for place, state in self._stepped_states.items():
            self._states[place][self._stepped] = state
        for row in range(first, first + len(fed)):
            self.lengths[row] += 1
        return list(out.logits.flatten(0, 1).float().split(counts))

    def _mask(self) -> torch.Tensor | dict[str, torch.Tensor | None]:
        """What is right of a row's tokens is hidden. Nothing is, and nobody reads the mask, if they are attended row by row."""
        dtype, device = self._model.dtype, self._model.device
        if self._is_row_by_row:
            mask = torch.zeros((1, 1, 1, 1), dtype=dtype, device=device)
        else:
            hidden = torch.arange(self._longest, device=device) > self._place[:, None]
            mask = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, torch.finfo(dtype).min)[:, None, None]
        return {"full_attention": mask, "linear_attention": None} if self._states else mask

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: object, **kwargs: object) -> Any:
        """Called by the model's layers with (rows, heads, tokens, width): keys and values of the rows that are stepped, the new ones included."""
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._index, :, self._place] = key_states.transpose(1, 2).flatten(0, 1)
        values[self._index, :, self._place] = value_states.transpose(1, 2).flatten(0, 1)
        return keys[self._stepped, :, : self._longest], values[self._stepped, :, : self._longest]

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor:
        """Called by linear attention: the last inputs of the rows that are stepped, which it changes in place."""
        return self._stepped_states.setdefault((layer_idx, CONVOLVED), self._states[layer_idx, CONVOLVED][self._stepped].clone())

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor:
        """Called by linear attention: the state of the rows that are stepped."""
        return self._states[layer_idx, RECURRENT][self._stepped].clone()

    def update_recurrent_state(self, recurrent_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **kwargs: object) -> torch.Tensor:
        """Called by linear attention with the state after the token. It counts once the whole forward pass is done."""
        self._stepped_states[layer_idx, RECURRENT] = recurrent_states
        return recurrent_states

    def is_recording_past(self, layer_idx: int) -> bool:
        """Called by linear attention: nothing is recorded."""
        return False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the longest row."""
        return max(self.lengths, default=0)


def _attend_row_by_row(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    row_ends: Any = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention on a CPU: each row of a batch over its own tokens, as if it was decoded alone, not over the longest row's with a mask.

    There it is bound by memory, so that hidden tokens cost as much as others. `row_ends` has the number of each row's queries, which follow one
    another, and the number of its keys; without it, this is transformers' own attention.
    """
    if row_ends is None:
        attended, _ = sdpa_attention_forward(module, query, key, value, mask, **options)
        return attended, None
    grouped, scale = module.num_key_value_groups > 1, options.get("scaling")
    shape = query.shape
    queries = query.transpose(1, 2).flatten(0, 1).transpose(0, 1)  # (heads, tokens of all rows, width)
    rows, begin = [], 0
    for row, (count, end, seen) in enumerate(row_ends):
        asked, held = queries[None, :, begin : begin + count], (key[row, None, :, :end], value[row, None, :, :end])
        rows.append(scaled_dot_product_attention(asked, *held, attn_mask=seen, scale=scale, enable_gqa=grouped))
        begin += count
    return torch.cat(rows, dim=2)[0].transpose(0, 1).reshape(shape[0], shape[2], shape[1], -1), None


def _seen(queries: int, keys: int) -> torch.Tensor | None:
    """Which keys each of the last tokens sees, (queries, keys); None for one token, which sees all."""
    return None if queries == 1 else torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


def _tensors(cache: DynamicCache) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Number, keys and values of each layer that has them, (1, heads, tokens, width)."""
    layers: list[Any] = cache.layers
    return ((number, layer.keys, layer.values) for number, layer in enumerate(layers) if hasattr(layer, "keys"))


def _length(tensor: torch.Tensor | None) -> int:
    """Tokens in a layer's keys or values, which are None or empty before their first."""
    return 0 if tensor is None or tensor.dim() < 3 else tensor.shape[2]


def _rounded(tokens: int) -> int:
    return -(-tokens // _CHUNK) * _CHUNK


def _grown(tensor: torch.Tensor, rows: int, tokens: int) -> torch.Tensor:
    """The tensor with room for so many rows of so many tokens."""
    if tensor.shape[0] >= rows and tensor.shape[2] >= tokens:
        return tensor
    # Zeros, because what a mask hides must be finite.
    larger = tensor.new_zeros((max(rows, tensor.shape[0]), tensor.shape[1], max(_rounded(tokens), tensor.shape[2]), tensor.shape[3]))
    larger[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return larger
