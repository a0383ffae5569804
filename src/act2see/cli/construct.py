"""`act2see construct`: generates a teacher's traces on human-annotated questions, for filtering and training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, FAILURE
from act2see.cli.options import Options
from act2see.cli.output import complain, note_omitted_frames, report_faults, say, say_json, show_progress
from act2see.config import ConstructConfig, ConstructExecutionConfig, SettingsFile

if TYPE_CHECKING:
    from act2see.curation.construct import ConstructResult


def construct(
    source: Annotated[str, Parameter(help="synthetic, minerva, causalvqa, social-genome, jsonl (with --data), or package.module:Class.")],
    /,
    *,
    settings: Annotated[ConstructConfig, Parameter(name="*")] = ConstructConfig(),
    execution: Annotated[ConstructExecutionConfig, Parameter(name="*")] = ConstructExecutionConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Generate a teacher's traces on a data set's questions, with real tools and retries after wrong answers. --out stores every try.

    Select the good ones with `act2see filter`. The teacher does not see the human reasoning. Exit code 1 if the budget is exhausted.
    """
    del config, option
    from act2see import api

    with show_progress() as progress:
        result = api.construct(source, settings, execution, progress=progress)
    summary: Mapping[str, Any] = result.summary
    report_faults(summary["outcomes"], result.errors_file)
    note_omitted_frames(summary)
    if settings.json:
        say_json({**summary, "dollars": round(result.dollars, 6)})
    else:
        _print_summary(summary, result)
    if not result.is_complete:
        complain(f"stopped: {result.dollars:.4f} of {execution.budget_usd} dollars spent; continue with --resume and a larger --budget-usd")
    return ANSWERED if result.is_complete else FAILURE


def _print_summary(summary: Mapping[str, Any], result: "ConstructResult") -> None:
    outcomes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in summary["outcomes"].items())
    say(f"{summary['n']} of {summary['questions']} questions of {summary['source']}: {outcomes or 'none'}")
    tries = ", ".join(f"{count} in {number}" for number, count in summary["tries"].items()) or "none"
    say(f"tries: {tries}; {summary['call_rate']['all'] or 0:.1%} looked in the last one")
    if result.dollars:
        say(f"{result.dollars:.4f} dollars spent")
