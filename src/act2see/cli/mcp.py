"""`act2see mcp`: local videos as tools of an assistant, over the Model Context Protocol."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, INTERRUPTED
from act2see.cli.options import Options
from act2see.cli.output import complain
from act2see.config import McpConfig, SettingsFile


def mcp(
    folders: Annotated[tuple[Path, ...], Parameter(name="FOLDER", help="Folders whose videos the assistant may look into.")],
    /,
    *,
    settings: Annotated[McpConfig, Parameter(name="*")] = McpConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Let an assistant look into the videos below some folders: an MCP server over stdin and stdout, or HTTP.

    Its tools: video_info, sample_frames, get_frame, find_moment, get_transcript, ask_video, imagine_frame.
    """
    del config, option  # the parser has applied both
    from act2see.core.naming import importing

    with importing("act2see mcp"):
        from act2see.serving.mcp_server import serve_http, serve_stdio

    from act2see.serving.folders import AllowedFolders
    from act2see.serving.video_tools import check_settings

    check_settings(settings)
    allowed = AllowedFolders.of(folders, "FOLDER")
    if not settings.http:
        serve_stdio(settings, allowed)
        return ANSWERED
    return ANSWERED if serve_http(settings, allowed, lambda address: complain(f"serving MCP on {address}; Ctrl-C ends")) else INTERRUPTED
