"""`act2see audit`: an ablation of what a look returns, on a benchmark."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.options import Options
from act2see.cli.output import complain, note_omitted_frames, report_faults, say, say_json, show_progress
from act2see.config import EvalConfig, ExecutionConfig, SettingsFile


def audit(
    benchmark: Annotated[str, Parameter(help="Benchmark, as for eval.")],
    /,
    *,
    settings: Annotated[EvalConfig, Parameter(name="*")] = EvalConfig(),
    execution: Annotated[ExecutionConfig, Parameter(name="*")] = ExecutionConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Measure what looking gains and harms: each question is repeated with no, a random, a wrong or a blurred frame instead of the retrieved one.

    All conditions share the reasoning up to the first call. --out stores the traces, the summary and a page with charts (audit.html).
    """
    del config, option
    from act2see import api

    with show_progress() as progress:
        result = api.audit(benchmark, settings, execution, progress=progress)
    summary: Mapping[str, Any] = result.summary
    report_faults(summary["arms"]["real"]["outcomes"], result.errors_file)
    note_omitted_frames(summary)
    if settings.json:
        say_json(summary)
    else:
        _print_summary(summary, None if result.folder is None else result.folder / api.AUDIT_PAGE)
    return ANSWERED


def _print_summary(summary: Mapping[str, Any], page: Path | None) -> None:
    from act2see.report.audit_page import points, share

    say(f"{summary['n']} questions of {summary['benchmark']}, chance {share(summary['chance'])}")
    for name, found in summary["arms"].items():
        said = f"; real is {100 * found['real_minus_arm']:+.1f} points above [{points(found['real_minus_arm_95'])}]" if name != "real" else ""
        say(f"{name.replace('_', ' '):<11}{share(found['accuracy']):>8}{said}")
    looking = summary["looking"]
    say(f"looking gains {share(looking['gains'])} and harms {share(looking['harms'])}; only looking solves {share(looking['only_looking_solves'])}")
    say(f"over-calling {share(looking['over_calling'])}, under-calling {share(looking['under_calling'])}")
    if page is not None:
        say(page)
    failed = {name: count for name, count in summary["arms"]["real"]["outcomes"].items() if name.endswith("_error")}
    if failed:
        complain("note: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in failed.items()) + " count as wrong")
