"""A scripted teacher for the synthetic world with known faults, to measure data filters against ground truth.

It knows the clip, so it sees what the frames show, and makes a real teacher's faults at configurable rates. An attempt's fault is a deterministic
function of its name, see `ScriptedTeacher.fault_of`.
"""

import math
import random
import re
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Protocol, cast

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
"""A fixed value, so that costs are deterministic."""

_ATTEMPT = re.compile(r"(.*?)(?:#[0-9]+)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """The probability of each fault, among the attempts that can have it; all other attempts are correct. Not in the paper; our choice.

    `needless_call` only applies to questions that the 1 fps frames answer; `bad_query`, `early_answer` and `useless_call` only to all others. The
    remaining faults apply to any question. Raises `ConfigError` for values outside 0-1 and for a sum above 1.
    """

    wrong_perception: float = 0.06
    """Misreads colour, shape, place or number in the decisive frame, and answers accordingly."""
    needless_call: float = 0.06
    """Calls for something that the given frames already show; the answer is right."""
    bad_query: float = 0.06
    """Calls for something else."""
    wrong_answer: float = 0.06
    """Answers a wrong choice that contradicts the reasoning's conclusion."""
    broken_format: float = 0.06
    """One of `Broken`."""
    early_answer: float = 0.06
    """Concludes the right answer before the call that would provide the evidence."""
    useless_call: float = 0.06
    """Ignores the result of the call; the answer is right."""
    leak: float = 0.06
    """Quotes or mentions the human reasoning instead of drawing a conclusion; the answer is right."""
    off_topic: float = 0.06
    """Reasons about the weather, without calls; the answer is right."""

    def __post_init__(self) -> None:
        for name, rate in asdict(self).items():
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not (math.isfinite(rate) and 0 <= rate <= 1):
                raise ConfigError(f"{name} is {rate!r}; it must be a number from 0 to 1")
        if (total := math.fsum(asdict(self).values())) > 1 + 1e-9:
            raise ConfigError(f"the rates add up to {total:g}; an attempt has at most one fault, so the sum must be at most 1")


DEFAULT_RATES = ErrorRates()


class _HasSeed(Protocol):
    @property
    def seed(self) -> int | None: ...


class ScriptedTeacher:
    """A backend for the synthetic data set's questions. Stateless: its output depends on the trace and the seed only.

    A trace's id is an item's name, `train-0-00012`, or that of an attempt, `train-0-00012#3`.
    """

    concurrent = True

    def __init__(self, config: _HasSeed | None = None, *, rates: ErrorRates = DEFAULT_RATES, seed: int | None = None) -> None:
        """`config` is the config of third-party backends; only its seed is used, unless `seed` is given."""
        self.rates = rates
        if seed is None:
            seed = config.seed if config else None
        self.seed: int = seed or 0

    @property
    def made_with(self) -> Mapping[str, str]:
        """Identifies the scripted teacher, its fault rates and its seed."""
        rates = ", ".join(f"{name} {rate:g}" for name, rate in asdict(self.rates).items())
        return {"backend": "scripted teacher", "model": "scripted", "rendering": "none", "error_rates": rates, "seed": str(self.seed)}

    def fault_of(self, trace_id: str, tools: Collection[chat.Tool] = BOTH) -> Fault:
        """The fault of an attempt with the 1 fps frames and these tools. Raises `BackendError`.

        "none" if the drawn fault does not apply to the question. Without a fault, an attempt whose look fails ends in an admitted guess.
        """
        kind = _place(_name_in(trace_id)).kind
        draw = random.Random(f"{self.seed} {trace_id} fault").random()
        for name, rate in asdict(self.rates).items():
            draw -= rate
            if draw < 0:
                fault = cast("Fault", name)
                return fault if _can_have(fault, kind, tools) else "none"
        return "none"

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        """The rest of the turn after the trace's last observation. Token counts are word counts.

        Raises `BackendError` for questions outside the data set and for turns that start differently.
        """
        asked = _item(_name_in(trace.id))
        if trace.question != asked.question.text or sorted(trace.choices) != sorted(asked.question.choices):
            raise BackendError(f"trace {trace.id!r} differs from the synthetic question of this name: the scripted teacher supports no others")
        whole = turn(Attempt(trace, tuple(tools), asked, self.fault_of(trace.id, tools), self.seed))
        pieces = chat.render(trace.steps)
        begun = pieces[-1] if pieces and isinstance(pieces[-1], str) else ""
        if not whole.startswith(begun):
            raise BackendError(f"trace {trace.id!r} was started by another teacher, or with another seed or other rates: start it anew")
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
    """The item's name without the attempt number."""
    match = _ATTEMPT.fullmatch(trace_id)
    assert match is not None  # it takes any text
    return match[1]


def _place(name: str) -> Place:
    """The place of an item by name. Raises `BackendError`."""
    place = Place.of(name)
    if place is None:
        raise BackendError(f"the scripted teacher has no question {name[:80]!r}: it supports the synthetic data set's, such as train-0-00012")
    return place


@lru_cache(maxsize=256)
def _item(name: str) -> Item:
    """An item by name. Raises `BackendError`."""
    return item(_place(name))
