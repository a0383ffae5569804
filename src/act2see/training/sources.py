"""Runs of traces as training data: what is in them, what is left out and why, and in which order it is trained on."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from act2see.backends.qwen_tokens import Encoder
from act2see.core import chat
from act2see.core.errors import ConfigError, StoreError
from act2see.core.trace import Trace
from act2see.storage.runs import Place, Run
from act2see.training.examples import Example, Fit, counts, pack, pieces_of
from act2see.training.recipe import Recipe

_STEPS_A_BLOCK = 50
"""Traces are sorted by length among those of so many steps: batches need little padding, and the order stays random."""
_SMALLEST_SCALE = 0.25


@dataclass(frozen=True, slots=True)
class Item:
    """One trace that is trained on: where it is, and what it costs."""

    run: Run
    place: Place
    id: str
    fit: Fit
    tokens: int
    labelled: int
    patches: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What the runs hold. `skipped` names the traces that are left out, by reason; `digest` tells other data apart."""

    items: tuple[Item, ...]
    skipped: dict[str, list[str]] = field(default_factory=dict)
    digest: str = ""

    def notes(self) -> list[str]:
        """A line for each reason to leave traces out."""
        total = len(self.items) + sum(len(names) for names in self.skipped.values())
        return [f"{len(names)} of {total} traces skipped, {reason}; the first: {names[0]}" for reason, names in self.skipped.items()]


def survey(runs: Sequence[Path], recipe: Recipe, encoder: Encoder, style: chat.Style) -> Survey:
    """Read every trace once, with blank pictures, and count its tokens.

    Left out and named: a line or a picture that cannot be read, a trace without an answer, one that is longer than `max_tokens` and cannot be made
    to fit. Raises `StoreError` for a folder that holds no run, and `ConfigError` when nothing is left to train on.
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
            counted = _fitted(trace, recipe, encoder, style)
            if isinstance(counted, int):
                longer = f"longer than max_tokens {recipe.max_tokens}"
                skipped.setdefault(longer, []).append(f"{where} ({trace.id}) with {counted} tokens")
                continue
            fit, tokens, labelled, patches = counted
            items.append(Item(run, place, trace.id, fit, tokens, labelled, patches))
    found = Survey(tuple(items), skipped, digest.hexdigest())
    if not items:
        raise ConfigError("; ".join(["there is nothing to train on", *(found.notes() or ["the runs hold no trace"])]))
    return found


def _fitted(trace: Trace, recipe: Recipe, encoder: Encoder, style: chat.Style) -> tuple[Fit, int, int, int] | int:
    """How the trace is made to fit, with its counts; its tokens if it cannot be."""
    fit, tools, written = Fit(), chat.tools_of(trace), chat.opened(trace, style.opening)
    tokens, labelled, patches = counts(written, tools, style, encoder)
    whole = tokens
    while tokens > recipe.max_tokens:
        if recipe.too_long == "fewer_frames" and len(trace.frames) > fit.every:
            fit = Fit(every=fit.every * 2)
        elif recipe.too_long == "lower_resolution" and fit.scale > _SMALLEST_SCALE:
            fit = Fit(scale=round(max(_SMALLEST_SCALE, fit.scale * 0.8), 3))
        else:
            return whole
        tokens, labelled, patches = counts(fit.apply(written), tools, style, encoder)
    return fit, tokens, labelled, patches


def order(lengths: Sequence[int], *, epochs: int, per_step: int, seed: int) -> list[int]:
    """The indices of all epochs' traces, in the order in which they are trained on; the same however `per_step` is spread over processes.

    Random, but traces of one step are of like length: less padding in a batch, less waiting of one process for another.
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
    """Item `i` of the whole training, read and encoded when it is asked for, and the same every time: a resumed run sees what it would have seen."""

    def __init__(self, items: Sequence[Item], indices: Sequence[int], encoder: Encoder, style: chat.Style) -> None:
        self.items, self.indices, self.encoder, self.style = items, indices, encoder, style

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        item = self.items[self.indices[index]]
        return example(item.run.trace_at(item.place), item.fit, self.encoder, self.style)


def example(trace: Trace, fit: Fit, encoder: Encoder, style: chat.Style) -> Example:
    """One finished trace, as it is trained on."""
    written = fit.apply(chat.opened(trace, style.opening))
    return pack([pieces_of(written, chat.tools_of(trace), style, encoder)], encoder.merge)


def total(items: Iterable[Item], name: str) -> int:
    """The sum of one of the counts."""
    return sum(int(getattr(item, name)) for item in items)


def limit_pixels(encoder: Encoder, max_pixels: int) -> None:
    """Let the encoder see no image with more pixels than this; 0 leaves it as it is."""
    size = dict(encoder.image_processor.size)
    if 0 < max_pixels < size["longest_edge"]:
        encoder.image_processor.size = {"shortest_edge": min(size["shortest_edge"], max_pixels), "longest_edge": max_pixels}
