"""Ablation of what a look returns: each question is answered again with something else in place of the requested frame.

The reasoning up to the first call is shared; from there every arm (condition) continues with its own tools, so that arms differ only in the frames
that they return. A backend with a KV cache, or a server with prompt caching, computes the shared prefix once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never, get_args

from act2see.core.chat import Tool
from act2see.core.engine import frames_left_out
from act2see.core.interfaces import Sample
from act2see.core.spots import tool_of
from act2see.core.trace import Cost, Generate, Retrieve, Step, Trace
from act2see.evaluation.evaluator import Evaluator, Outcome, Scored
from act2see.evaluation.frame_controls import BlurredFrames, RandomFrames, WithheldFrames, WrongTimeFrames
from act2see.evaluation.picture_controls import BlurredPictures, UneditedAnchor
from act2see.evaluation.scores import backend_problem
from act2see.evaluation.scores import frames_left_out as summary_of_frames_left_out
from act2see.evaluation.statistics import clustered_interval, mcnemar, share_interval
from act2see.storage.codec import JSON
from act2see.video import Video

Condition = Literal["real", "off", "withheld", "random", "wrong_time", "blurred", "unedited"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
MEANINGS: Mapping[str, str] = {
    "real": "what was asked for",
    "off": "no tool is offered",
    "withheld": "the call is made, and nothing comes",
    "random": "a frame from anywhere in the video",
    "wrong_time": "a frame from another time; a picture made from such a frame",
    "blurred": "the right frame or picture, too blurred to read",
    "unedited": "in a picture's place, the frame that it would be made from",
}


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """The outcome of one question in one arm, and its cost without the shared part."""

    outcome: Outcome
    cost: Cost
    answer: str | None = None
    error: str | None = None
    traceback: str | None = None
    """Traceback of an internal error."""


@dataclass(frozen=True, slots=True)
class Audited:
    """One question in all arms. Without a call an arm changes nothing: its outcome is the real one, at no cost."""

    sample: Sample
    call: Tool | None
    """Tool of the first call; None without a call."""
    looks: int
    frames: int
    left_out: int
    """Number of initial frames omitted by the frame limit."""
    arms: Mapping[Condition, ConditionResult]

    @property
    def backend_problem(self) -> str | None:
        """See `scores.backend_problem`."""
        return backend_problem(self.arms["real"].outcome, self.arms["real"].error)

    def is_right(self, arm: Condition) -> bool:
        """Whether the answer in that arm was correct."""
        return self.arms[arm].outcome == "correct"


@dataclass(frozen=True, slots=True)
class Auditor:
    """An evaluation that runs each question in every arm. Needs a retriever."""

    evaluator: Evaluator
    retrieve_fps: float = 3.0
    """Frames per second from which random and wrong frames are sampled."""

    def audit(
        self, sample: Sample, done: Mapping[Condition, Trace] | None = None, keep: Callable[[Condition, Trace], None] = lambda arm, trace: None
    ) -> Audited:
        """Run one question in all arms. `keep` receives each finished trace; traces in `done` are only scored.

        A failure of the video, a tool or the backend ends that arm with its own outcome.
        """
        begun = self.evaluator.begin(sample)
        if isinstance(begun, Scored):
            return Audited(
                sample, None, 0, 0, 0, dict.fromkeys(CONDITIONS, ConditionResult(begun.outcome, Cost(), error=begun.error, traceback=begun.traceback))
            )
        video, start = begun
        asked = _Asked(self, sample, video, start, dict(done or {}), keep)
        real = asked.real()
        arms: dict[Condition, ConditionResult] = {"real": real}
        for arm in CONDITIONS:
            # Last, because its prompt has no tools: it cannot use what the backend has cached.
            if arm not in ("real", "off"):
                arms[arm] = asked.other(arm) if asked.changes(arm) else replace(real, cost=Cost())
        arms["off"] = asked.off()
        call = asked.shared.steps[-1] if asked.shared else None
        tool = tool_of(call, self.evaluator.loop.offered) if isinstance(call, Retrieve | Generate) else None
        return Audited(sample, tool, asked.looks, len(start.frames), frames_left_out(start), {arm: arms[arm] for arm in CONDITIONS})

    def evaluator_of(self, arm: Condition, video: Video) -> Evaluator:
        """The evaluation with the retriever and generator of an arm."""
        as_it_is, frames, pictures = self.evaluator, self.evaluator.retriever, self.evaluator.generator
        assert frames is not None
        match arm:
            case "real":
                return as_it_is
            case "off":
                return replace(as_it_is, retriever=None, generator=None, loop=replace(as_it_is.loop, max_looks=0))
            case "withheld":
                return replace(as_it_is, retriever=WithheldFrames())
            case "random":
                drawn = RandomFrames(fps=self.retrieve_fps, seed=as_it_is.loop.seed)
                return replace(as_it_is, retriever=drawn, generator=pictures and UneditedAnchor())
            case "wrong_time":
                return replace(as_it_is, retriever=WrongTimeFrames(frames, fps=self.retrieve_fps, seed=as_it_is.loop.seed))
            case "blurred":
                return replace(as_it_is, retriever=BlurredFrames(frames), generator=pictures and BlurredPictures(pictures, video))
            case "unedited":
                return replace(as_it_is, generator=pictures and UneditedAnchor())
            case _:
                assert_never(arm)


@dataclass(slots=True)
class _Asked:
    """One question during its audit."""

    auditor: Auditor
    sample: Sample
    video: Video
    start: Trace
    done: dict[Condition, Trace]
    keep: Callable[[Condition, Trace], None]
    shared: Trace | None = None
    """The real trace up to and including its first call; None without a call."""
    looks: int = 0

    def real(self) -> ConditionResult:
        """Run the question as `eval` does, and record the prefix that the other arms share."""
        trace = self.done.get("real") or _copy(self.start, ())

        def split(step: Step) -> None:
            if self.shared is None and isinstance(step, Retrieve | Generate):
                self.shared = _copy(trace, trace.steps)

        if "real" in self.done:
            first = next((number for number, step in enumerate(trace.steps) if isinstance(step, Retrieve | Generate)), None)
            self.shared = None if first is None else _copy(trace, trace.steps[: first + 1])
        ended = self._ended("real", trace, split)
        self.looks = trace.looks
        return ended

    def changes(self, arm: Condition) -> bool:
        """Whether the arm changes anything for this question."""
        return self.shared is not None and (arm != "unedited" or isinstance(self.shared.steps[-1], Generate))

    def other(self, arm: Condition) -> ConditionResult:
        """Continue the question from its first call with the arm's tools."""
        assert self.shared is not None
        return self._ended(arm, self.done.get(arm) or _copy(self.shared, self.shared.steps))

    def off(self) -> ConditionResult:
        """Run the question without tools."""
        return self._ended("off", self.done.get("off") or _copy(self.start, ()))

    def _ended(self, arm: Condition, trace: Trace, hear: Callable[[Step], None] = lambda step: None) -> ConditionResult:
        evaluator = self.auditor.evaluator_of(arm, self.video)
        if arm in self.done:
            scored = evaluator.score(self.sample, trace)
        else:
            scored = evaluator.carry_on(self.sample, self.video, trace, hear)
            if scored.error is None:
                self.keep(arm, trace)
        return ConditionResult(scored.outcome, trace.cost, trace.answer, scored.error, scored.traceback)


def _copy(trace: Trace, steps: Iterable[Step]) -> Trace:
    """An unfinished trace with these steps, at no cost: the shared part is counted in the real arm."""
    return replace(trace, steps=list(steps), finish=None, cost=Cost(), made_with=dict(trace.made_with))


def summarise_audit(audited: Iterable[Audited]) -> dict[str, Any]:
    """The summary: each arm's accuracy and its difference from the real one, over all questions, by kind, by tool and by number of looks.

    Every question stays in every denominator. Intervals are 95 %, clustered by video; a difference is real minus arm, paired by question.
    """
    everything = list(audited)
    kinds = sorted({one.sample.kind for one in everything})
    calls: tuple[Tool | None, ...] = (*get_args(Tool), None)
    of_kind = {kind: [one for one in everything if one.sample.kind == kind] for kind in kinds}
    of_call = {call or "none": [one for one in everything if one.call == call] for call in calls}
    return {
        "n": len(everything),
        "chance": _mean([1 / len(one.sample.choices) if one.sample.choices else 0.0 for one in everything]),
        "arms": _arms(everything),
        "by_kind": {kind: _arms(members) for kind, members in of_kind.items()},
        "by_call": {call: _arms(members) for call, members in of_call.items() if members},
        "looking": _looking(everything),
        "looking_by_kind": {kind: _looking(members) for kind, members in of_kind.items()},
        "by_looks": _by(everything, lambda one: one.looks),
        "by_frames": _by(everything, lambda one: one.frames),
        **summary_of_frames_left_out(one.left_out for one in everything),
        "cost": {arm: _cost([one.arms[arm].cost for one in everything]) for arm in CONDITIONS},
    }


def _arms(members: Sequence[Audited]) -> dict[str, dict[str, JSON]]:
    clusters = [str(one.sample.video) for one in members]
    real = [float(one.is_right("real")) for one in members]
    found: dict[str, dict[str, JSON]] = {}
    for arm in CONDITIONS:
        right = [float(one.is_right(arm)) for one in members]
        outcomes = Counter(one.arms[arm].outcome for one in members)
        found[arm] = {
            "accuracy": _mean(right),
            "accuracy_95": share_interval([each > 0 for each in right], clusters),
            "outcomes": dict(sorted(outcomes.items())),
        }
        if arm != "real":
            gained, lost = (sum(one > other for one, other in zip(*pair, strict=True)) for pair in ((real, right), (right, real)))
            found[arm] |= {
                "real_minus_arm": _mean([one - other for one, other in zip(real, right, strict=True)]),
                "real_minus_arm_95": clustered_interval([one - other for one, other in zip(real, right, strict=True)], clusters, between=(-1, 1)),
                "only_real_right": gained,
                "only_arm_right": lost,
                "mcnemar_p": mcnemar(gained, lost),
            }
    return found


def _looking(members: Sequence[Audited]) -> dict[str, JSON]:
    """Whether calls were needed, and their effect. A call is needed if the answer without tools is wrong."""
    needed, not_needed = ([one for one in members if one.is_right("off") is right] for right in (False, True))
    only = [one.is_right("real") and not any(one.is_right(arm) for arm in _controls(one)) for one in members]
    return {
        "n": len(members),
        "call_rate": _mean([float(one.call is not None) for one in members]),
        "gains": _mean([float(one.is_right("real") and not one.is_right("off")) for one in members]),
        "harms": _mean([float(one.is_right("off") and not one.is_right("real")) for one in members]),
        "only_looking_solves": _mean([float(each) for each in only]),
        "over_calling": _mean([float(one.call is not None) for one in not_needed]),
        "under_calling": _mean([float(one.call is None) for one in needed]),
    }


def _controls(one: Audited) -> tuple[Condition, ...]:
    """The arms whose frames carry no information. A blurred frame, and a picture generated from another time, still carry some."""
    return ("off", "withheld", "random", "unedited" if one.call == "generate" else "wrong_time")


def _by(members: Sequence[Audited], value: Callable[[Audited], int]) -> dict[str, JSON]:
    groups: dict[int, list[Audited]] = {}
    for one in members:
        groups.setdefault(value(one), []).append(one)
    return {
        str(number): {"n": len(group), "accuracy": _mean([float(one.is_right("real")) for one in group])} for number, group in sorted(groups.items())
    }


def _cost(costs: Sequence[Cost]) -> dict[str, float]:
    return {
        "tokens_in": sum(cost.tokens_in for cost in costs),
        "tokens_reused": sum(cost.tokens_reused for cost in costs),
        "tokens_out": sum(cost.tokens_out for cost in costs),
        "seconds": round(sum(cost.total_seconds for cost in costs), 2),
        **_flops([cost.total_flops for cost in costs if cost.tokens_in]),
    }


def _flops(known: Sequence[float | None]) -> dict[str, float]:
    """Their sum; nothing where the FLOPs of an answer are unknown."""
    given = [value for value in known if value is not None]
    return {"flops": sum(given)} if given and len(given) == len(known) else {}


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
