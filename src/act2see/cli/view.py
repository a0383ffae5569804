"""`act2see view`: a run, or two, as a static site."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import complain, say, show_progress
from act2see.config import ViewConfig


def view(
    run: Annotated[Path, Parameter(help="Run folder of ask --save, eval, audit, construct or filter.")],
    other: Annotated[Path | None, Parameter(help="A second run to show beside it, or what act2see filter kept of it.")] = None,
    /,
    *,
    settings: Annotated[ViewConfig, Parameter(name="*")] = ViewConfig(),
    is_opened: Annotated[bool, Parameter(name="--open", negative="", help="Open the site in a browser.")] = False,
) -> int:
    """Write a run as a site to look through: a gallery with filters and search, and each trace with its frames, scores and timeline.

    Two runs of eval are shown side by side, with what the second gained and lost. The site needs no server: open its index.html.
    """
    from act2see import api

    with show_progress() as progress:
        written = api.view(run, other, settings, progress=progress)
    say(written.page)
    if is_opened:
        import webbrowser

        if not webbrowser.open(written.page.absolute().as_uri()):
            complain("note: no browser could be started: open the file yourself")
    return ANSWERED
