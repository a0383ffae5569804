"""`act2see ui`: questions about videos in a browser."""

from typing import Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.options import Options
from act2see.cli.output import complain, show_progress
from act2see.config import SettingsFile, UiConfig


def ui(
    *,
    settings: Annotated[UiConfig, Parameter(name="*")] = UiConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Ask questions about videos in a browser: a page with the video, its timeline and the reasoning as it streams.

    Nothing leaves the machine but requests to the models that you name. Uploads are deleted when their page is closed.
    """
    del config, option  # the parser has applied both
    from act2see.core.naming import importing

    with importing("act2see ui"):
        from act2see.serving.ui.app import serve

    with show_progress(transient=True) as progress:
        serve(settings, lambda address: complain(f"the page is at {address}; Ctrl-C ends"), progress)
    return ANSWERED
