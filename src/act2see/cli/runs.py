"""The run that a command works on: begun or gone on with, and held against a second process that would ask everything again."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act2see.cli.output import complain
from act2see.core.errors import StoreError

if TYPE_CHECKING:
    from act2see.storage.runs import Run

NAMED = 3
"""So many questions are named on the terminal."""


@contextmanager
def working_on(
    folder: Path, about: Mapping[str, Any], *, resume: bool, shard: str | None = None, may_change: Collection[str] = ()
) -> "Iterator[Run]":
    """Begin a run or go on with one, and hold its folder meanwhile; see `Run.create`, `Run.resume` and `locks.at_work`. Raises `StoreError`.

    Of several shards the first to come begins it.
    """
    from act2see.storage.locks import at_work
    from act2see.storage.runs import Run

    begun = None if resume else _begun(folder, about, is_shared=shard is not None)
    if begun is None:
        Run.open(folder)  # nothing is written into a folder that holds no run
    with at_work(folder, shard):
        yield begun or Run.resume(folder, **about, may_change=may_change)


def _begun(folder: Path, about: Mapping[str, Any], *, is_shared: bool) -> "Run | None":
    from act2see.storage.runs import Run

    try:
        return Run.create(folder, **about)
    except StoreError:
        if not is_shared:
            raise
        return None  # another shard was here first


def videos_in(out: Path) -> Path:
    """Where a run's own videos are made. Raises `StoreError` where a link would lead out of the run."""
    from act2see.storage.atomic import check_writable_place, writing

    with writing(out):
        for name in ("videos", "videos/clips"):
            check_writable_place(out / name)
    return out / "videos"


def contents_of(run: "Run") -> dict[str, str]:
    """What the run's scores say that each question was about, by its id (`Score.content`); nothing where they cannot be read: they are made anew."""
    from act2see.evaluation.scores import read_score

    try:
        return {one.id: one.content for one in (read_score(row, where) for where, row in run.scores() or ())}
    except StoreError:
        return {}


def note_answers(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Say of which questions the right answer is another one than when the run was scored. `now` has those alone of which nothing else changed."""
    changed = [name for name, content in now.items() if before.get(name) and before[name] != content]
    if changed:
        named = ", ".join(repr(name) for name in changed[:NAMED]) + (f" and {len(changed) - NAMED} more" if len(changed) > NAMED else "")
        complain(
            f"note: the right answer of {len(changed)} questions has changed since they were scored: {named}; they are scored by what is right now"
        )


def note_damaged(damaged: "list[str]", what: str) -> None:
    """Say how many lines of a run cannot be read, and what that means for them."""
    if damaged:
        complain(f"note: {len(damaged)} of the traces cannot be read, {what}; the first: {damaged[0]}")
