"""Runs as `act2see view` shows them, made without a model; and a written site, read back."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from act2see.core.trace import Answer, Frame, Generate, Line, Match, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.evaluation.scores import Outcome, Score
from act2see.storage.runs import Run
from page_elements import initial, picture, trace

CURVE = tuple((seconds / 2, 0.1 + 0.8 * (seconds == 5)) for seconds in range(20))
FOUND = Frame(picture((0, 0, 200)), 2.5, score=0.9, match=Match(3, curve=CURVE, line=Line(2.0, 3.0, "here it is", "subtitles")))
PAINTED = Frame(picture((200, 0, 200)), None, provenance=Provenance("a green square", 3.0, "some-model", 7, 0.6, {"agreement": 0.83}))
LOOKS: dict[str, tuple[Step, ...]] = {
    "none": (),
    "retrieve": (Thought("Where?"), Retrieve("the star"), Observation((FOUND,))),
    "generate": (Thought("What if?"), Generate("a green square"), Observation((PAINTED,))),
}


def question(number: int, text: str | None = None) -> Trace:
    """Question `qNNN`, answered with B; its looks depend on the number."""
    tool = ("none", "retrieve", "generate")[number % 3]
    words = f"What colour is star {number}?" if text is None else text
    steps = (*LOOKS[tool], Answer("B"))
    return replace(trace(steps=steps, frames=initial(3)), id=f"q{number:03}", question=words, video=f"clips/{number % 4}.mp4")


def outcome(number: int) -> Outcome:
    return "wrong" if number % 4 == 1 else "correct"


def eval_run(folder: Path, count: int, wrong: Sequence[int] | None = None, traces: Sequence[Trace] | None = None) -> Run:
    """A run of `eval`; those in `wrong` are, or else every fourth. The last question failed before it had a trace."""
    run = Run.create(folder, command="eval", config={"benchmark": "made-up", "max_looks": 3}, seed=0)
    found = [question(number) for number in range(count)] if traces is None else traces
    for one in found:
        run.append(one)
    scores = [
        Score(
            one.id,
            "odd" if number % 2 else "even",
            outcome(number) if wrong is None else "wrong" if number in wrong else "correct",
            number=number,
            video=one.video,
            options=3,
            guesses=("always B",),
        )
        for number, one in enumerate(found)
    ]
    scores.append(Score("q-lost", "even", "video_error", "clip.mp4 cannot be opened", number=len(found), video="lost.mp4"))
    run.write_scores(score.row() for score in scores)
    return run


def data(site: Path, name: str) -> list[Any]:
    """The arguments with which a data file calls the page's script."""
    text = (site / "data" / f"{name}.js").read_text(encoding="ascii")
    found = re.fullmatch(r"act2see\.\w+\((.*)\);\n", text)
    assert found is not None
    values: list[Any] = json.loads(f"[{found[1]}]")
    return values


def rows(site: Path) -> list[dict[str, Any]]:
    names = sorted((path.stem for path in (site / "data").glob("rows-*.js")), key=lambda name: int(name.rpartition("-")[2]))
    return [row for name in names for row in data(site, name)[0]]


def about(site: Path) -> dict[str, Any]:
    (found,) = data(site, "about")
    assert isinstance(found, dict)
    return found


def article(site: Path, run: int, at: int) -> str:
    size = about(site)["tracesAFile"]
    told_run, number, articles = data(site, f"traces-{run}-{at // size}")
    assert (told_run, number) == (run, at // size)
    return str(articles[at % size])
