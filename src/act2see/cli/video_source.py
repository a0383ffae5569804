"""Opens the video given on a command line: a file or an http(s) URL."""

import atexit
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from act2see.cli.output import complain, working
from act2see.core.errors import Act2SeeError, VideoError

if TYPE_CHECKING:
    from act2see.storage.cache import Cache
    from act2see.video import Video
    from act2see.video.folders import NamedFile

DEMO = Path(__file__).parents[1] / "synthetic" / "demo"
"""The bundled clips, and `questions.json`: a list of {video, question, choices, answer}."""


def open_video(named: str, *, cached: bool = True) -> "Video":
    """Open a video file, or download one from an http(s) URL; notes about damage go to stderr. Raises `VideoError`.

    The download and the video's packet index are cached. Only for names typed by the user: names from data files or models must never be treated as
    URLs.
    """
    from act2see.storage.cache import Cache
    from act2see.video import Video
    from act2see.video.download import is_url

    cache = Cache() if cached else None
    opened = Video(_fetched(named, cache) if is_url(named) else named, cache)
    if opened.damage:
        complain(f"note: {opened.damage}")
    if opened.colours:
        complain(f"note: {opened.colours}")
    return opened


def local_files(names: Sequence[str], on_failure: Callable[[str, Act2SeeError], None], *, cached: bool = True) -> "dict[str, NamedFile]":
    """The files that these names stand for, by their paths: files, what folders hold, and downloads; one that fails is passed to `on_failure`."""
    from act2see.storage.cache import Cache
    from act2see.video.download import is_url
    from act2see.video.folders import NamedFile, files_of

    cache = Cache() if cached else None
    found: dict[str, NamedFile] = {}
    for name in dict.fromkeys(names):
        try:
            files = {str(_fetched(name, cache)): NamedFile(name, is_named=True)} if is_url(name) else {one.name: one for one in files_of([name])}
        except VideoError as error:
            on_failure(name, error)
            continue
        for path, file in files.items():
            if path not in found or file.is_named:
                found[path] = file
    return found


def _fetched(url: str, cache: "Cache | None") -> Path:
    """The downloaded file, from the cache if it is there."""
    from act2see.video.download import fetch

    with working(f"downloading {url}"):
        if cache is None or not cache.is_usable():
            folder = tempfile.TemporaryDirectory(prefix="act2see-")
            atexit.register(folder.cleanup)
            return fetch(url, Path(folder.name))
        pointer = f"downloads/{hashlib.sha256(url.encode()).hexdigest()[:32]}.address"
        with cache.lock(pointer):
            kept = None
            with suppress(ValueError):  # a damaged pointer
                kept = cache.find(f"downloads/{(cache.read(pointer) or b'').decode()}")
            if kept is not None:
                return kept
            path = fetch(url, cache.path("downloads"))
            cache.write(pointer, path.name.encode())
        cache.prune(cache.max_bytes)
        return path
