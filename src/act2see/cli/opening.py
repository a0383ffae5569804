"""What is named on the command line becomes a video; what is known of its gaps is said."""

import atexit
import hashlib
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from act2see.cli.output import complain, working
from act2see.core.errors import ScopeError

if TYPE_CHECKING:
    from act2see.config import SearchConfig
    from act2see.storage.cache import Cache
    from act2see.video import Video

DEMO = Path(__file__).parents[1] / "synthetic" / "demo"
"""The bundled clips, and `questions.json`: a list of {video, question, choices, answer}."""


def open_video(named: str, *, cached: bool = True) -> "Video":
    """Open a video file, or fetch one by its http(s) address. The file and what its packets say are kept in the cache. Raises `VideoError`.

    For what a person names on the command line alone: what a data file or a model names is never an address.
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


def _fetched(url: str, cache: "Cache | None") -> Path:
    """The file that an address gave: now, or at an earlier time and kept since."""
    from act2see.video.download import fetch

    with working(f"fetching {url}"):
        if cache is None or not cache.is_usable():
            folder = tempfile.TemporaryDirectory(prefix="act2see-")
            atexit.register(folder.cleanup)
            return fetch(url, Path(folder.name))
        pointer = f"downloads/{hashlib.sha256(url.encode()).hexdigest()[:32]}.address"
        with cache.lock(pointer):
            kept = None
            with suppress(ValueError):  # a damaged pointer points nowhere
                kept = cache.find(f"downloads/{(cache.read(pointer) or b'').decode()}")
            if kept is not None:
                return kept
            path = fetch(url, cache.path("downloads"))
            cache.write(pointer, path.name.encode())
        cache.prune(cache.max_bytes)
        return path


def screen_search(config: "SearchConfig", video: "Video") -> str | None:
    """What must not be relied on of frames or pictures that embedded models find or make in this video; None where they know it.

    Raises `ScopeError` unless the config says to go on all the same.
    """
    from act2see.registry import scope
    from act2see.synthetic.scope import FORCED, refusal_to_search

    if not scope(config).is_limited or (refused := refusal_to_search(video)) is None:
        return None
    if not config.force:
        raise ScopeError(refused)
    complain(f"note: {FORCED}")
    return FORCED
