"""Tools that know the synthetic world's truth, and what is asked of a trace that the scripted teacher wrote."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from PIL import Image

from act2see.core import chat
from act2see.core.engine import LoopOptions, reason
from act2see.core.errors import ToolError
from act2see.core.interfaces import Retriever
from act2see.core.trace import Frame, Generate, Observation, Provenance, Retrieve, Thought, Trace
from act2see.synthetic.dataset import Item, Kind
from act2see.synthetic.hypothetical import Hypothetical
from act2see.synthetic.questions import Question
from act2see.synthetic.spot_questions import SpotQuestion
from act2see.synthetic.teacher import ErrorRates, Fault, ScriptedTeacher
from act2see.synthetic.world import COLOURS, PLACES, SHAPES, Clip, place_at
from act2see.video import Video

KINDS: tuple[Kind, ...] = ("static", "transient", "hypothetical")
FAULTS: tuple[Fault, ...] = get_args(Fault)
NO_RATES = ErrorRates(*[0.0] * (len(FAULTS) - 1))
BEYOND: tuple[Kind, ...] = ("transient", "hypothetical")
APPLIES: dict[Fault, tuple[Kind, ...]] = {"needless_call": ("static",), "bad_query": BEYOND, "early_answer": BEYOND, "useless_call": BEYOND}
PICTURE = Image.new("RGB", (8, 8))


@dataclass
class Truthful:
    """Finds the frame that shows what the query names, if it is what the question asks for, and a frame without it if it is not."""

    item: Item
    name: str = "truthful"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        question = self.item.question
        assert not isinstance(question, SpotQuestion)
        if isinstance(question, Hypothetical):
            return [Frame(PICTURE, question.anchors[0])]
        named = question.actor.colour if question.asked == "shape" else question.actor.shape
        return [self.frame(question, shown, shows=named in query.split())]

    def frame(self, question: Question, shown: Collection[float], *, shows: bool) -> Frame:
        """A frame that shows the asked thing, or does not; where no such is left, another."""
        left = [t for t in self.item.clip.times(3.0) if t not in shown]
        return Frame(PICTURE, next((t for t in left if question.actor.is_there(t) == shows), left[0]))


@dataclass
class Missing(Truthful):
    """Finds a frame that does not show what is asked for, whatever the query."""

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        assert isinstance(self.item.question, Question)
        return [self.frame(self.item.question, shown, shows=False)]


@dataclass
class Failing(Truthful):
    """Finds nothing."""

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        raise ToolError("no frame was found")


class Painter:
    """Says what was to be painted, and of which frame."""

    name = "painter"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        return Frame(PICTURE, None, provenance=Provenance(prompt, anchor.seconds, "painter", seed))


def fresh(item: Item, attempt: str = "#0") -> Trace:
    frames = tuple(Frame(PICTURE, seconds) for seconds in item.clip.times(1.0))
    return Trace(item.name + attempt, "clip.mp4", item.question.text, frames, item.question.choices)


def finish(trace: Trace, item: Item, video: Video, teacher: ScriptedTeacher, retriever: Retriever | None = None, *, looks: int = 2) -> Trace:
    for _ in reason(trace, video, teacher, retriever or Truthful(item), Painter(), options=LoopOptions(max_looks=looks)):
        pass
    return trace


def always(fault: Fault, seed: int = 0) -> ScriptedTeacher:
    """A teacher that makes this fault wherever it can be made."""
    return ScriptedTeacher(rates=NO_RATES if fault == "none" else replace(NO_RATES, **{fault: 1.0}), seed=seed)


def attempts(fault: Fault, found: Sequence[Item], video: Video) -> Iterator[tuple[Item, Trace]]:
    """A finished attempt at each item that can have this fault."""
    teacher = always(fault)
    for item in found:
        can = item.question.kind in APPLIES.get(fault, KINDS)
        assert teacher.fault_of(f"{item.name}#0") == (fault if can else "none")
        if can:
            yield item, finish(fresh(item), item, video, teacher)


def chosen(trace: Trace) -> str | None:
    index = chat.chosen(trace.answer, trace.choices)
    return None if index is None else trace.choices[index]


def calls(trace: Trace) -> list[Retrieve | Generate]:
    return [step for step in trace.steps if isinstance(step, Retrieve | Generate)]


def observed(trace: Trace) -> list[Observation]:
    return [step for step in trace.steps if isinstance(step, Observation)]


def thoughts(trace: Trace) -> list[str]:
    return [step.text for step in trace.steps if isinstance(step, Thought)]


def written(trace: Trace) -> str:
    return " ".join(piece for piece in chat.render(trace.steps) if isinstance(piece, str))


def longest_shared_run(text: str, other: str) -> int:
    """The most words in a row that both have, punctuation and case aside."""
    one, two = (re.findall(r"\w+", re.sub(r"</?\w+>", " ", part).casefold()) for part in (text, other))
    best, ends = 0, dict[int, int]()
    for word in one:
        ends = {n: ends.get(n - 1, 0) + 1 for n, same in enumerate(two) if same == word}
        best = max(best, *ends.values(), 0) if ends else best
    return best


THING = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) (?:near the|towards the|around the) ({'|'.join(PLACES)})")
SENTENCE = re.compile(r"(?:At|In the frames from) (\d+\.\d)(?: to (\d+\.\d))? seconds ([^.]*)\.")


def claims(text: str) -> list[tuple[float, float, list[tuple[str, ...]]]]:
    """From when to when a text says that which things are shown."""
    return [(float(m[1]), float(m[2] or m[1]), THING.findall(m[3])) for m in SENTENCE.finditer(text)]


def shown(clip: Clip, seconds: float) -> list[tuple[str, ...]]:
    return sorted((actor.colour_at(seconds), actor.shape, place_at(actor, seconds)) for actor in clip.actors if actor.is_there(seconds))


def read_frames(trace: Trace) -> Iterator[tuple[float, list[tuple[str, ...]]]]:
    """The seconds of each frame that is spoken of, and what is said of it: of the given ones in the first thought, of one that came after it."""
    given = [frame.seconds for frame in trace.frames]
    came = [[frame.seconds for frame in step.frames] for step in observed(trace)]
    for text, frames in zip(thoughts(trace), [given, *came], strict=False):
        for start, stop, things in claims(text):
            meant = [t for t in frames if t is not None and start - 0.051 <= t <= stop + 0.051]
            assert meant
            yield from ((t, things) for t in meant)


def transients(found: list[Item]) -> list[Item]:
    return [item for item in found if item.question.kind == "transient"]
