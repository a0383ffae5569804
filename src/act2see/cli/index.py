"""`act2see index`: encode the frames of videos ahead of the first query."""

import importlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, FAILURE, INTERRUPTED
from act2see.cli.output import complain, complain_of, say, say_json, show_progress
from act2see.cli.video_source import local_files
from act2see.config import IndexConfig, SettingsFile
from act2see.config.checks import check_file_to_write
from act2see.core.errors import Act2SeeError, ConfigError, InternalError, VideoError
from act2see.core.naming import importing

if TYPE_CHECKING:
    from act2see.evaluation.frames import IndexedVideo
    from act2see.evaluation.indexing import FailedVideo
    from act2see.evaluation.vector_export import ExportedVectors
    from act2see.storage.cache import Cache
    from act2see.video.folders import NamedFile


def index(
    *videos: Annotated[str, Parameter(help="Video files, folders of videos, or http(s) URLs.")],
    settings: Annotated[IndexConfig, Parameter(name="*")] = IndexConfig(),
    config: SettingsFile = None,
) -> int:
    """Encode videos' frames ahead of the first query and store them in the cache.

    Skips cached frames; Ctrl-C keeps those already encoded. Prints a line per video to stdout. Exit code 1 if a video that was named itself
    failed; other files in a folder are skipped with a note.
    """
    del config
    from act2see import registry
    from act2see.evaluation.indexing import index_videos
    from act2see.storage.cache import Cache

    if not videos:
        raise ConfigError("no video: name one or several to be indexed, or a folder")
    registry.check_retriever(settings.retriever)
    if settings.export is not None:
        _check_export(settings.export, settings.retriever)
    cache = Cache()
    told = _Outcomes(as_json=settings.json)
    begun = time.monotonic()
    try:
        told.files = local_files(videos, told.fail)
        if settings.export is not None:
            _check_export_files(settings.export, told.files)
        with show_progress(" frames", transient=True) as progress:
            found = index_videos(list(told.files), settings, cache, progress, told.add)
    except KeyboardInterrupt:
        complain("interrupted; encoded frames are in the cache, and the same command continues from there")
        return INTERRUPTED
    exported = _export(found.videos, settings, cache) if settings.export is not None and found.videos else None
    if told.done and settings.json:
        skipped = {"skipped": told.skipped} if told.skipped else {}
        written = {"export": {"index": str(exported.index), "rows": str(exported.rows), "count": exported.count}} if exported else {}
        say_json({"videos": [_record(one) for one in told.done], "failed": told.failed, **skipped, **written})
    elif told.done:
        frames = sum(one.frames for one in told.done)
        several = "videos" if len(told.done) > 1 else "video"
        say(f"{len(told.done)} {several}, {frames} frames in {time.monotonic() - begun:.1f} s; stored in {cache.folder}")
        if exported:
            say(f"{exported.count} vectors in {exported.index}; what each is in {exported.rows}")
    elif not told.failed:
        complain("no video among these files: name one, or a folder with videos")
    return ANSWERED if told.done and not told.failed else FAILURE


def _check_export(path: Path, retriever: str) -> None:
    """Refuse what cannot be exported before anything is encoded. Raises `ConfigError`."""
    if retriever.partition("+")[0] == "words":
        raise ConfigError(f"--export writes the vectors of an encoder, which --retriever {retriever} is not: name one, such as siglip:DIR")
    check_file_to_write(path)
    with importing("--export"):
        importlib.import_module("act2see.evaluation.vector_export")


def _check_export_files(path: Path, videos: Mapping[str, object]) -> None:
    """Refuse to write over a video. Raises `ConfigError`."""
    from act2see.evaluation.vector_export import rows_beside

    for written in (path, rows_beside(path)):
        check_file_to_write(written, *videos)


def _export(videos: "Sequence[IndexedVideo]", settings: IndexConfig, cache: "Cache") -> "ExportedVectors":
    from act2see import registry
    from act2see.evaluation.vector_export import export_vectors

    assert settings.export is not None
    return export_vectors(videos, registry.encoder(settings.retriever, settings), settings, cache, settings.export)


class _Outcomes:
    """Prints each outcome as it comes, under the name that was typed."""

    def __init__(self, *, as_json: bool) -> None:
        self.files: Mapping[str, NamedFile] = {}
        self.done: list[IndexedVideo] = []
        self.failed: list[dict[str, str]] = []
        self.skipped: list[dict[str, str]] = []
        self._as_json = as_json

    def add(self, outcome: "IndexedVideo | FailedVideo", seconds: float) -> None:
        """One video is indexed, or failed."""
        from act2see.evaluation.frames import IndexedVideo

        file = self.files[outcome.video]
        if isinstance(outcome, IndexedVideo):
            self.done.append(replace(outcome, video=file.name))
            if not self._as_json:
                words = "" if outcome.lines is None else f", {outcome.lines} lines"
                say(f"{file.name}: {outcome.frames} frames{words} of {outcome.duration_seconds:.1f} s in {seconds:.1f} s")
        elif file.is_named or not isinstance(outcome.error, VideoError):
            self.fail(file.name, outcome.error)
        else:
            self.skipped.append({"video": file.name, "error": str(outcome.error)})
            complain(f"note: skipped: {outcome.error}")

    def fail(self, name: str, error: Act2SeeError) -> None:
        """One that was named failed."""
        self.failed.append({"video": name, "error": str(error)})
        complain_of(error) if isinstance(error, InternalError) else complain(str(error) if name in str(error) else f"{name}: {error}")


def _record(indexed: "IndexedVideo") -> dict[str, object]:
    return {name: value for name, value in asdict(indexed).items() if name != "lines" or value is not None}
