"""`act2see score`: rescores a run's stored traces, or tests the official rules on recorded official scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, FAILURE
from act2see.cli.official import print_official
from act2see.cli.output import complain, print_scores, say, say_json, show_progress
from act2see.config import ScoreConfig
from act2see.core.errors import ConfigError

if TYPE_CHECKING:
    from act2see.evaluation.rescoring import CasesResult, ScoreResult

NO_OPTIONS = ScoreConfig()


def score(
    run: Annotated[Path | None, Parameter(help="Run folder of act2see eval.")] = None,
    /,
    *,
    cases: Annotated[
        Path | None, Parameter(help="File of outputs with their official scores, one JSON object per line, to test the official rules on.")
    ] = None,
    settings: Annotated[ScoreConfig, Parameter(name="*")] = NO_OPTIONS,
) -> int:
    """Rescore a run's stored traces without a model, and rewrite its scores.jsonl and summary.json.

    With --cases instead of a run, test the official rules on a file of official scores; exit code 1 if they differ.
    """
    from act2see.evaluation import rescoring

    if (run is None) == (cases is None):
        raise ConfigError("give either a run folder or --cases with a file of official scores")
    if cases is not None:
        if settings.official_form or settings.benchmark or settings.data:
            raise ConfigError("--cases cannot be combined with --official-form, --benchmark or --data, which apply to a run")
        return _show_cases(rescoring.hold_against(cases))
    assert run is not None
    with show_progress() as progress:
        result = rescoring.score(run, settings, progress=progress)
    _show(result, as_json=settings.json)
    return ANSWERED


def _show_cases(result: "CasesResult") -> int:
    for one in result.differ:
        complain(str(one.problem))
    say_json({"cases": len(result.results), "agree": len(result.results) - len(result.differ), "differ": [one.id for one in result.differ]})
    return FAILURE if result.differ else ANSWERED


def _show(result: "ScoreResult", *, as_json: bool) -> None:
    if result.summary is None:
        say_json({"official_form": str(result.official_form)}) if as_json else say(result.official_form)
        return
    print_scores(result.summary, as_json=as_json)
    if not as_json:
        print_official(result.summary)
        if result.official_form is not None:
            say(result.official_form)
