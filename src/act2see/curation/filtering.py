"""Filters a run: writes the traces that are good enough for training to a new run, and the rejection reasons of the others.

Each trace is decoded once. Only little of it stays in memory: its rejection reasons, its statistics, and the names of its frame files.
"""

import logging
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from act2see import registry
from act2see.config import FilterConfig
from act2see.core.errors import ConfigError, InternalError, StoreError
from act2see.core.rejection_reasons import Reason
from act2see.core.trace import Cost, Trace
from act2see.curation.dataset_card import dataset_card
from act2see.curation.filter_statistics import Counted, Facts, facts_of, summarise
from act2see.curation.filters import Judged, Limits, objections, once_each, own_words, weigh
from act2see.curation.qa_records import Reference, read_references, reference_row, sample_and_number
from act2see.curation.review import VERDICTS_FILE, kept_verdicts
from act2see.curation.similarity import Pair, finished, reference_of, similarities
from act2see.execution.faults import unexpected
from act2see.execution.progress import ProgressCallback
from act2see.storage.atomic import content_of, replace_file, writing
from act2see.storage.folders import check_new, whole_folder
from act2see.storage.runs import JSON, SAMPLES, Place, Run, files_of

REJECTED, CARD = "rejected.jsonl", "README.md"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FilterResult:
    """The result of a filtering."""

    folder: Path
    """The run folder of the kept traces."""
    traces: int
    kept: int
    summary: Mapping[str, JSON]
    """The content of its summary.json."""
    judged: Sequence[Judged]
    """Every filtered trace, by question and try."""
    drawn: Sequence[tuple[Place, Reference]]
    """The sample of kept traces for manual review: their locations in the source run, and their questions."""
    source: Run
    """The source run."""


def no_pages(folder: Path, result: FilterResult) -> None:
    """Writes none."""


def filter_run(
    run: Run | Path | str, options: FilterConfig, *, progress: ProgressCallback | None = None, pages: Callable[[Path, FilterResult], None] = no_pages
) -> FilterResult:
    """Write the traces of `run` that pass the filters to a new run at `options.out`, atomically and without running the teacher.

    The new run holds rejected.jsonl, summary.json and a dataset card beside its traces. `pages` may write more into its folder before it takes its
    place. Notes go to the log. Raises `ConfigError` for options that do not go together, `StoreError` for a run that cannot be judged.
    """
    if options.page is not None and options.sample is None:
        raise ConfigError("--page needs a sample of traces: add --sample")
    run = run.folder if isinstance(run, Run) else Path(os.path.expanduser(run))
    if options.out.absolute() == run.absolute():
        raise ConfigError(f"--out cannot be the source run {run}: give another folder")
    check_new(options.out, REJECTED)
    source = Run.open(run)
    rows = source.rows(SAMPLES)
    if rows is None:
        raise StoreError(f"{run} has no {SAMPLES}: only runs of act2see construct can be filtered")
    filtering = _Filtering(source, read_references(rows), options)
    filtering.read()
    filtering.weigh(progress)
    before = _kept_before(options.out)
    with whole_folder(options.out, replaces=REJECTED) as folder:
        result = filtering.write(folder)
        pages(folder, result)
    if before is not None:
        _log.warning("replacing the %d traces of an earlier filtering in %s", before, options.out)
    return result


def _kept_before(out: Path) -> int | None:
    """How many traces an earlier filtering into the same folder kept; None where there was none."""
    try:
        return sum(1 for _ in Run.open(out).places())
    except StoreError:
        return None


@dataclass(frozen=True, slots=True)
class _Read:
    """What is remembered of a trace."""

    place: Place
    reference: Reference
    objections: Mapping[Reason, str]
    said: str
    facts: Facts
    files: tuple[str, ...]
    failed: bool
    """Its rules did, by a fault of ours: the only objection then."""


class _Filtering:
    """One run between being read and being written."""

    def __init__(self, run: Run, references: Mapping[str, Reference], options: FilterConfig) -> None:
        self._run, self._references, self._options = run, references, options
        self._limits = Limits(options.reference_similarity, options.leak_words, frozenset(options.ignore))
        self._damaged: list[str] = []
        self._read: dict[str, _Read] = {}
        self._failed: list[Cost] = []
        self._counted: list[Counted] = []
        self._has_verdicts = False
        self._names: dict[str, str] = {}

    def read(self) -> None:
        """Go through the traces, each once."""
        self._read, self._failed = finished(self._run, self._remembered, self._references, self._damaged)
        if self._damaged:
            _log.warning("%d traces are unreadable and not filtered; the first: %s", len(self._damaged), self._damaged[0])

    def _remembered(self, place: Place, trace: Trace) -> _Read:
        reference = reference_of(trace, self._references)
        files = tuple(self._names.setdefault(name, name) for name in files_of(trace))  # traces about one video share most
        found: Mapping[Reason, str]
        try:
            with unexpected():
                found, failed = objections(trace, reference, self._limits), False
        except InternalError as error:
            found, failed = {"internal_error": str(error)}, True
        return _Read(place, reference, found, own_words(trace), facts_of(trace, reference), files, failed)

    def weigh(self, progress: ProgressCallback | None) -> None:
        """Compare with people's reasoning, hear what was said by hand, and decide."""
        verdicts = kept_verdicts(self._run, self._options.verdicts, self._read)
        self._has_verdicts = bool(verdicts)
        by_hand = {name: one.note for name, one in verdicts.items() if not one.is_kept}
        alike = self._similarities(progress)

        def judged(name: str) -> Judged:
            one = self._read[name]
            if one.failed:
                return Judged(name, one.reference.id, one.objections, alike.get(name))
            return weigh(name, one.reference, one.objections, alike.get(name), self._limits, by_hand.get(name))

        tries = sorted(self._read, key=sample_and_number)
        self._counted = [Counted(one, self._read[one.trace].facts) for one in once_each(map(judged, tries), self._limits)]

    def _similarities(self, progress: ProgressCallback | None) -> dict[str, float]:
        options = self._options
        pairs = {name: Pair(one.said, one.reference.reasoning) for name, one in self._read.items() if one.reference.reasoning}
        return similarities(self._run, pairs, lambda: registry.embedder(options.embedder, options.device), options.embedder, progress)

    def write(self, folder: Path) -> FilterResult:
        """The kept traces as a run, and beside them everything that is to be known of them and of the others."""
        summary = self._summary()
        kept = {self._read[one.judged.trace].place: self._read[one.judged.trace].files for one in self._counted if one.judged.is_kept}
        filtered: JSON = {"digest": self._run.digest, "traces": self._run.digest_of_traces(), "config": self._run.config}
        about: dict[str, JSON] = {"filtered": filtered, **self._settings()}
        made = self._run.selection(folder, kept, command="filter", config=about, seed=None)
        answered = {one.judged.sample for one in self._counted if one.judged.is_kept}
        made.write_rows(SAMPLES, (reference_row(one) for name, one in self._references.items() if name in answered))
        made.write_rows(REJECTED, (_row(one.judged) for one in self._counted if not one.judged.is_kept))
        made.write_summary(summary)
        with writing(folder):
            replace_file(folder / CARD, dataset_card(summary, self._run.config).encode())
            if self._has_verdicts:
                (folder / VERDICTS_FILE).write_bytes(content_of(self._run.folder, VERDICTS_FILE))
        judged = [one.judged for one in self._counted]
        return FilterResult(self._options.out, len(judged), sum(one.is_kept for one in judged), summary, judged, self._drawn(judged), self._run)

    def _settings(self) -> dict[str, JSON]:
        options = self._options
        return {
            "reference_similarity": options.reference_similarity,
            "embedder": options.embedder,
            "ignore": list(options.ignore),
            "leak_words": options.leak_words,
            **({} if options.preset is None else {"preset": options.preset}),
        }

    def _summary(self) -> dict[str, JSON]:
        return {"settings": self._settings(), **summarise(self._counted, len(self._references), self._failed), "unreadable": len(self._damaged)}

    def _drawn(self, judged: Sequence[Judged]) -> list[tuple[Place, Reference]]:
        kept = sorted(one.trace for one in judged if one.is_kept)
        drawn = sorted(random.Random(self._options.seed).sample(kept, min(self._options.sample or 0, len(kept))))
        return [(self._read[name].place, self._read[name].reference) for name in drawn]


def _row(one: Judged) -> dict[str, JSON]:
    return {
        "trace": one.trace,
        "sample": one.sample,
        "first": one.first,
        "reasons": dict(one.reasons.items()),
        "similarity": one.similarity,
    }
