"""`act2see filter`: which of a run's traces are good enough to train on."""

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
    """Keep the traces that are right, like the person's reasoning, well-formed, and use what they see; say of all others why not.

    --out becomes a run with the kept traces, rejected.jsonl, a page with plots (filter.html) and a dataset card. No model that teaches is asked.
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
        say(f"  {reason.replace('_', ' '):<17} {row['first']:>5} rejected for it first, it speaks against {row['any']}")
    if summary["unfinished"]:
        complain(f"note: {summary['unfinished']} tries were ended by a failure and are not judged; act2see construct --resume makes up for them")
    say(settings.out / api.FILTER_PAGE)
    if settings.page is not None:
        say(settings.page)
