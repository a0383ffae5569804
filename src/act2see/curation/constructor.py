"""Construction: a teacher answers questions through the one loop, with real tools, and is asked again where it was wrong. Every try is a trace.

The person's reasoning is never shown to the teacher, unless the paper's ablation is wanted: it is what the traces are compared with afterwards.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field, replace
from functools import partial

from act2see.core.chat import Tool
from act2see.core.interfaces import Backend, Continuation, Sample, reseeded
from act2see.core.trace import Cost, Trace
from act2see.curation.qa_records import attempt_id
from act2see.evaluation.evaluator import Evaluator, Scored
from act2see.evaluation.scores import Score

REFERENCE = "\n\nA person reasoned about this as follows:\n"
"""What stands between the question and the person's reasoning, where the teacher is shown it. The paper does not give its words; our choice."""


@dataclass(frozen=True, slots=True)
class Constructed:
    """How a question ended: the score of its last try, and what all of its tries cost together."""

    score: Score
    cost: Cost
    tries: int
    traceback: str | None = None
    """Of an internal error."""


@dataclass(frozen=True, slots=True)
class Constructor:
    """What stays the same over all questions."""

    evaluator: Evaluator
    retries: int = 2
    """How often a question is asked again that was not answered rightly (2 in the paper)."""
    show_reference: bool = False

    def construct(
        self,
        sample: Sample,
        number: int,
        done: Mapping[int, Trace],
        keep: Callable[[Trace], None],
        ask: Callable[[Callable[[], Scored]], Scored] = lambda work: work(),
        may_ask: Callable[[], bool] = lambda: True,
    ) -> Constructed | None:
        """Ask until an answer is right or the tries are used up; tries in `done` are not made again. A failure of video, tool or backend ends it too.

        `number` is the sample's place. Every new trace goes to `keep`, ended or not. None where `may_ask` forbids a try that would be needed: the
        question has not ended then.
        """
        cost = Cost()
        for tried in range(self.retries + 1):
            if tried in done:
                scored = self.evaluator.score(sample, done[tried])
            elif not may_ask():
                return None
            else:
                scored = ask(partial(self.attempt, sample, tried))
                if scored.trace is not None:
                    keep(scored.trace)
            if scored.trace is not None:
                cost.add(scored.trace.cost)
            if scored.outcome == "correct" or scored.outcome.endswith("_error") or not sample.answer:
                break
        return Constructed(scored.score(number), cost, tried + 1, scored.traceback)

    def attempt(self, sample: Sample, tried: int) -> Scored:
        """The `tried`-th try at a question, from 0, in a trace of its own."""
        backend = reseeded(self.evaluator.backend, tried)
        if self.show_reference:
            backend = _ShowingReference(backend, sample.reasoning or "")
        loop = self.evaluator.loop
        evaluator = replace(self.evaluator, backend=backend, loop=replace(loop, seed=loop.seed + tried))
        return replace(evaluator.answer(replace(sample, id=attempt_id(sample.id, tried))), sample=sample)


@dataclass(frozen=True, slots=True)
class _ShowingReference:
    """The teacher with a person's reasoning in its prompt. The trace itself holds the question alone, as training will."""

    inner: Backend
    reasoning: str

    @property
    def made_with(self) -> Mapping[str, str]:
        return {**self.inner.made_with, "reference": "shown"}

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        shown = replace(trace, question=f"{trace.question}{REFERENCE}{self.reasoning}")
        return (yield from self.inner.decode(shown, tools))


@dataclass(slots=True)
class Spending:
    """Counts dollars in all threads, and says when nothing new may be asked. What is under way by then is paid for, and kept."""

    budget: float | None = None
    dollars: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, trace: Trace) -> None:
        """Count what a trace cost; one without a price costs nothing."""
        with self._lock:
            self.dollars += trace.cost.dollars or 0.0

    def has_left(self) -> bool:
        """Whether another question may be asked."""
        return self.budget is None or self.dollars < self.budget
