"""Construction: a teacher answers questions through the loop with real tools, with retries after wrong answers. Every try is a trace.

The teacher does not see the human reasoning, except for the paper's ablation: the traces are compared with it afterwards.
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
"""Text between question and human reasoning in the prompt of the ablation. Not in the paper; our choice."""


@dataclass(frozen=True, slots=True)
class Constructed:
    """The result of a question: the score of its last try, and the cost of all tries."""

    score: Score
    cost: Cost
    tries: int
    traceback: str | None = None
    """Traceback of an internal error."""


@dataclass(frozen=True, slots=True)
class Constructor:
    """The settings shared by all questions."""

    evaluator: Evaluator
    retries: int = 2
    """Maximum number of retries after a wrong answer (2 in the paper)."""
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
        """Retry until an answer is right or the tries are used up; tries in `done` are reused. A failure of video, tool or backend ends it too.

        `number` is the sample's index. Every new trace goes to `keep`, finished or not. None if `may_ask` refuses a further try: the question is then
        unfinished.
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
        """Run the `tried`-th try of a question, from 0, in its own trace."""
        backend = reseeded(self.evaluator.backend, tried)
        if self.show_reference:
            backend = _ShowingReference(backend, sample.reasoning or "")
        loop = self.evaluator.loop
        evaluator = replace(self.evaluator, backend=backend, loop=replace(loop, seed=loop.seed + tried))
        return replace(evaluator.answer(replace(sample, id=attempt_id(sample.id, tried))), sample=sample)


@dataclass(frozen=True, slots=True)
class _ShowingReference:
    """The teacher with the human reasoning in its prompt. The trace itself contains only the question, as in training."""

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
    """Thread-safe counter of dollars against a budget. Running tries finish and are stored when it is exhausted."""

    budget: float | None = None
    dollars: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, trace: Trace) -> None:
        """Add the cost of a trace; a trace without a price costs nothing."""
        with self._lock:
            self.dollars += trace.cost.dollars or 0.0

    def has_left(self) -> bool:
        """Whether the budget allows another try."""
        return self.budget is None or self.dollars < self.budget
