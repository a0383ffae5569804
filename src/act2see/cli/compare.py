"""`act2see compare`: two runs of `eval` over the same benchmark, question by question."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import complain, say, say_json
from act2see.config.models import Seed
from act2see.core.errors import ConfigError, StoreError
from act2see.core.plaintext import one_line

if TYPE_CHECKING:
    from act2see.evaluation.scores import Score
    from act2see.storage.runs import Run

NAMED = 10
"""So many ids are named to a reader; the JSON names all."""


def compare(
    first: Annotated[Path, Parameter(help="A run's folder, as eval --out wrote it.")],
    second: Annotated[Path, Parameter(help="Another's: what is told is what it gained and lost against the first.")],
    /,
    *,
    seed: Annotated[Seed, Parameter(help="Of the bootstrap.")] = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print one line of JSON, which names every question.")] = False,
) -> int:
    """Compare two runs over the same benchmark by their questions: gained, lost, the difference with its 95 % interval, and McNemar's exact test.

    Questions that only one run has are named and not counted. Where the runs were made differently is named, too.
    """
    from act2see.evaluation.compare import compare_scores
    from act2see.storage.run_metadata import differences, flat

    sides = [_side(Path(os.path.expanduser(folder))) for folder in (first, second)]
    benchmarks = [side.benchmark for side in sides]
    if benchmarks[0] != benchmarks[1]:
        raise ConfigError(f"{first} is a run of {benchmarks[0]!r} and {second} one of {benchmarks[1]!r}: compare runs of the same benchmark")
    found = compare_scores(sides[0].scores, sides[1].scores, seed)
    if not found["n"]:
        raise ConfigError(f"{first} and {second} have no question in common: compare runs over the same questions")
    made = [flat(side.made_by(is_short=not all(side.fingerprint for side in sides))) for side in sides]
    told = {
        "benchmark": benchmarks[0],
        "first_run": str(first),
        "second_run": str(second),
        "made_differently": differences(made[0], made[1]),
        **found,
    }
    if as_json:
        say_json(told)
    else:
        _tell(told)
    return ANSWERED


@dataclass(frozen=True, slots=True)
class _Side:
    run: "Run"
    scores: "Sequence[Score]"
    fingerprint: dict[str, Any] | None

    @property
    def benchmark(self) -> str:
        """Its name. Raises `StoreError`."""
        from act2see.storage.atomic import placed
        from act2see.storage.codec import read_text

        with placed(str(self.run.folder / "run.json")):
            return read_text(self.run.config.get("benchmark"), "config.benchmark")

    def made_by(self, *, is_short: bool) -> dict[str, Any]:
        """The fingerprint; `is_short`: what run.json knows of it, for runs of which not both have one."""
        from act2see.evaluation.fingerprint import HOW_NOT_WHAT

        if self.fingerprint is not None and not is_short:
            return {name: value for name, value in self.fingerprint.items() if name != "digest"}
        settings = {name: value for name, value in self.run.config.items() if name not in HOW_NOT_WHAT}
        return {"settings": {**settings, "seed": self.run.seed}, "versions": dict(self.run.versions)}


def _side(folder: Path) -> _Side:
    from act2see.evaluation.scores import read_score
    from act2see.storage.runs import Run

    run = Run.open(folder)
    if run.command != "eval":
        raise ConfigError(f"{folder} is a run of {run.command!r}: only runs of act2see eval are compared")
    rows = run.scores()
    if not rows:
        raise ConfigError(f"{folder} has no scores yet: let it end with act2see eval --resume, or count what is there with act2see score")
    summary = run.summary()
    fingerprint = summary.get("fingerprint") if isinstance(summary, dict) else None
    try:
        scores = [read_score(row, where) for where, row in rows]
    except StoreError as error:
        raise StoreError(f"{error}; score that run again with act2see score") from error
    return _Side(run, _with_videos(run, scores), fingerprint if isinstance(fingerprint, dict) else None)


def _with_videos(run: "Run", scores: "Sequence[Score]") -> "Sequence[Score]":
    """Each score with its video: where the scores do not tell it, the traces do. A question whose video nobody tells gets one of its own."""
    from dataclasses import replace

    if all(one.video for one in scores):
        return scores
    videos = {trace.id: trace.video for _, trace in run.sketches([])}
    unknown = sum(not one.video and one.id not in videos for one in scores)
    if unknown:
        complain(f"note: of {unknown} questions in {run.folder} the video is not known: each is taken to have one of its own")
    return [one if one.video else replace(one, video=videos.get(one.id, f"of {one.id}")) for one in scores]


def _tell(told: dict[str, Any]) -> None:
    say(f"{told['n']} questions of {told['benchmark']} in both: first {told['first']:.1%} right, second {told['second']:.1%}")
    width = max(len("all"), *(len(name) for name in told["by_kind"]))
    say(f"{'':<{width}}  questions   first  second  difference                gained  lost  p")
    for name, row in {"all": told, **told["by_kind"]}.items():
        between = row["difference_95"]
        interval = " [unknown]" if between is None else f" [{100 * between[0]:+.1f}, {100 * between[1]:+.1f}]"
        difference = f"{100 * row['difference']:+.1f} points{interval}"
        counts = f"{row['gained']:>6}  {row['lost']:>4}  {row['mcnemar_p']:.3g}"
        say(f"{one_line(name):<{width}}  {row['n']:>9}  {row['first']:>6.1%}  {row['second']:>6.1%}  {difference:<24}  {counts}")
    for what in ("gained", "lost"):
        if told[f"{what}_ids"]:
            say(f"{what}: {_named(told[f'{what}_ids'])}")
    for which in ("first", "second"):
        if only := told[f"only_{which}"]:
            complain(f"note: {len(only)} questions are in the {which} run alone and not counted: {_named(only)}")
    if told["made_differently"]:
        say("made differently: " + ", ".join(f"{name} {before} and {after}" for name, (before, after) in told["made_differently"].items()))
    else:
        say("made the same way, as far as the runs tell")


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more
