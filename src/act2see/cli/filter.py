"""`act2see filter`: which of a run's traces are good enough to train on."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import complain, progressing, say, say_json
from act2see.cli.runs import note_damaged
from act2see.config import FilterConfig, SettingsFile
from act2see.core.errors import ConfigError, InternalError, StoreError
from act2see.execution.faults import unexpected

if TYPE_CHECKING:
    from act2see.core.trace import Cost
    from act2see.curation.filter_statistics import Counted
    from act2see.curation.qa_records import Reference
    from act2see.storage.runs import Place, Run

REJECTED, PAGE, CARD = "rejected.jsonl", "filter.html", "README.md"


def filter_run(
    run: Annotated[Path, Parameter(help="Run folder of act2see construct.")],
    /,
    *,
    settings: Annotated[FilterConfig, Parameter(name="*")],
    config: SettingsFile = None,
) -> int:
    """Keep the traces that are right, like the person's reasoning, well-formed, and use what they see; tell of all others why not.

    --out becomes a run with the kept traces, rejected.jsonl, a page with plots (filter.html) and a dataset card. No model that teaches is asked.
    """
    del config
    from act2see import registry
    from act2see.curation.qa_records import read_references
    from act2see.curation.review import VERDICTS_FILE, kept_verdicts
    from act2see.curation.similarity import finished, similarities
    from act2see.storage.atomic import content_of
    from act2see.storage.folders import check_new, whole_folder
    from act2see.storage.runs import SAMPLES, Run

    if settings.page is not None and settings.sample is None:
        raise ConfigError("the page needs traces: say how many with --sample")
    if settings.out.absolute() == run.absolute():
        raise ConfigError(f"the kept traces cannot take the place of {run}: name another folder with --out")
    check_new(settings.out, REJECTED)
    opened = Run.open(run)
    rows = opened.rows(SAMPLES)
    if rows is None:
        raise StoreError(f"{run} holds no {SAMPLES}: only a run of act2see construct tells by what its traces can be judged")
    references = read_references(rows)
    damaged: list[str] = []
    places, failed = finished(opened, references, damaged)
    note_damaged(damaged, "and are not judged")
    verdicts = kept_verdicts(opened, settings.verdicts, places)
    found = similarities(
        opened,
        places,
        references,
        lambda: registry.embedder(settings.embedder, settings.device),
        settings.embedder,
        lambda ids: progressing(ids, "texts compared", len(list(ids))),
    )
    everything = _judged(opened, places, references, found, settings, {name: one.note for name, one in verdicts.items() if not one.is_kept})
    summary = {**_summary(everything, len(references), failed, settings), "unreadable": len(damaged)}
    before = _kept_before(settings.out)
    with whole_folder(settings.out, replaces=REJECTED) as folder:
        _write(folder, opened, places, everything, references, summary)
        if verdicts:
            (folder / VERDICTS_FILE).write_bytes(content_of(run, VERDICTS_FILE))
    if before is not None:
        complain(f"note: the {before} traces that an earlier filtering kept in {settings.out} are replaced")
    if settings.page is not None:
        _write_review(settings.page, opened, places, everything, references, settings)
    _tell(summary, settings)
    return ANSWERED


def _kept_before(out: Path) -> int | None:
    """How many traces an earlier filtering into the same folder kept; None where there was none."""
    from act2see.storage.runs import Run

    try:
        return sum(1 for _ in Run.open(out).places())
    except StoreError:
        return None


def _judged(
    run: "Run",
    places: "Mapping[str, Place]",
    references: "Mapping[str, Reference]",
    similarity: Mapping[str, float],
    settings: FilterConfig,
    rejected_by_hand: Mapping[str, str],
) -> "list[Counted]":
    from act2see.curation.filter_statistics import counted
    from act2see.curation.filters import Judged, Limits, judge, once_each
    from act2see.curation.qa_records import sample_and_number
    from act2see.curation.similarity import reference_of

    limits = Limits(settings.reference_similarity, settings.leak_words, frozenset(settings.ignore))

    def judged(name: str) -> Judged:
        trace = run.sketch_at(places[name])
        reference, alike = reference_of(trace, references), similarity.get(name)
        try:
            with unexpected():
                return judge(trace, reference, alike, limits, rejected_by_hand.get(name))
        except InternalError as error:
            return Judged(trace.id, reference.id, {"internal_error": str(error)}, alike)

    tries = sorted(places, key=sample_and_number)
    return [counted(one, run.sketch_at(places[one.trace]), references[one.sample]) for one in once_each(map(judged, tries), limits)]


def _summary(everything: "Sequence[Counted]", questions: int, failed: "Sequence[Cost]", settings: FilterConfig) -> dict[str, Any]:
    from act2see.curation.filter_statistics import summarise

    named = {
        "reference_similarity": settings.reference_similarity,
        "embedder": settings.embedder,
        "ignore": list(settings.ignore),
        "leak_words": settings.leak_words,
    }
    return {"settings": named, **summarise(everything, questions, failed)}


def _write(
    folder: Path,
    run: "Run",
    places: "Mapping[str, Place]",
    everything: "Sequence[Counted]",
    references: "Mapping[str, Reference]",
    summary: dict[str, Any],
) -> None:
    """The kept traces as a run, and beside them everything that is to be known of them and of the others."""
    from act2see.curation.dataset_card import dataset_card
    from act2see.curation.qa_records import reference_row
    from act2see.report.filter_page import render_filter
    from act2see.report.page import write_page
    from act2see.storage.runs import SAMPLES

    kept = {places[one.judged.trace] for one in everything if one.judged.is_kept}
    about = {"filtered": {"digest": run.digest, "traces": run.digest_of_traces(), "config": run.config}, **summary["settings"]}
    made = run.subset(folder, lambda place, _: place in kept, command="filter", config=about, seed=None, damaged=[])
    answered = {one.judged.sample for one in everything if one.judged.is_kept}
    made.write_rows(SAMPLES, (reference_row(one) for name, one in references.items() if name in answered))
    made.write_rows(REJECTED, (_row(one) for one in everything if not one.judged.is_kept))
    made.write_summary(summary)
    write_page(folder / PAGE, render_filter(summary))
    write_page(folder / CARD, dataset_card(summary, run.config))


def _row(one: "Counted") -> dict[str, Any]:
    judged = one.judged
    return {"trace": judged.trace, "sample": judged.sample, "first": judged.first, "reasons": dict(judged.reasons), "similarity": judged.similarity}


def _write_review(
    page: Path,
    run: "Run",
    places: "Mapping[str, Place]",
    everything: "Sequence[Counted]",
    references: "Mapping[str, Reference]",
    settings: FilterConfig,
) -> None:
    from act2see.report.page import write_page
    from act2see.report.review_page import render_review

    kept = sorted(one.judged.trace for one in everything if one.judged.is_kept)
    drawn = sorted(random.Random(settings.seed).sample(kept, min(settings.sample or 0, len(kept))))
    samples = {one.judged.trace: one.judged.sample for one in everything}
    shown = [(run.trace_at(places[name]), references[samples[name]]) for name in drawn]
    write_page(page, render_review(shown))


def _tell(summary: dict[str, Any], settings: FilterConfig) -> None:
    if settings.json:
        say_json({**summary, "folder": str(settings.out)})
        return
    counts = summary["paper_counts"]
    say(f"{summary['kept']} of {summary['traces']} traces kept, on {summary['kept_questions']} of {summary['questions']} questions")
    shared = counts["share_with_a_frame"]
    with_a_frame = f"{counts['with_a_frame']}{'' if shared is None else f' ({shared:.1%})'}"
    say(f"with a frame: {with_a_frame}; retrieved {counts['with_retrieved']}, generated {counts['with_generated']}")
    for reason, row in summary["by_reason"].items():
        say(f"  {reason.replace('_', ' '):<17} {row['first']:>5} rejected for it first, it speaks against {row['any']}")
    if summary["unfinished"]:
        complain(f"note: {summary['unfinished']} tries were ended by a failure and are not judged; act2see construct --resume makes up for them")
    say(settings.out / PAGE)
    if settings.page is not None:
        say(settings.page)
