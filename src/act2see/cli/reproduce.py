"""`act2see reproduce`: the paper's experiments in small, from traces to a page of tables."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, INTERRUPTED
from act2see.cli.output import complain, say, say_json
from act2see.config import ReproduceConfig

if TYPE_CHECKING:
    from act2see.reproduce.application import Outline


def reproduce(*, settings: Annotated[ReproduceConfig, Parameter(name="*")] = ReproduceConfig()) -> int:
    """Run the paper's experiments on the synthetic world: build traces, filter, train, evaluate, audit, and write one page of tables.

    Ctrl-C loses nothing but what was under way; the same command continues. Needs act2see[train].
    """
    from act2see.reproduce import application

    outline = application.outline(settings)
    if settings.plan:
        say_json(outline.row()) if settings.json else _say_plan(outline, complain_only=False)
        return ANSWERED
    _say_plan(outline, complain_only=True)
    try:
        result = application.reproduce(settings, progress=_Told())
    except KeyboardInterrupt:
        complain(f"interrupted; what is finished is in {settings.out}, and the same command continues from there")
        return INTERRUPTED
    if settings.json:
        say_json([one.row() for one in result.results])
    else:
        say(result.page)
    return ANSWERED


def _say_plan(outline: "Outline", *, complain_only: bool) -> None:
    """Each stage that is missing, and the estimate; only the estimate, and on stderr, before a run."""
    if not complain_only:
        missing = {stage.name for stage in outline.missing}
        for stage in outline.plan.stages:
            say(f"{stage.name:<44} {'complete' if stage.name not in missing else f'about {stage.seconds:,.0f} CPU s'}")
    told = (
        f"{len(outline.missing)} of {len(outline.plan.stages)} stages are missing: about {outline.seconds / 60:,.0f} CPU minutes, "
        "half as long on two idle cores"
    )
    complain(told) if complain_only else say(told)


class _Told:
    """Says each stage's beginning and end, once."""

    def __init__(self) -> None:
        self._begun: set[str] = set()

    def __call__(self, done: int, count: int, name: str, what: str) -> None:
        if what == "complete":
            complain(f"{done} of {count} stages: {name} is complete")
        elif name not in self._begun:
            self._begun.add(name)
            complain(f"{name}: {what}")
