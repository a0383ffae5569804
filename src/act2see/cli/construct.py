"""`act2see construct`: a teacher's traces on questions that people have answered, to be filtered and trained on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, MENDABLE
from act2see.cli.options import Options
from act2see.cli.output import complain, note_questions_with_frames_left_out, say, say_json, show_progress, tell_faults
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
    """Let a teacher answer a data set's questions with real tools, and again where it was wrong. Every try is kept as a trace in --out.

    `act2see filter` then takes the good ones. The person's reasoning is not shown to the teacher. Exit code 1 where the budget ended it.
    """
    del config, option
    from act2see import api

    with show_progress() as progress:
        result = api.construct(source, settings, execution, progress=progress)
    summary: Mapping[str, Any] = result.summary
    tell_faults(summary["outcomes"], result.errors_file)
    note_questions_with_frames_left_out(summary)
    if settings.json:
        say_json({**summary, "dollars": round(result.dollars, 6)})
    else:
        _tell(summary, result)
    if not result.is_complete:
        complain(f"stopped: {result.dollars:.4f} of {execution.budget_usd} dollars are spent; go on with --resume and a larger --budget-usd")
    return ANSWERED if result.is_complete else MENDABLE


def _tell(summary: Mapping[str, Any], result: "ConstructResult") -> None:
    outcomes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in summary["outcomes"].items())
    say(f"{summary['n']} of {summary['questions']} questions of {summary['source']}: {outcomes or 'none'}")
    tries = ", ".join(f"{count} in {number}" for number, count in summary["tries"].items()) or "none"
    say(f"tries that it took: {tries}; {summary['call_rate']['all'] or 0:.1%} looked in their last one")
    if result.dollars:
        say(f"{result.dollars:.4f} dollars spent")
