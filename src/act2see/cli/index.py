"""`act2see index`: encode the frames of videos ahead of the first query."""

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, INTERRUPTED, MENDABLE
from act2see.cli.opening import open_video
from act2see.cli.output import complain, complain_of, say, say_json, show_progress
from act2see.config import IndexConfig, SettingsFile
from act2see.core.errors import Act2SeeError, ConfigError, InternalError, VideoError
from act2see.execution.faults import unexpected

if TYPE_CHECKING:
    from act2see.core.interfaces import FrameEncoder
    from act2see.evaluation.frames import IndexedVideo
    from act2see.storage.cache import Cache
    from act2see.video import Video


def index(
    *videos: Annotated[str, Parameter(help="Video files, or their http(s) addresses.")],
    settings: Annotated[IndexConfig, Parameter(name="*")] = IndexConfig(),
    config: SettingsFile = None,
) -> int:
    """Encode videos' frames ahead of the first query and keep them in the cache.

    Skips frames that are in the cache; Ctrl-C keeps what is done. Prints a line for each video to stdout. Exit code 1 when one failed.
    """
    del config
    from act2see import registry
    from act2see.storage.cache import Cache

    if not videos:
        raise ConfigError("no video: name one or several to be indexed")
    registry.check_retriever(settings.retriever)
    cache = Cache()
    if not cache.is_usable():
        raise ConfigError(f"an index cannot be kept in {cache.folder}: name a folder that can be written with ACT2SEE_CACHE")
    done: list[IndexedVideo] = []
    failed: list[dict[str, str]] = []
    encoder: FrameEncoder | None = None
    begun = time.monotonic()
    try:
        for video in dict.fromkeys(videos):
            try:
                with unexpected():
                    opened = open_video(video)
            except (VideoError, InternalError) as error:
                failed.append(_failed(video, error))
                continue
            encoder = encoder or registry.encoder(settings.retriever, settings)
            try:
                with unexpected():
                    done.append(_index(opened, encoder, cache, settings, as_named=video))
            except Act2SeeError as error:
                failed.append(_failed(video, error))
    except KeyboardInterrupt:
        complain("interrupted; what was encoded is kept, and the same command goes on from there")
        return INTERRUPTED
    if done and settings.json:
        say_json({"videos": [asdict(one) for one in done], "failed": failed})
    elif done:
        frames = sum(one.frames for one in done)
        several = "videos" if len(done) > 1 else "video"
        say(f"{len(done)} {several}, {frames} frames in {time.monotonic() - begun:.1f} s; kept in {cache.folder}")
    return MENDABLE if failed else ANSWERED


def _failed(video: str, error: Act2SeeError) -> dict[str, str]:
    complain_of(error) if isinstance(error, InternalError) else complain(str(error))
    return {"video": video, "error": str(error)}


def _index(video: "Video", encoder: "FrameEncoder", cache: "Cache", settings: IndexConfig, as_named: str) -> "IndexedVideo":
    from act2see.evaluation.frames import index_video

    begun = time.monotonic()
    with show_progress(" frames", transient=True) as progress:
        found = replace(index_video(video, encoder, settings, cache, progress), video=as_named)
    if not settings.json:
        say(f"{as_named}: {found.frames} frames of {found.duration_seconds:.1f} s in {time.monotonic() - begun:.1f} s")
    return found
