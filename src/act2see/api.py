"""Find the moments of a video that fit a text: the shortest way to what the loop's retriever does, without a model that reasons."""

import os
from collections.abc import Sequence
from dataclasses import replace

from act2see import registry
from act2see.config import SearchConfig
from act2see.core.errors import ConfigError, ScopeError
from act2see.core.interfaces import Retriever
from act2see.core.trace import Frame
from act2see.synthetic.scope import refusal_to_search
from act2see.video import Video


def retrieve(
    video: Video | str | os.PathLike[str], query: str, *, retriever: Retriever | str = "micro", count: int = 1, config: SearchConfig | None = None
) -> list[Frame]:
    """The `count` frames of the video that fit the query best, best first, at full size; fewer where the video has no more.

    Each has its time in `seconds`, its `score` and, in `match`, what else is known of the choice: whether it is merely the best there was, too.
    `retriever` is one, or the name of one (`siglip:DIR`; the default knows only the synthetic world), loaded anew at each call. `config` says how a
    named one searches, and with `force` that the embedded one shall search any video. Raises `ScopeError` where it does not know the video,
    `VideoError` for what is no video, `ConfigError` for what cannot be searched with, `ToolError` where nothing is found.
    """
    if not query.strip():
        raise ConfigError("the query is empty: say what to look for")
    if count < 1:
        raise ConfigError(f"count is {count}; at least 1 frame can be retrieved")
    opened = video if isinstance(video, Video) else Video(video)
    found = retriever
    if isinstance(found, str):
        asked = replace(config or SearchConfig(), retriever=found)
        if registry.scope(asked).retriever and not asked.force and (refused := refusal_to_search(opened)) is not None:
            raise ScopeError(refused)
        found = named(found, asked)
    frames: Sequence[Frame] = found.find(opened, query.strip(), shown=(), count=count)
    return list(frames)


def named(name: str, config: SearchConfig) -> Retriever:
    """The retriever of that name. Raises `ConfigError`, for `none` as well."""
    found = registry.retriever(name, config)
    if found is None:
        raise ConfigError("retriever 'none' finds nothing: name one, such as micro or siglip:DIR")
    return found
