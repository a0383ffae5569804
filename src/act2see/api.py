"""The commands as Python functions: `ask`, `evaluate`, `construct` and others, without a terminal.

Each takes a frozen dataclass of options, returns a frozen result, reports progress to a callback and logs warnings to the `act2see` logger.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from act2see.config import (
    AskConfig,
    EvalConfig,
    EvalExecutionConfig,
    ExecutionConfig,
    FilterConfig,
    SearchConfig,
    TranscriptConfig,
    ViewConfig,
)
from act2see.config.checks import check_file_to_write, check_question
from act2see.core.engine import Delta
from act2see.core.errors import ConfigError, StoreError
from act2see.core.interfaces import Retriever
from act2see.core.trace import Frame, Step
from act2see.curation import filtering
from act2see.curation.construct import ConstructResult, construct
from act2see.curation.export.writing import ExportResult, export_run
from act2see.curation.filtering import FilterResult
from act2see.evaluation import audit as auditing
from act2see.evaluation import evaluate as evaluating
from act2see.evaluation.ablation import MEANINGS
from act2see.evaluation.audit import AuditResult
from act2see.evaluation.compare import Comparison, compare
from act2see.evaluation.conversation import Answering, AskResult, Conversation, Models, load_models
from act2see.evaluation.evaluate import EvalResult
from act2see.evaluation.frames import GenerateResult, RetrieveResult, find_frames, index_video, search_frames
from act2see.evaluation.frames import generate_frame as generate
from act2see.evaluation.indexing import IndexResult, index_videos
from act2see.evaluation.rescoring import ScoreResult, score
from act2see.evaluation.searching import SearchResult, search_videos
from act2see.execution.progress import ProgressCallback
from act2see.report import write_report
from act2see.report.audit_page import render_audit
from act2see.report.filter_page import render_filter
from act2see.report.page import write_page
from act2see.report.review_page import render_review
from act2see.report.site import PAGE, VIEW, ViewResult, write_view
from act2see.storage.cache import Cache
from act2see.storage.runs import JSON, Run
from act2see.training.application import TrainResult, train
from act2see.video import Video
from act2see.video.transcript import Transcript, read_transcript

__all__ = [
    "AUDIT_PAGE",
    "FILTER_PAGE",
    "VIEW_PAGE",
    "Answering",
    "AskResult",
    "AuditResult",
    "Comparison",
    "ConstructResult",
    "Conversation",
    "EvalResult",
    "ExportResult",
    "FilterResult",
    "GenerateResult",
    "IndexResult",
    "Models",
    "RetrieveResult",
    "ScoreResult",
    "SearchResult",
    "TrainResult",
    "Transcript",
    "ViewResult",
    "ask",
    "audit",
    "compare",
    "construct",
    "evaluate",
    "export_run",
    "filter_run",
    "find_frames",
    "generate",
    "index_video",
    "index_videos",
    "load_models",
    "retrieve",
    "score",
    "search_videos",
    "stream",
    "train",
    "transcript",
    "view",
]

_log = logging.getLogger(__name__)
AUDIT_PAGE, FILTER_PAGE = "audit.html", "filter.html"
"""File names of the pages with charts in a run folder."""
VIEW_PAGE = f"{VIEW}/{PAGE}"
"""Where `view` writes the first page of a run's site by default, in the run folder."""


def ask(
    video: Video | str | os.PathLike[str],
    question: str,
    options: AskConfig | None = None,
    *,
    models: Models | None = None,
    on_event: Callable[[Delta | Step], None] = lambda event: None,
    on_result: Callable[["AskResult"], None] = lambda result: None,
    progress: ProgressCallback | None = None,
) -> AskResult:
    """Ask a question about a video.

    `on_event` receives the text as it streams and every step once it is in the trace, `on_result` the result before the report is written, so a
    full disk does not lose the answer. `models` are loaded at each call unless given. With `options.save` the trace is appended to a run folder,
    with `options.report` it is written as an HTML page, even after an interrupt. Raises `ConfigError`, `VideoError`, `BackendError`, `StoreError`,
    and `ScopeError` for input outside the embedded models' domain.
    """
    options = options or AskConfig()
    check_file_to_write(options.report, str(video.path if isinstance(video, Video) else video), run=options.save)
    with stream(video, question, options, models=models, progress=progress) as answering:
        try:
            for event in answering:
                on_event(event)
        except KeyboardInterrupt:
            answering.close()
            kept = [options.save] if options.save and answering.trace.steps else []
            if options.report:
                write_report(answering.trace, options.report)
                kept.append(options.report)
            if kept:
                _log.warning("the partial trace is saved in %s", " and ".join(map(str, kept)))
            raise
    result = answering.result
    on_result(result)
    if options.report:
        write_report(result.trace, options.report)
    return result


def stream(
    video: Video | str | os.PathLike[str],
    question: str,
    options: AskConfig | None = None,
    *,
    models: Models | None = None,
    progress: ProgressCallback | None = None,
) -> Answering:
    """Ask a question about a video, and iterate over its answer: text as it streams, and each step once it is in the trace.

    As `ask` with a loop in place of `on_event`; the options' `report` is not written. For several questions about a video, see `Conversation`.
    """
    options = options or AskConfig()
    check_question(question, options.choices)
    return Conversation(video, options, models=models, save=options.save, progress=progress).stream(question, options.choices)


def evaluate(
    benchmark: str, options: EvalConfig | None = None, execution: EvalExecutionConfig | None = None, *, progress: ProgressCallback | None = None
) -> EvalResult:
    """Like `evaluation.evaluate.evaluate`; with `execution.view` also writes the run as a site into its folder `view`."""
    if execution is not None and execution.view:
        if options is None or options.out is None:
            raise ConfigError("--view is written into the run: add --out")
        if execution.shard is not None:
            raise ConfigError("--view needs all questions: run act2see view after the last shard")
    result = evaluating.evaluate(benchmark, options, execution, progress=progress)
    if result.folder is not None and execution is not None and execution.view:
        view(result.folder, progress=progress)
    return result


def view(
    run: Run | Path | str,
    other: Run | Path | str | None = None,
    options: ViewConfig | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> ViewResult:
    """Write a run as a static site: a gallery to filter, search and sort, and each trace with its frames.

    With two evaluations of one benchmark, shows both side by side with what the second gained and lost, as `compare` counts it. With a construction
    and what `filter_run` kept of it, shows the rejection reasons of each trace. An audit's page then links to its questions. Traces that cannot be
    read are left out, with a warning. Raises `ConfigError` and `StoreError`.
    """
    first, second = Run.of(run), None if other is None else Run.of(other)
    written = write_view(first, second, None if options is None else options.out, progress=progress)
    if written.left_out:
        _log.warning("%d traces cannot be read and are left out; the first: %s", len(written.left_out), written.left_out[0])
    if first.command == "audit" and second is None and written.page == first.folder / VIEW_PAGE:
        try:
            _write_audit_page(first.folder, auditing.stored_summary(first))
        except StoreError as error:
            _log.warning("%s keeps its links: %s", first.folder / AUDIT_PAGE, error)
    return written


def _write_audit_page(folder: Path, summary: Mapping[str, JSON] | None) -> None:
    """With links into the run's site, where there is one."""
    if summary is not None:
        write_page(folder / AUDIT_PAGE, render_audit(summary, MEANINGS, VIEW_PAGE if (folder / VIEW_PAGE).is_file() else None))


def audit(
    benchmark: str, options: EvalConfig | None = None, execution: ExecutionConfig | None = None, *, progress: ProgressCallback | None = None
) -> AuditResult:
    """Like `evaluation.audit.audit`; with `options.out` also writes a page with charts."""
    result = auditing.audit(benchmark, options, execution, progress=progress)
    if result.folder is not None:
        _write_audit_page(result.folder, result.summary)
    return result


def filter_run(run: Run | Path | str, options: FilterConfig, *, progress: ProgressCallback | None = None) -> FilterResult:
    """Like `curation.filtering.filter_run`; also writes a page with charts into the new run and, with `options.page`, one for manual review."""
    result = filtering.filter_run(run, options, progress=progress, pages=_write_filter_page)
    if options.page is not None:
        write_page(options.page, render_review([(result.source.trace_at(place), record) for place, record in result.drawn]))
    return result


def _write_filter_page(folder: Path, result: FilterResult) -> None:
    write_page(folder / FILTER_PAGE, render_filter(result.summary))


def transcript(
    video: Video | str | os.PathLike[str], options: TranscriptConfig | None = None, *, progress: ProgressCallback | None = None
) -> Transcript:
    """Read what is said and written in a video, as lines with times in seconds; nothing is written.

    `progress` counts the seconds of video read. With `options.cache`, what an earlier call has read is not read again, also where it was
    interrupted. Raises `ConfigError` for a source that cannot be read with, `VideoError` for what is no video.
    """
    options = options or TranscriptConfig()
    opened = video if isinstance(video, Video) else Video(video)
    return read_transcript(opened, options, Cache() if options.cache else None, progress)


def retrieve(
    video: Video | str | os.PathLike[str], query: str, *, retriever: Retriever | str = "auto", count: int = 1, config: SearchConfig | None = None
) -> list[Frame]:
    """The `count` frames of the video that best match the query, best first, at full resolution; fewer if the video has fewer.

    Each has its timestamp in `seconds`, its `score` and, in `match`, details of the selection, such as whether it is only a fallback. `retriever` is
    an instance, or a name such as `siglip:DIR`, which is loaded at each call; the default `auto` is `micro` for a video of the synthetic world, and
    `words`, what is said and written, for any other. `config` sets the search options of a named retriever; its `force` lets the embedded one search
    any video.

    Raises `NoMatchError` if nothing said or written matches, `ScopeError` for a video outside the embedded retriever's domain, `VideoError` for an
    invalid video, `ConfigError` for invalid options and `ToolError` if nothing is found.
    """
    if count < 1:
        raise ConfigError(f"count is {count}; it must be at least 1")
    config = config or SearchConfig()
    if isinstance(retriever, str):
        return list(search_frames(video, query, replace(config, retriever=retriever), count).frames)
    return list(search_frames(video, query, config, count, retriever=retriever).frames)
