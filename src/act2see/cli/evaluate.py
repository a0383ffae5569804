"""`act2see eval`: run a benchmark and report accuracy."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.official import print_official
from act2see.cli.options import Options
from act2see.cli.output import complain, note_omitted_frames, print_scores, report_faults, say, show_progress
from act2see.config import EvalConfig, EvalExecutionConfig, SettingsFile
from act2see.core.flops import in_units


def evaluate(
    benchmark: Annotated[str, Parameter(help="Benchmark, as listed by act2see benchmarks, or package.module:Class.")],
    /,
    *,
    settings: Annotated[EvalConfig, Parameter(name="*")] = EvalConfig(),
    execution: Annotated[EvalExecutionConfig, Parameter(name="*")] = EvalExecutionConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Run a benchmark and report accuracy.

    The summary goes to stdout. Unanswered, truncated and failed questions count in the denominator.
    """
    del config, option
    from act2see import api
    from act2see.evaluation.fingerprint import headline

    with show_progress() as progress:
        result = api.evaluate(benchmark, settings, execution, progress=progress)
    if errors := result.errors:
        complain(f"note: {len(errors)} of {len(result.scores)} questions failed; first error: {errors[0]}")
    summary: Mapping[str, Any] = result.summary
    report_faults(summary["outcomes"], result.errors_file)
    note_omitted_frames(summary)
    print_scores(summary, as_json=settings.json)
    if not settings.json:
        print_official(summary)
        _print_costs(result.costs)
        say(headline(result.fingerprint))
        if execution.view and settings.out is not None:
            say(settings.out / api.VIEW_PAGE)
    return ANSWERED


def _print_costs(spent: Mapping[str, Any]) -> None:
    if whole := spent["seconds"]["all"]:
        stages = ", ".join(f"{name} {found['mean']:.2f}" for name, found in spent["seconds"].items() if name != "all")
        took = f"time per answer: {whole['mean']:.2f} s (p50 {whole['p50']:.2f}, p90 {whole['p90']:.2f}, p99 {whole['p99']:.2f})"
        say(f"{took}: {stages}" if stages else took)
    if (computed := spent.get("flops")) and (whole := computed["all"]):
        parts = ", ".join(f"{name} {in_units(found['mean'])}" for name, found in computed.items() if name != "all" and found["mean"])
        say(f"computed per answer: {in_units(whole['mean'])} (p50 {in_units(whole['p50'])}, p90 {in_units(whole['p90'])}): {parts}")
