"""Integration with lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval): the model's name, its settings, and the processing of requests.

The model class is in `lmms_eval_model`, since it extends one of lmms-eval's; here only `manifest`, which lmms-eval calls, needs lmms-eval.
"""

import difflib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import FrameType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from act2see import registry
from act2see.config import EvalConfig, EvalExecutionConfig, RayConfig, recorded, resolved
from act2see.core.errors import ConfigError, StoreError
from act2see.core.interfaces import Sample, batched, is_concurrent
from act2see.core.trace import Trace
from act2see.evaluation import setup
from act2see.evaluation.runner import Failure, Runner, RunSettings, StoredTraces, open_run
from act2see.execution.metering import cost_tracking
from act2see.execution.pool import imap_unordered
from act2see.integrations.ray.actors import Unscored
from act2see.storage.codec import shown

_THE_TASKS = frozenset(
    {"n", "kind", "data", "subtitles", "answer_judge", "judge_prompts", "official_judge", "given", "limit", "shard", "shuffle_options", "json"},
).union(field.name for field in fields(RayConfig) if field.name.startswith("ray"))
"""Options of `act2see eval` that a model of lmms-eval lacks: the task and lmms-eval control questions, scoring, machines and output."""
_HINTS: Mapping[str, Any] = {
    name: hint
    for kind in (EvalConfig, EvalExecutionConfig)
    for name, hint in get_type_hints(kind, include_extras=True).items()
    if name not in _THE_TASKS
}


def manifest() -> Any:
    """Entry point through which lmms-eval finds the model. Called at every start of lmms-eval, so it loads no model code."""
    from lmms_eval.models.registry_v2 import ModelManifest  # noqa: PLC0415 - lmms-eval is there when it calls

    return ModelManifest(model_id="act2see", simple_class_path="act2see.integrations.lmms_eval_model.Act2See")


# Settings


@dataclass(frozen=True, slots=True)
class Settings:
    """Model settings and execution settings."""

    config: EvalConfig
    execution: EvalExecutionConfig

    @classmethod
    def read(cls, given: Mapping[str, object]) -> "Settings":
        """From lmms-eval's model_args. Raises `ConfigError` for an unknown name and an invalid value."""
        for name in given:
            _refuse_unknown(name)
        values = {name: _converted(name, value, _HINTS[name]) for name, value in given.items()}
        paced = {field.name for field in fields(EvalExecutionConfig)}
        config = resolved(EvalConfig, {name: value for name, value in values.items() if name not in paced})
        if config.resume and config.out is None:
            raise ConfigError("resume needs the run folder: add out=DIR")
        setup.check_models(config)
        return cls(config, EvalExecutionConfig(**{name: value for name, value in values.items() if name in paced}))


def refuse_batches(batch_size: object, max_batch_size: object) -> None:
    """Raise `ConfigError` for any batch but one question."""
    if max_batch_size is not None or str(batch_size) != "1":
        said = batch_size if max_batch_size is None else max_batch_size
        raise ConfigError(f"lmms-eval passes one question at a time: remove the batch size {said}, and set workers=N in model_args")


def refuse_processes(environment: Mapping[str, str]) -> None:
    """Raise `ConfigError` where a launcher has started several processes."""
    if environment.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(f"act2see runs in one process, not {environment['WORLD_SIZE']}: start lmms-eval without a launcher")


def refuse_cache(caller: FrameType | None) -> None:
    """Raise `ConfigError` where lmms-eval keeps responses for later runs (`--use_cache`). `caller` is the frame from which a model is made or asked.

    lmms-eval tells a model nothing of its cache, so the functions that are under way are looked through. Its key holds the request's text, its
    number and model_args as written: neither the video, nor the number of a repetition, nor what lies in the model's folder.
    """
    while caller is not None:
        module = caller.f_globals.get("__name__")
        is_told = module == "lmms_eval.evaluator" and caller.f_code.co_name == "simple_evaluate" and caller.f_locals.get("use_cache") is not None
        if is_told or module == "lmms_eval.caching.response_cache":
            raise ConfigError(
                "lmms-eval's --use_cache would return old answers for changed videos and weights, and one answer for all repetitions: remove it; "
                "to store and reuse checked answers, use --model_args …,out=DIR,resume=true"
            )
        caller = caller.f_back


def _refuse_unknown(name: str) -> None:
    if name in _THE_TASKS:
        raise ConfigError(f"{name!r} is not a model setting: lmms-eval selects and scores the questions (--tasks, --limit)")
    if name not in _HINTS:
        near = difflib.get_close_matches(name.replace("-", "_"), _HINTS, n=1, cutoff=0.75)
        raise ConfigError(f"unknown setting {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(sorted(_HINTS))}"))


def _converted(name: str, value: object, hint: Any) -> Any:
    """A value of model_args as its setting has it; what the command line checks is checked here too.

    lmms-eval has made some of them numbers and truths already: `3` an int, `-1` and `0.5` floats, `true` a bool.
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        found = _converted(name, value, parts[0])
        checks: Any = [note.validator for note in parts[1:] if isinstance(note, Parameter)]
        for check in (one for some in checks for one in some):
            try:
                check(parts[0], found)
            except ValueError as error:
                raise ConfigError(f"{name} is {shown(value)}: {error}") from error
        return found
    if origin in (Union, UnionType):
        return _converted(name, value, next(part for part in parts if part is not type(None)))
    if origin is Literal:
        if value not in parts:
            raise ConfigError(f"{name} is {shown(value)}: allowed are {', '.join(parts)}")
        return value
    if origin is tuple:
        return tuple(_converted(name, one, parts[0]) for one in _listed(name, value))
    return _plain(name, value, hint)


def _plain(name: str, value: object, kind: type) -> Any:
    text = value.strip() if isinstance(value, str) else None
    if kind is bool and (isinstance(value, bool) or text in ("true", "false")):
        return value is True or text == "true"
    if kind is int and isinstance(value, int | float | str) and not isinstance(value, bool) and re.fullmatch(r"[+-]?\d+(\.0)?", str(value)):
        return int(str(value).removesuffix(".0"))
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        number = _number(value)
        if number is not None and math.isfinite(number):
            return number
    if kind is Path and isinstance(value, str | Path):
        return Path(_text(name, value) if isinstance(value, str) else value)
    if kind is str and isinstance(value, str):
        return _text(name, value)
    wanted = {bool: "true or false is", int: "a whole number is", float: "a number is", Path: "a path is", str: "a text is"}
    quotes = f'; if it is one, write {name}="{value}"' if kind in (Path, str) else ""
    raise ConfigError(f"{name} is {shown(value)}: {wanted[kind]} expected{quotes}")


def _number(value: float | str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _text(name: str, value: str) -> str:
    """A text as it is, or, where it stands in double quotes, as JSON reads it: how a line end or a name of digits gets through lmms-eval."""
    return str(_json(name, value)) if len(value) > 1 and value[0] == value[-1] == '"' else value


def _listed(name: str, value: object) -> Iterable[object]:
    """One value, or several as [a,b]: lmms-eval parts its arguments at commas, but not in brackets."""
    if isinstance(value, str) and value.strip().startswith("["):
        value = _json(name, value)
    return value if isinstance(value, list | tuple) else (value,)


def _json(name: str, value: str) -> object:
    try:
        found: object = json.loads(value)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name} is {shown(value)}, which is not valid JSON: {error}") from error
    return found


# Requests


def one_video(visuals: object, task: str) -> Path:
    """The video's file, where that is all that a request shows. Raises `ConfigError` for pictures, several files and nothing."""
    found = list(visuals) if isinstance(visuals, list | tuple) else [] if visuals is None else [visuals]
    if len(found) == 1 and isinstance(found[0], str | os.PathLike):
        return Path(found[0])
    kinds = ", ".join(sorted({type(one).__name__ for one in found}))
    said = f"{len(found)} visuals ({kinds})" if found else "no visual"
    raise ConfigError(f"task {task!r} shows {said}: act2see needs exactly one video file; choose a task that provides its path")


def asked(context: str, visuals: object, task: str, split: str, doc: object, turn: int = 0) -> Sample:
    """A request as a question without choices: what there is to choose from stands in the text. `turn` counts the same question's repetitions."""
    again = f"#{turn}" if turn else ""  # another id, for which other words are drawn
    return Sample(f"{task}/{split}/{doc}{again}", one_video(visuals, task), context, (), "", task)


@dataclass(frozen=True, slots=True)
class Reply:
    """What lmms-eval gets of an answer: its text, empty where there is none, and the tokens that it took. `error`: why there is none."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    error: str | None = None
    traceback: str | None = None
    """Of an internal error."""

    @classmethod
    def of(cls, trace: Trace | None, error: str | None) -> "Reply":
        """Of how a question ended."""
        if trace is None:
            return cls("", error=error)
        return cls(trace.answer or "", trace.cost.tokens_in, trace.cost.tokens_out, error)


class Answering:
    """The models, loaded, and the run that keeps their traces. What goes wrong in the making is a `ConfigError`, `BackendError` or `StoreError`."""

    def __init__(self, settings: Settings) -> None:
        config, execution = settings.config, settings.execution
        loaded = batched(registry.backend(config.backend, config), execution.workers)
        backend = cost_tracking(loaded, execution.prices, execution.requests_per_minute)
        if execution.workers > 1 and not is_concurrent(backend):
            raise ConfigError(f"backend {config.backend!r} handles one question at a time: remove workers={execution.workers}")
        evaluator = setup.evaluator(config, Unscored(), backend, setup.tools(config))
        self._evaluator = replace(evaluator, scope=replace(evaluator.scope, choices_in_text=True))
        self._lock = ExitStack()  # of the run folder, for as long as lmms-eval keeps the model
        run = None if config.out is None else self._lock.enter_context(open_run(config.out, _settings(config), resume=config.resume))
        self._runner = Runner.of(execution, run, execution.workers)
        self._stored = StoredTraces.read(run, "and their questions are asked again") if run and config.resume else None

    def answer(self, questions: Iterable[Sample]) -> Iterator[tuple[int, Reply]]:
        """The number of each question, from 0, and its reply, as they are done. Raises `BackendError` once the backend has failed for too long."""
        return imap_unordered(enumerate(questions), self._numbered, self._runner.workers)

    def _numbered(self, numbered: tuple[int, Sample]) -> tuple[int, Reply]:
        number, sample = numbered
        reply = self._runner.guard(
            lambda: self._kept(sample) or self._new(sample),
            lambda error: Reply("", error=str(error), traceback=error.traceback),
            lambda reply: [Failure(sample.id, reply.error, reply.traceback)],
        )
        return number, reply

    def _kept(self, sample: Sample) -> Reply | None:
        """The reply of a resumed run. A task may have changed in between: the same name must be the same question."""
        if self._stored is None or sample.id not in self._stored.places:
            return None
        run = self._stored.run
        trace = run.sketch_at(self._stored.places[sample.id])
        if (trace.question, trace.video) != (sample.question, str(sample.video)):
            raise StoreError(f"{run.folder} has a different question {sample.id!r}: the task has changed; give another folder")
        return Reply.of(trace, None)

    def _new(self, sample: Sample) -> Reply:
        scored = self._runner.ask(lambda: self._evaluator.answer(sample), lambda scored: scored.backend_problem)
        if self._runner.run is not None and scored.trace is not None:
            self._runner.run.append(scored.trace)
        return replace(Reply.of(scored.trace, scored.error), traceback=scored.traceback)


def _settings(config: EvalConfig) -> RunSettings:
    return RunSettings("lmms-eval", recorded(config, leave_out={"out", "resume", "cache", *_THE_TASKS}), config.seed)
