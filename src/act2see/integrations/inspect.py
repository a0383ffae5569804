"""A benchmark as a task of Inspect (https://inspect.aisi.org.uk): the same loop and scoring, in Inspect's runner, logs and viewer.

    pip install 'act2see[local,inspect]'
    inspect eval act2see/act2see -T benchmark=synthetic -T n=20 --model none/none

The model is act2see's backend (`-T backend=huggingface:DIR`), not Inspect's: Inspect's messages carry no picture inside the assistant's turn. -T
accepts the options of `act2see eval`, with underscores: benchmark, n, data, backend, retriever, generator, fps, max_looks, seed, …
"""

import atexit
import tempfile
import threading
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import anyio.to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, Score, Scorer, Target, accuracy, grouped, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from act2see import registry
from act2see.config import EvalConfig, resolved
from act2see.core import chat
from act2see.core.errors import ConfigError, InternalError
from act2see.core.interfaces import Benchmark, Sample, is_concurrent
from act2see.core.trace import Observation
from act2see.evaluation import setup
from act2see.evaluation.evaluator import Scored
from act2see.execution.faults import unexpected


@task
def act2see(benchmark: str = "synthetic", **settings: Any) -> Task:
    """The benchmark's questions, answered by act2see's loop. Unknown settings are rejected."""
    known = {field.name for field in fields(EvalConfig)} - {"out", "resume", "json", "given", "official_judge"}
    if unknown := sorted(set(settings) - known):
        raise ConfigError(f"unknown setting {unknown[0]!r}; allowed: {', '.join(sorted(known))}")
    given: dict[str, Any] = {name: Path(value) if name == "data" else value for name, value in settings.items()}
    config = resolved(
        EvalConfig, {**given, "given": "right"}, benchmark=benchmark
    )  # Inspect asks in an order of its own, so that no question can quote another's answer
    clips = tempfile.TemporaryDirectory(prefix="act2see-")  # Inspect asks the questions after this has returned
    atexit.register(clips.cleanup)
    asked = registry.benchmark(benchmark, config, Path(clips.name))
    samples = {sample.id: sample for sample in asked.samples()}
    dataset = MemoryDataset([_as_inspects(sample) for sample in samples.values()], name=benchmark)
    return Task(dataset=dataset, solver=_looking(asked, samples, config), scorer=_ours())


def _as_inspects(sample: Sample) -> InspectSample:
    letter = chat.letters(len(sample.choices))[sample.choices.index(sample.answer)] if sample.answer in sample.choices else sample.answer
    return InspectSample(
        input=chat.question_text(sample.question, sample.choices),
        choices=list(sample.choices) or None,
        target=letter,
        id=sample.id,
        metadata={"video": str(sample.video), "kind": sample.kind, "groups": list(sample.groups)},
    )


@solver
def _looking(benchmark: Benchmark, samples: dict[str, Sample], config: EvalConfig) -> Solver:
    backend = registry.backend(config.backend, config)
    evaluator = setup.evaluator(config, benchmark, backend, setup.tools(config))
    # A local model's cache belongs to one question. What waits for a server is asked as many questions at once as Inspect wants.
    turns = nullcontext() if is_concurrent(backend) else threading.Lock()

    def answered(name: str) -> Scored:
        with turns:
            return evaluator.answer(samples[name])

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        try:
            with unexpected():
                scored = await anyio.to_thread.run_sync(answered, str(state.sample_id))
                text = "".join(piece if isinstance(piece, str) else _told(piece) for piece in chat.render(scored.trace.steps)) if scored.trace else ""
        except InternalError as error:
            scored, text = Scored(samples[str(state.sample_id)], "internal_error", None, str(error), error.traceback), ""
        state.output = ModelOutput.from_content(model=config.backend, content=text)
        state.metadata |= {"outcome": scored.outcome, "error": scored.error, "traceback": scored.traceback, "called": scored.called}
        state.completed = True
        return state

    return solve


def _told(observation: Observation) -> str:
    """Placeholder of a picture in a log."""
    if observation.error is not None:
        return f"<frame>error: {observation.error}</frame>"
    return "".join(f"<frame>{'imagined' if frame.seconds is None else f'{frame.seconds:.2f} s'}</frame>" for frame in observation.frames)


@scorer(metrics=[grouped(accuracy(), "kind"), stderr()])
def _ours() -> Scorer:
    """act2see's score: unanswered, truncated and failed questions count as wrong."""

    async def score(state: TaskState, target: Target) -> Score:
        outcome = state.metadata["outcome"]
        value = CORRECT if outcome == "correct" else NOANSWER if outcome == "no_answer" else INCORRECT
        return Score(value=value, answer=state.output.completion[-200:], explanation=state.metadata["error"] or outcome)

    return score
