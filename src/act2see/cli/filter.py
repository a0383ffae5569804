"""`act2see filter`: selects a run's traces for training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import complain, say, say_json, show_progress
from act2see.config import FilterConfig, SettingsFile


def filter_run(
    run: Annotated[Path, Parameter(help="Run folder of act2see construct.")],
    /,
    *,
    settings: Annotated[FilterConfig, Parameter(name="*")],
    config: SettingsFile = None,
) -> int:
    """Keep the traces that are right, similar to the human reasoning, well-formed and that use their frames; list why others are rejected.

    --out becomes a run with the kept traces, rejected.jsonl, a page with plots (filter.html) and a dataset card. The teacher is not run again.
    """
    del config
    from act2see import api

    with show_progress() as progress:
        result = api.filter_run(run, settings, progress=progress)
    _show(result.summary, settings)
    return ANSWERED


def _show(summary: Mapping[str, Any], settings: FilterConfig) -> None:
    from act2see import api

    if settings.json:
        say_json({**summary, "folder": str(settings.out)})
        return
    counts = summary["paper_counts"]
    say(f"{summary['kept']} of {summary['traces']} traces kept, on {summary['kept_questions']} of {summary['questions']} questions")
    shared = counts["share_with_a_frame"]
    with_a_frame = f"{counts['with_a_frame']}{'' if shared is None else f' ({shared:.1%})'}"
    say(f"with a frame: {with_a_frame}; retrieved {counts['with_retrieved']}, generated {counts['with_generated']}")
    for reason, row in summary["by_reason"].items():
        say(f"  {reason.replace('_', ' '):<17} {row['first']:>5} rejected for it first, {row['any']} in all")
    if summary["unfinished"]:
        complain(f"note: {summary['unfinished']} tries failed and are not filtered; act2see construct --resume repeats them")
    say(settings.out / api.FILTER_PAGE)
    if settings.page is not None:
        say(settings.page)
