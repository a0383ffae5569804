"""What a command says: the answer or the scores on stdout, one-line complaints on stderr.

Loaded for every command, so it loads nothing heavy itself.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from act2see.config import AskConfig

if TYPE_CHECKING:
    from act2see.index import Progress
    from act2see.trace import Trace

T = TypeVar("T")


def tell_answer(trace: "Trace", settings: AskConfig) -> bool:
    """Print the answer, and nothing else, on stdout; whether there was one. With choices, only one of them is an answer."""
    from act2see.chat import chosen, letters

    index = chosen(trace.answer, trace.choices) if trace.choices else None
    answered = trace.answer is not None and (index is not None or not trace.choices)
    if settings.json:
        print(json.dumps(_summary(trace, index, settings)))
    elif answered and index is not None:
        print(f"{letters(len(trace.choices))[index]}. {plain(trace.choices[index])}")
    elif answered:
        print(plain(trace.answer or ""))
    if not answered and trace.answer is not None:  # of a trace without any answer, the terminal's printer has said why
        complain(f"no answer: {trace.answer!r} is none of the choices")
    return answered


def _summary(trace: "Trace", index: int | None, settings: AskConfig) -> dict[str, Any]:
    return {
        "answer": trace.answer,
        "choice": index,
        "finish": trace.finish,
        "looks": looks_of(trace),
        "cost": asdict(trace.cost),
        "made_with": trace.made_with,
        "report": str(settings.report) if settings.report else None,
        "save": str(settings.save) if settings.save else None,
    }


def looks_of(trace: "Trace") -> list[dict[str, Any]]:
    """Every call and what it brought: a frame's time (null for an imagined one) and score, or an error; for an imagined one also its provenance."""
    from act2see.records import encode_provenance
    from act2see.trace import Generate, Observation, Retrieve

    looks: list[dict[str, Any]] = []
    for call, brought in zip(trace.steps, trace.steps[1:], strict=False):
        if not isinstance(call, Retrieve | Generate) or not isinstance(brought, Observation):
            continue
        kind, query = ("retrieve", call.query) if isinstance(call, Retrieve) else ("generate", call.prompt)
        look: dict[str, Any] = {"kind": kind, "query": query.strip()}
        if brought.error is not None:
            looks.append({**look, "imagined": False, "seconds": None, "score": None, "error": brought.error})
        for frame in brought.frames:
            made = {} if frame.provenance is None else encode_provenance(frame.provenance)
            looks.append({**look, "imagined": frame.seconds is None, "seconds": frame.seconds, "score": frame.score, **made})
    return looks


def tell_scores(summary: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an evaluation's summary: for a reader, or as one line of JSON."""
    if as_json:
        print(json.dumps(summary))
        return
    print(f"{summary['n']} questions of {summary['benchmark']}: " + ", ".join(f"{count} {name}" for name, count in summary["outcomes"].items()))
    errors = [f"{count} {name}" for name, count in summary["outcomes"].items() if name.endswith("_error")]
    failed = f"; {' and '.join(errors)} among them count as not right" if errors else ""
    for name, accuracy in summary["accuracy"].items():
        if accuracy is None:
            continue
        count, between = summary["n_by_kind"].get(name, summary["n"]), summary["accuracy_95"][name]
        if name == "all":
            count = summary["n"]
        interval = "95 %: unknown, for one video" if between is None else f"95 %: {between[0]:.1%} to {between[1]:.1%}"
        told = failed if name == "all" else ""
        print(f"{name}: {accuracy:.1%} right of {count} ({interval}{told}), {summary['call_rate'][name]:.1%} looked again")
    if guesses := summary.get("baselines"):
        print(f"guessing, of {guesses['n']}: " + ", ".join(f"{name} {share:.1%}" for name, share in guesses["ours"].items()))
    if cost := summary.get("cost", {}).get("tokens_in"):
        out, frames = summary["cost"]["tokens_out"], summary["cost"]["frames"]
        print(f"an answer: {cost['mean']:.0f} tokens in, {out['mean']:.0f} out (p99 {out['p99']:g}), {frames['mean']:.1f} frames")


def progressing(items: Iterable[T], description: str, count: int | None) -> Iterator[T]:
    """The same items, with a progress bar with rate and time left on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*shown, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=count, rate="")
        for item in items:
            yield item
            speed = progress.tasks[0].speed
            progress.update(task, advance=1, rate=f"{speed:.2f}/s" if speed else "")


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say on a terminal what is being waited for; gone again when it is done."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(plain(what))):
        yield


@contextmanager
def index_progress(name: str, *, always: bool = False) -> "Iterator[Callable[[Progress], None]]":
    """What shows how far an index has come, with rate and time left, on stderr; gone again when it is made.

    Nothing is shown where stderr is no terminal; with `always`, the end is. An index that is there already shows nothing.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.fields[said]}", markup=False),
    )
    shown = rich_progress.Progress(*columns, console=console, transient=console.is_terminal, disable=not (console.is_terminal or always))
    task = shown.add_task(plain(f"indexing {name}"), total=None, start=True, visible=True, said="")

    def show(now: "Progress") -> None:
        said = f"{now.done} frames" if now.total is None else f"{now.done}/{now.total} frames"
        said += "" if now.frames_per_second is None else f", {now.frames_per_second:.1f}/s"
        said += "" if now.seconds_left is None else f", {_clock(now.seconds_left)} left"
        shown.update(task, completed=now.done, total=now.total, said=said)
        shown.start()
        if now.done == now.total:
            shown.stop()

    try:
        yield show
    finally:
        if shown.live.is_started:  # stopping what never began would print an empty line
            shown.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def plain(text: str) -> str:
    """A model's words without control characters: they must not steer the reader's terminal."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def complain(message: str) -> None:
    """Say something on stderr, in one line."""
    print(f"act2see: {plain(' '.join(message.split()))}", file=sys.stderr)
