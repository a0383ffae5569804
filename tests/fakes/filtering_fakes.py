"""A good trace about one question, to be spoilt in one place each time, and the reasons that a filtering gives."""

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from act2see.core.trace import Answer, Finish, Frame, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.curation.filters import Limits, judge
from act2see.curation.qa_records import Reference

REASONING = "Between the second and the third frame a blue star comes up near the left border, so it has to be blue."
REFERENCE = Reference(
    "q", "made-up", "MIT", "v.mp4", "What colour is the star?", ("red", "blue", "green"), "blue", "colour", "She says so. " + REASONING
)
OPEN = replace(REFERENCE, choices=())


def frame(file: str, seconds: float | None, provenance: Provenance | None = None) -> Frame:
    """As `Run.sketch_at` gives it."""
    image = Image.new("RGB", (1, 1))
    image.info["file"] = file
    return Frame(image, seconds, provenance=provenance)


def imagined(file: str = "g", **scores: float) -> Observation:
    return Observation((frame(file, None, Provenance("a green star", 1.0, "some-model", 0, None, scores)),))


INITIAL = (frame("a", 0.0), frame("b", 1.0))
CALL, FOUND, ANSWER = Retrieve(" the star "), Observation((frame("c", 0.5),)), Answer(" B ")
BEFORE, AFTER = Thought("<think>Nothing like it is here. Let me look in between."), Thought(" This frame shows it, and it is blue.</think>")
GOOD: tuple[Step, ...] = (BEFORE, CALL, FOUND, AFTER, ANSWER)


def trace(steps: Sequence[Step] = GOOD, finish: Finish | None = "answer", choices: tuple[str, ...] = REFERENCE.choices) -> Trace:
    return Trace("q#0", "v.mp4", REFERENCE.question, INITIAL, choices, steps=list(steps), finish=finish)


def thinks(before: str = "Let me look.", after: str = "This frame shows it.", answer: str = "B", call: Step = CALL) -> Trace:
    """A trace with one frame, by what is thought before and after it."""
    return trace([Thought(f"<think>{before}"), call, FOUND, Thought(f"{after}</think>"), Answer(answer)])


def reasons(one: Trace, reference: Reference = REFERENCE, similarity: float | None = 0.9, limits: Limits | None = None) -> set[str]:
    return set(judge(one, reference, similarity, limits or Limits()).reasons)


def words_of_the_reasoning(count: int) -> str:
    return " ".join(REASONING.split()[:count])
