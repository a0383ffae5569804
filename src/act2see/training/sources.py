"""Runs as training data: which traces are used, which are skipped and why, and in which order they are trained on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from act2see.backends.encoder import Encoder
from act2see.core import chat
from act2see.core.errors import ConfigError, StoreError
from act2see.core.trace import Trace
from act2see.storage.runs import Place, Run
from act2see.training.examples import Example, Shrink, counts, pack, pieces_of
from act2see.training.recipe import Recipe

_STEPS_A_BLOCK = 50
"""Traces are sorted by length within blocks of this many steps: little padding, and still a random order."""
_SMALLEST_SCALE = 0.25


@dataclass(frozen=True, slots=True)
class Item:
    """One training trace: its place in a run and its size."""

    run: Run
    place: Place
    id: str
    shrink: Shrink
    tokens: int
    labelled: int
    patches: int


@dataclass(frozen=True, slots=True)
class Survey:
    """The training data of all runs. `skipped` lists the skipped traces by reason; `digest` identifies the data."""

    items: tuple[Item, ...]
    skipped: dict[str, list[str]] = field(default_factory=dict)
    digest: str = ""

    def notes(self) -> list[str]:
        """One line per reason for skipping traces."""
        total = len(self.items) + sum(len(names) for names in self.skipped.values())
        return [f"{len(names)} of {total} traces skipped, {reason}; the first: {names[0]}" for reason, names in self.skipped.items()]


def survey(runs: Sequence[Path], recipe: Recipe, encoder: Encoder, style: chat.Style) -> Survey:
    """Read every trace once, with blank pictures, and count its tokens.

    Skips traces that cannot be read, have no answer, or are longer than `max_tokens` and cannot be shortened. Raises `StoreError` for a folder that
    holds no run, and `ConfigError` if no trace is left.
    """
    items: list[Item] = []
    skipped: dict[str, list[str]] = {}
    digest = hashlib.sha256()
    for folder in runs:
        run = Run.open(folder)
        digest.update(run.digest_of_traces().encode())
        for place in run.places():
            where = f"{folder}:{place.line}"
            try:
                trace = run.trace_at(place, blank=True)
            except StoreError as error:
                skipped.setdefault("cannot be read", []).append(str(error))
                continue
            if trace.answer is None:
                skipped.setdefault("without an answer", []).append(f"{where} ({trace.id})")
                continue
            counted = _shortened(trace, recipe, encoder, style)
            if isinstance(counted, int):
                longer = f"longer than max_tokens {recipe.max_tokens}"
                skipped.setdefault(longer, []).append(f"{where} ({trace.id}) with {counted} tokens")
                continue
            shrink, tokens, labelled, patches = counted
            items.append(Item(run, place, trace.id, shrink, tokens, labelled, patches))
    found = Survey(tuple(items), skipped, digest.hexdigest())
    if not items:
        raise ConfigError("; ".join(["no traces to train on", *(found.notes() or ["the runs are empty"])]))
    return found


def _shortened(trace: Trace, recipe: Recipe, encoder: Encoder, style: chat.Style) -> tuple[Shrink, int, int, int] | int:
    """How the trace is shortened, with its counts; or its number of tokens if it cannot be shortened enough."""
    shrink, tools, written = Shrink(), chat.tools_of(trace), chat.opened(trace, style.opening)
    tokens, labelled, patches = counts(written, tools, style, encoder)
    whole = tokens
    while tokens > recipe.max_tokens:
        if recipe.too_long == "fewer_frames" and len(trace.frames) > shrink.every:
            shrink = Shrink(every=shrink.every * 2)
        elif recipe.too_long == "lower_resolution" and shrink.scale > _SMALLEST_SCALE:
            shrink = Shrink(scale=round(max(_SMALLEST_SCALE, shrink.scale * 0.8), 3))
        else:
            return whole
        tokens, labelled, patches = counts(shrink.apply(written), tools, style, encoder)
    return shrink, tokens, labelled, patches


def order(lengths: Sequence[int], *, epochs: int, per_step: int, seed: int) -> list[int]:
    """Trace indices of all epochs in training order, independent of how `per_step` is divided among processes.

    Random, but the traces of one step have similar lengths: less padding, and less waiting between processes.
    """
    found: list[int] = []
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        shuffled = rng.permutation(len(lengths))
        steps: list[list[int]] = []
        block = per_step * _STEPS_A_BLOCK
        for start in range(0, len(shuffled), block):
            by_length = sorted(shuffled[start : start + block].tolist(), key=lambda index: lengths[index])
            steps += [by_length[at : at + per_step] for at in range(0, len(by_length), per_step)]
        whole = [step for step in steps if len(step) == per_step]
        for number in rng.permutation(len(whole)):
            found += whole[number]
        found += [index for step in steps if len(step) < per_step for index in step]
    return found


class Examples(Dataset[Example]):
    """Item `i` of the whole training, read and encoded on access. Deterministic, so that a resumed run sees the same data."""

    def __init__(self, items: Sequence[Item], indices: Sequence[int], encoder: Encoder, style: chat.Style) -> None:
        self.items, self.indices, self.encoder, self.style = items, indices, encoder, style

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        item = self.items[self.indices[index]]
        return example(item.run.trace_at(item.place), item.shrink, self.encoder, self.style)


def example(trace: Trace, shrink: Shrink, encoder: Encoder, style: chat.Style) -> Example:
    """The training example of one finished trace."""
    written = shrink.apply(chat.opened(trace, style.opening))
    return pack([pieces_of(written, chat.tools_of(trace), style, encoder)], encoder.merge)


def limit_pixels(encoder: Encoder, max_pixels: int) -> None:
    """Limit the pixels per image that the encoder passes on; 0 keeps the processor's own limit."""
    size = dict(encoder.image_processor.size)
    if 0 < max_pixels < size["longest_edge"]:
        encoder.image_processor.size = {"shortest_edge": min(size["shortest_edge"], max_pixels), "longest_edge": max_pixels}
