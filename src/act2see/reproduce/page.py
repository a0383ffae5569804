"""The results as one self-contained HTML page and as Markdown for the documentation."""

import textwrap
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from act2see.report.page import template
from act2see.reproduce.plan import EXPERIMENTS, Plan
from act2see.reproduce.statements import BASE, INTERVALS, NOT_RUN, STATEMENTS, TEACHER
from act2see.reproduce.tables import Result, Rows, Table
from act2see.reproduce.times import Times

_WIDTH = 150


def page(results: Sequence[Result], plan: Plan, times: Sequence[Times], about: Mapping[str, str]) -> str:
    """The page: no script, nothing is loaded; runs are linked by paths relative to the output folder."""
    general = (BASE, TEACHER, INTERVALS, NOT_RUN)
    return template("reproduce.html.j2").render(
        results=results, plan=plan, times=times, about=about, statements=STATEMENTS, general=general, size=size_of(plan), marked=marked
    )


def marked(text: str) -> Markup:
    """A text with its `code` as HTML; all else is escaped."""
    parts = (Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(text.split("`")))
    return Markup("").join(parts)


def size_of(plan: Plan) -> str:
    """The plan's size in a sentence."""
    scale, seeds = plan.scale, "1 seed" if plan.seeds == 1 else f"{plan.seeds} seeds"
    missing = [name for name in EXPERIMENTS if name not in plan.only]
    left_out = f" Not part of this run: experiments {', '.join(missing)}." if missing else ""
    return (
        f"Scale {scale.name}, {seeds}: {scale.base:,} questions for the base model, {scale.arm:,} for each arm, {scale.held_out:,} held-out "
        f"questions, the same for every arm and seed ({scale.audited:,} in the audit).{left_out}"
    )


def markdown(results: Sequence[Result], plan: Plan, times: Sequence[Times], about: Mapping[str, str]) -> str:
    """The same as Markdown; every line but those of tables and commands is at most 150 characters long."""
    lines = ["# Results: the paper's experiments in small", ""]
    lines += _filled(
        "After reading this page you know how the paper's experiments come out on the synthetic world with models of 3.5 million parameters, and "
        "what that does and does not say about full-size ones. A command writes it, and results are printed as they came:"
    )
    lines += ["<!-- needs: two cores and the time below -->", "", "```sh", f"{about['command']} --markdown docs/results.md", "```", ""]
    lines += _filled(f"{size_of(plan)} {about['versions']}; {about['processor']}.")
    for text in (BASE, TEACHER, INTERVALS, NOT_RUN):
        lines += _filled(text)
    for result in results:
        said = STATEMENTS[result.experiment]
        lines += [f"## {result.experiment}. {said.title}", ""]
        lines += _filled(f"The paper: {said.paper}")
        for table in result.tables:
            lines += _table(table)
        lines += _filled(f"This says: {said.says}") + _filled(f"It does not say: {said.says_not}")
    lines += ["## The runs", ""]
    lines += _filled(
        "Each table rests on these, in the output folder OUT; the page that the command writes names them by experiment and links them. Digests are "
        "of the traces' words and frames, without times, and of the weights."
    )
    sources = {one.name: one for result in results for one in result.sources}
    runs: Rows = [(one.name, f"{one.n:,}" if one.n else "", one.data or one.weights, f"`{one.command}`") for one in sources.values()]
    lines += _table(Table("Runs and trainings", ("folder", "traces", "digest", "command"), tuple(runs)))
    lines += ["## How the time was spent", ""]
    spent: Rows = [(one.kind, one.stages, f"{one.cpu_seconds:,.0f}", f"{one.wall_seconds:,.0f}") for one in times]
    lines += _table(
        Table(
            "Seconds by kind of stage; wall seconds of stages that ran side by side are added", ("stage", "number", "CPU s", "wall s"), tuple(spent)
        )
    )
    return "\n".join(lines).rstrip() + "\n"


def _filled(text: str) -> list[str]:
    return [*textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False), ""]


def _table(table: Table) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

    lines = [*_filled(f"{table.title}:"), line(table.headers()), line(["---"] * len(table.columns)), *(line(row) for row in table.texts()), ""]
    return lines + (_filled(table.note) if table.note else [])
