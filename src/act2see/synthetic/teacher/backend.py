"""A scripted teacher of the synthetic world with known faults: what training data are built from where every filter is measured against the truth.

It sees what the frames show, because it knows the clip, and makes the faults of a real teacher at rates that are set. Which fault an attempt has is
drawn from its name, so that it can be told afterwards: `ScriptedTeacher.fault_of`.
"""

import math
import random
import re
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import astuple, dataclass, fields
from functools import lru_cache
from typing import cast

from act2see.core import chat
from act2see.core.errors import BackendError, ConfigError
from act2see.core.interfaces import Continuation
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Trace
from act2see.synthetic.dataset import Item, Kind, Place, item
from act2see.synthetic.teacher.script import Attempt, Broken, Fault, tool_for, turn

__all__ = ["BOTH", "DEFAULT_RATES", "Broken", "ErrorRates", "Fault", "ScriptedTeacher"]

BOTH: tuple[chat.Tool, ...] = ("retrieve", "generate")
SECONDS_PER_DECODING = 0.001
"""Made up, so that the same attempt always costs the same."""

_ATTEMPT = re.compile(r"(.*?)(?:#[0-9]+)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """The share of the attempts that have each fault, among those that can have it; all others have none. Not in the paper; our choice.

    `needless_call` takes a question that the 1 fps frames answer; `bad_query`, `early_answer` and `useless_call` one that they do not. The rest can
    happen to any. Raises `ConfigError` for what is no share, or adds up to more than all.
    """

    wrong_perception: float = 0.06
    """Another colour, shape, place or number is read off the decisive frame, and answered."""
    needless_call: float = 0.06
    """A call for what the given frames show already; the answer is right."""
    bad_query: float = 0.06
    """A call for something else."""
    wrong_answer: float = 0.06
    """Another choice is answered than the reasoning concludes, and not the right one."""
    broken_format: float = 0.06
    """One of `Broken`."""
    early_answer: float = 0.06
    """The right answer is concluded before the call that is to bring it."""
    useless_call: float = 0.06
    """Nothing after the call speaks of what it brought; the answer is right."""
    leak: float = 0.06
    """A run of the person's reasoning, or a mention of it, stands in for a conclusion; the answer is right."""
    off_topic: float = 0.06
    """The answer is right, and the reasoning is about the weather. Nothing is called."""

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not (math.isfinite(rate) and 0 <= rate <= 1):
                raise ConfigError(f"{field.name} {rate!r} is no rate: give a number from 0 to 1")
        if (total := math.fsum(astuple(self))) > 1 + 1e-9:
            raise ConfigError(f"the rates add up to {total:g}: an attempt has one fault at most, so let them add up to 1 or less")


DEFAULT_RATES = ErrorRates()


class ScriptedTeacher:
    """Reasons about the synthetic data set's questions as a backend. Without state: all that it says follows from the trace, and from its seed.

    A trace's id is the item's name, `train-0-00012`, or that of an attempt at it, `train-0-00012#3`.
    """

    concurrent = True

    def __init__(self, config: object = None, *, rates: ErrorRates = DEFAULT_RATES, seed: int | None = None) -> None:
        """`config` is what a third party's backend is made from; of it the seed is read where none is given here."""
        self.rates = rates
        self.seed: int = (getattr(config, "seed", None) or 0) if seed is None else seed

    @property
    def made_with(self) -> Mapping[str, str]:
        """That no model wrote this, and the rates and the seed by which it errs."""
        rates = ", ".join(f"{field.name} {getattr(self.rates, field.name):g}" for field in fields(self.rates))
        return {"backend": "scripted teacher", "model": "scripted", "rendering": "none", "error_rates": rates, "seed": str(self.seed)}

    def fault_of(self, trace_id: str, tools: Collection[chat.Tool] = BOTH) -> Fault:
        """The fault that this attempt has, where it is given the frames at 1 fps and told of these tools. Raises `BackendError`.

        A fault that cannot happen to such a question is none. Without a fault, an attempt whose look brings nothing ends as an admitted guess.
        """
        kind = _place(_name_in(trace_id)).kind
        draw = random.Random(f"{self.seed} {trace_id} fault").random()
        for field in fields(self.rates):
            draw -= getattr(self.rates, field.name)
            if draw < 0:
                fault = cast("Fault", field.name)
                return fault if _can_have(fault, kind, tools) else "none"
        return "none"

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        """What is left of the turn that follows the trace's last observation. Tokens are counted as words.

        Raises `BackendError` for a question that is none of the data set's, and for a turn that was begun in other words.
        """
        asked = _item(_name_in(trace.id))
        if trace.question != asked.question.text or sorted(trace.choices) != sorted(asked.question.choices):
            raise BackendError(
                f"trace {trace.id!r} asks something else than the synthetic question of that name: the scripted teacher knows no other"
            )
        whole = turn(Attempt(trace, tuple(tools), asked, self.fault_of(trace.id, tools), self.seed))
        pieces = chat.render(trace.steps)
        begun = pieces[-1] if pieces and isinstance(pieces[-1], str) else ""
        if not whole.startswith(begun):
            raise BackendError(f"trace {trace.id!r} was begun by another teacher, or with another seed or other rates: start it again")
        text = whole.removeprefix(begun)
        if text:
            yield text
        read = " ".join([chat.question_text(trace.question, trace.choices), *(piece for piece in pieces if isinstance(piece, str))])
        cost = Cost(len(read.split()), len(text.split()), seconds={"decode": SECONDS_PER_DECODING})
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", cost)


def _can_have(fault: Fault, kind: Kind, tools: Collection[chat.Tool]) -> bool:
    match fault:
        case "needless_call":
            return kind == "static" and "retrieve" in tools
        case "bad_query" | "early_answer" | "useless_call":
            return kind != "static" and tool_for(kind) in tools
        case _:
            return True


# Names


def _name_in(trace_id: str) -> str:
    """The item's name, without the attempt's number."""
    match = _ATTEMPT.fullmatch(trace_id)
    assert match is not None  # it takes any text
    return match[1]


def _place(name: str) -> Place:
    """Where the item of that name stands. Raises `BackendError`."""
    place = Place.of(name)
    if place is None:
        raise BackendError(f"the scripted teacher knows no question {name[:80]!r}: it knows the synthetic data set's, such as train-0-00012")
    return place


@lru_cache(maxsize=256)
def _item(name: str) -> Item:
    """The item of that name. Raises `BackendError`."""
    return item(_place(name))
