"""Runs the loop over a benchmark's samples; every sample has exactly one outcome."""

import hashlib
import random
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePath
from typing import Any

from act2see.core import spots
from act2see.core.chat import Tool
from act2see.core.engine import DEFAULTS, Delta, LoopOptions, frames_left_out, insert, new_trace, reason
from act2see.core.errors import Act2SeeError, BackendError, InternalError, JudgeError, ToolError, VideoError
from act2see.core.interfaces import Backend, Benchmark, ChainedBenchmark, Continuation, Generator, Retriever, Sample
from act2see.core.trace import Frame, Step, Trace
from act2see.evaluation.frame_controls import OracleFrames
from act2see.evaluation.scores import Outcome, Score, backend_problem, right_guesses, summarise_scores
from act2see.execution.faults import unexpected
from act2see.storage.codec import JSON, canonical_json, shown
from act2see.synthetic.scope import NO_LIMITS, NOTICE, SYNTHETIC, Scope
from act2see.video import Video
from act2see.video.transcript.prompting import LinesOfVideos

__all__ = ["Evaluator", "Outcome", "Scored", "ShuffledOptions", "score", "summarise"]

_NAMED = 3
"""Maximum number of changed questions that a message lists."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A sample with its outcome and its trace, which is None if the video could not be opened."""

    sample: Sample
    outcome: Outcome
    trace: Trace | None
    error: str | None = None
    traceback: str | None = None
    """Traceback of an internal error."""

    @property
    def called(self) -> bool:
        """Whether the model made a call, successful or not."""
        return self.trace is not None and bool(self.trace.calls)

    @property
    def backend_problem(self) -> str | None:
        """See `scores.backend_problem`."""
        return backend_problem(self.outcome, self.error)

    def score(self, number: int = 0) -> Score:
        """Its score, without frames and texts."""
        sample = self.sample
        if not all(isinstance(text, str) for text in (sample.id, sample.kind, *sample.groups)):
            raise TypeError(f"question {sample.id!r}: its id, kind and groups must be strings")
        calls, observed = ((), ()) if self.trace is None else (self.trace.calls, self.trace.observations)
        options, guesses = right_guesses(sample)
        return Score(
            sample.id,
            sample.kind,
            self.outcome,
            self.error,
            number,
            str(sample.video),
            tuple(sample.groups),
            content=content_of(sample),
            question=question_of(sample),
            calls=len(calls),
            served=sum(step.error is None for step in observed),
            refused=sum(step.error is not None for step in observed),
            frames=0 if self.trace is None else len(self.trace.all_frames),
            left_out=0 if self.trace is None else frames_left_out(self.trace),
            tokens_in=0 if self.trace is None else self.trace.cost.tokens_in,
            tokens_out=0 if self.trace is None else self.trace.cost.tokens_out,
            options=options,
            guesses=guesses,
        )


def content_of(sample: Sample) -> str:
    """See `Score.content`."""
    return _digest([sorted(sample.choices), sample.answer, sample.video.name])


def question_of(sample: Sample) -> str:
    """See `Score.question`."""
    return _digest(sample.question)


def _digest(value: JSON) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


def changed(sample: Sample, trace: Trace) -> tuple[str, ...]:
    """The parts of a question that changed since the trace answered it: wording, choices (in any order), video (by file name).

    The right answer is not included: no model sees it, so the trace is scored by the current one.
    """
    same = {
        "words": trace.question == sample.question,
        "choices": sorted(trace.choices) == sorted(sample.choices),
        "video": PurePath(trace.video).name == sample.video.name,
    }
    return tuple(name for name, is_same in same.items() if not is_same)


def describe_changes(changes: Mapping[str, Sequence[str]]) -> str:
    """A short description of changed questions, by their ids."""
    named = [f"{shown(name)} (other {' and '.join(what)})" for name, what in islice(changes.items(), _NAMED)]
    more = f" and {len(changes) - _NAMED} more" if len(changes) > _NAMED else ""
    return ", ".join(named) + more


@dataclass(frozen=True, slots=True)
class Evaluator:
    """The settings shared by all samples. `answer` and `score` are thread-safe if the backend is."""

    benchmark: Benchmark
    backend: Backend
    retriever: Retriever | None
    generator: Generator | None = None
    fps: float = 1.0
    loop: LoopOptions = DEFAULTS
    max_frames: int | None = None
    """Maximum number of initial frames; None: the limit of the backend's model."""
    insert: int = 0
    """Number of retrieved frames added to the initial ones."""
    scope: Scope = NO_LIMITS
    """Limits of the embedded models: questions outside them are refused, or run with a notice in the trace."""
    lines: LinesOfVideos | None = None
    """Adds lines of the transcript to questions; None: no lines."""
    _tools: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Serializes calls of retrievers and generators, which are not thread-safe."""
    _rule: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Serializes scoring: benchmarks need not be thread-safe, and may call a judge."""
    turns: threading.Semaphore | None = None
    """Limit of concurrent backend requests; other threads open videos and write traces meanwhile."""

    def run(self, done: dict[str, Trace] | None = None) -> Iterator[Scored]:
        """Score the samples in order. Traces in `done` (by sample id) are rescored without running the model."""
        for sample in self.benchmark.samples():
            yield self.score(sample, done[sample.id]) if done and sample.id in done else self.answer(sample)

    def answer(self, sample: Sample) -> Scored:
        """Run the model on one sample, as `act2see ask` does. External failures become outcomes of their own."""
        begun = self.begin(sample)
        return begun if isinstance(begun, Scored) else self.carry_on(sample, *begun)

    def begin(self, sample: Sample) -> "tuple[Video, Trace] | Scored":
        """The sample's video and an empty trace; or the outcome, if the video cannot be used."""
        trace, retriever = None, self._locked_retriever(sample)
        try:
            with unexpected():
                video = Video(sample.video)
                trace = self._trace(video, sample)
                if (refused := self._screened(trace)) is not None:
                    return Scored(sample, "no_answer", None, refused)
                if self.insert and retriever is not None:
                    insert(trace, video, retriever, self.insert, self.backend)
        except Act2SeeError as error:
            return _failed(sample, trace, error, "video_error")
        return video, trace

    def carry_on(self, sample: Sample, video: Video, trace: Trace, hear: Callable[[Step], None] = lambda step: None) -> Scored:
        """Complete a trace about the sample and score it. `hear` receives each step once it is in the trace."""
        retriever = self._locked_retriever(sample)
        generator = None if self.generator is None else _Generator(self.generator, self._tools)
        backend = self.backend if self.turns is None else _Backend(self.backend, self.turns)
        try:
            with unexpected():
                for event in reason(trace, video, backend, retriever, generator, self.loop):
                    if not isinstance(event, Delta):
                        hear(event)
        except Act2SeeError as error:
            return _failed(sample, trace, error, "backend_error")
        return self.score(sample, trace)

    def score(self, sample: Sample, trace: Trace) -> Scored:
        """The outcome of a finished trace."""
        with self._rule:
            return score(self.benchmark, sample, trace)

    def _trace(self, video: Video, sample: Sample) -> Trace:
        trace = new_trace(video, sample.question, sample.choices, fps=self.fps, id=sample.id, backend=self.backend, max_frames=self.max_frames)
        if self.lines is not None:
            with self._tools:  # a transcript computes, as a retriever does
                self.lines.add_to_question(trace, video)
        return trace

    def _screened(self, trace: Trace) -> str | None:
        """The reason to refuse the question, or None after adding any notice to its trace. The synthetic benchmark is not screened."""
        if self.benchmark.name == SYNTHETIC or not self.scope.is_limited:
            return None
        if (refused := self.scope.refusal(trace)) is None and (notice := self.scope.notice(trace)) is not None:
            trace.made_with[NOTICE] = notice
        return refused

    def _locked_retriever(self, sample: Sample) -> "_Retriever | None":
        if self.retriever is None:
            return None
        found = self.retriever.knowing(sample) if isinstance(self.retriever, OracleFrames) else self.retriever
        return _Retriever(found, self._tools)


def score(benchmark: Benchmark, sample: Sample, trace: Trace) -> Scored:
    """The outcome of a finished trace, without a model. Letters refer to the choices in the trace's order."""
    try:
        with unexpected():
            sample = as_shown(sample, trace)
            if trace.finish == "length":
                return Scored(sample, "truncated", trace)
            right = benchmark.is_right(sample, trace)
    except (JudgeError, BackendError, InternalError) as error:
        return _failed(sample, trace, error, "judge_error")
    return Scored(sample, "no_answer" if right is None else "correct" if right else "wrong", trace)


def as_shown(sample: Sample, trace: Trace) -> Sample:
    """The sample with its choices in the trace's order."""
    is_shuffled = trace.choices != sample.choices and sorted(trace.choices) == sorted(sample.choices)
    return replace(sample, choices=trace.choices) if is_shuffled else sample


def _failed(sample: Sample, trace: Trace | None, error: Act2SeeError, otherwise: Outcome) -> Scored:
    """The outcome for an error; `otherwise` applies if its type does not identify the source."""
    kinds: tuple[tuple[type[Act2SeeError], Outcome], ...] = (
        (InternalError, "internal_error"),
        (VideoError, "video_error"),
        (_ToolFailure, "tool_error"),
        (JudgeError, "judge_error"),
    )
    outcome = next((outcome for kind, outcome in kinds if isinstance(error, kind)), otherwise)
    return Scored(sample, outcome, trace, str(error), error.traceback if isinstance(error, InternalError) else None)


def score_of_fault(sample: Sample, number: int, error: InternalError) -> Score:
    """The outcome of a question that could not be scored or stored."""
    return Score(str(sample.id), str(sample.kind), "internal_error", str(error), number, str(sample.video))


def summarise(scored: Iterable[Scored]) -> dict[str, Any]:
    """Counts and rates of samples in the benchmark's order: see `scores.summarise_scores`."""
    return summarise_scores(one.score(number) for number, one in enumerate(scored))


def chains(benchmark: Benchmark, samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """The samples in order, those that quote the answer to one just before them together with it: whoever asks one asks all, one after the other."""
    if not isinstance(_inner(benchmark), ChainedBenchmark):
        yield from ([sample] for sample in samples)
        return
    chain: list[Sample] = []
    for sample in samples:
        before = _after(benchmark, sample)
        if chain and before not in {one.id for one in chain}:
            yield chain
            chain = []
        chain.append(sample)
    if chain:
        yield chain


def quoting(benchmark: Benchmark, sample: Sample, before: Mapping[str, Trace | None]) -> Sample:
    """The sample as it is asked, with the answer that it quotes, if any; `before` holds the traces of its chain so far, by the sample's id."""
    inner, name = _inner(benchmark), _after(benchmark, sample)
    return inner.given_answer(sample, before.get(name)) if name is not None and isinstance(inner, ChainedBenchmark) else sample


def answered(benchmark: Benchmark, traces: Mapping[str, Trace]) -> Iterator[tuple[Sample, Sample, Trace | None]]:
    """Each question of the benchmark, its form as presented, and the trace with its id, if any; `changed` checks that they match."""
    is_chained = isinstance(_inner(benchmark), ChainedBenchmark)  # asked once: a protocol's check is slow
    for chain in chains(benchmark, benchmark.samples()):
        before: dict[str, Trace | None] = {}
        for sample in chain:
            before[sample.id] = traces.get(sample.id)
            yield sample, quoting(benchmark, sample, before) if is_chained else sample, before[sample.id]


def _after(benchmark: Benchmark, sample: Sample) -> str | None:
    inner = _inner(benchmark)
    return inner.after(sample) if isinstance(inner, ChainedBenchmark) else None


def _inner(benchmark: Benchmark) -> Benchmark:
    return benchmark.benchmark if isinstance(benchmark, ShuffledOptions) else benchmark


@dataclass(frozen=True, slots=True)
class ShuffledOptions:
    """A benchmark with choices shuffled per question by a seed, to expose a model's letter bias."""

    benchmark: Benchmark
    seed: int

    @property
    def name(self) -> str:
        """The benchmark's own."""
        return self.benchmark.name

    def samples(self) -> Iterator[Sample]:
        """The benchmark's, in its order."""
        for sample in self.benchmark.samples():
            choices = list(sample.choices)
            random.Random(f"{self.seed} {sample.id}").shuffle(choices)
            yield replace(sample, choices=tuple(choices))

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """The benchmark's own rule."""
        return self.benchmark.is_right(sample, trace)


@dataclass(frozen=True, slots=True)
class _Backend:
    inner: Backend
    turns: threading.Semaphore

    @property
    def made_with(self) -> Mapping[str, str]:
        return self.inner.made_with

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        with self.turns:
            return (yield from self.inner.decode(trace, tools))


# Tools that fail outright. A `ToolError` is different: the model reads it and continues, as for any user, and its answer counts.


class _ToolFailure(Act2SeeError):
    """A tool that failed itself: its server is down, its encoder returns NaN."""


@dataclass(frozen=True, slots=True)
class _Retriever:
    inner: Retriever
    lock: threading.Lock

    @property
    def name(self) -> str:
        return self.inner.name

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        try:
            with self.lock:
                return self.inner.find(video, query, shown=shown, count=count)
        except (ToolError, VideoError, InternalError):
            raise
        except Act2SeeError as error:
            raise _ToolFailure(f"retriever {self.name}: {error}") from error

    def show(self, video: Video, spot: spots.Spot, *, shown: Collection[float], count: int) -> Sequence[Frame]:
        return spots.shown_by(self.inner, video, spot, shown=shown, count=count)


@dataclass(frozen=True, slots=True)
class _Generator:
    inner: Generator
    lock: threading.Lock

    @property
    def name(self) -> str:
        return self.inner.name

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        try:
            with self.lock:
                return self.inner.generate(prompt, anchor, seed=seed)
        except (ToolError, VideoError, InternalError):
            raise
        except Act2SeeError as error:
            raise _ToolFailure(f"generator {self.name}: {error}") from error
