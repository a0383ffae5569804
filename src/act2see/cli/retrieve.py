"""`act2see retrieve`: the frames of a video that fit a text, as times, files and a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.opening import open_video, screen_search
from act2see.cli.output import complain, index_progress, say, say_json
from act2see.config import RetrieveConfig, SettingsFile
from act2see.config.checks import check_file_to_write, check_text
from act2see.core.errors import ConfigError

if TYPE_CHECKING:
    from act2see.core.trace import Frame
    from act2see.tools.retrievers.selection import Curve
    from act2see.video import Video

PLOT_ENDINGS = (".png", ".svg", ".pdf")


def retrieve(
    video: Annotated[str, Parameter(help="Video file, or its http(s) address.")],
    query: Annotated[str, Parameter(help="What to look for.")],
    /,
    *,
    settings: Annotated[RetrieveConfig, Parameter(name="*")] = RetrieveConfig(),
    config: SettingsFile = None,
) -> int:
    """Find the frames of a video that fit a text best.

    A line for each, best first, goes to stdout: its time, its score, its number and the stretch that it was chosen from.
    """
    del config
    from act2see import registry

    _check(query, settings)
    registry.check_retriever(settings.retriever)
    draw = _plotter() if settings.plot else None
    opened = open_video(video, cached=settings.cache)
    notice = screen_search(settings, opened)
    frames, curve = _found(opened, query.strip(), settings)
    if all(frame.match is not None and frame.match.is_fallback for frame in frames):
        threshold = "" if curve is None else f" of {curve.threshold:g}"
        complain(f"note: no frame found passes the retriever's threshold{threshold}: take what follows as a guess")
    files = _write(frames, settings.out) if settings.out else [None] * len(frames)
    if draw and settings.plot:
        if curve is None:
            raise ConfigError(f"--plot needs scores over time, which retriever {settings.retriever!r} does not tell: leave it out")
        draw(curve, frames, f"{opened.path.name}: {query.strip()}", settings.plot)
    if settings.json:
        threshold_or_none = None if curve is None else curve.threshold
        told = {"video": video, "query": query.strip(), "retriever": settings.retriever, "threshold": threshold_or_none}
        found = [_record(frame, file) for frame, file in zip(frames, files, strict=True)]
        warned = {} if notice is None else {"notice": notice}
        say_json({**told, **warned, "frames": found, "plot": str(settings.plot) if settings.plot else None})
    else:
        for frame, file in zip(frames, files, strict=True):
            say(_line(frame, file))
    return ANSWERED


def _check(query: str, settings: RetrieveConfig) -> None:
    check_text("the query", query)
    if settings.plot and settings.plot.suffix.lower() not in PLOT_ENDINGS:
        raise ConfigError(f"cannot draw {settings.plot}: its name must end in one of {', '.join(PLOT_ENDINGS)}")
    check_file_to_write(settings.plot)
    if settings.out and settings.out.exists() and not settings.out.is_dir():
        raise ConfigError(f"cannot write frames into {settings.out}: it is no folder")


def _plotter() -> Any:
    try:
        from act2see.cli.plot import draw
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ConfigError("--plot needs matplotlib: pip install 'act2see[plot]'") from error
    return draw


def _found(video: "Video", query: str, settings: RetrieveConfig) -> "tuple[Sequence[Frame], Curve | None]":
    """The frames, and the scores that they were chosen by where the retriever tells them."""
    from act2see import registry
    from act2see.tools.retrievers.search import SearchRetriever

    with index_progress(video.path.name) as progress:
        retriever = registry.retriever(settings.retriever, settings, progress)
        if retriever is None:
            raise ConfigError("retriever 'none' finds nothing: name one, such as micro or siglip:DIR")
        if not isinstance(retriever, SearchRetriever):
            return retriever.find(video, query, shown=(), count=settings.top), None
        found = retriever.search(video, query, count=settings.top)
    for note in found.notes:
        complain(f"note: {note}")
    return found.frames, found.curve


def _write(frames: "Sequence[Frame]", folder: Path) -> list[Path | None]:
    """The frames as files named by their time, so that they sort by it; each is there whole or not at all. Raises `StoreError`."""
    from act2see.storage.frames import save_picture

    files: list[Path | None] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write frames into {folder}: {error.strerror or error}; give a folder that can be written") from error
    for frame in frames:
        path = folder / f"{frame.seconds or 0:09.3f}.png"
        save_picture(path, frame)
        files.append(path)
    return files


def _record(frame: "Frame", file: Path | None) -> dict[str, Any]:
    match = frame.match
    return {
        "seconds": frame.seconds,
        "score": frame.score,
        "frame_index": match.frame_index if match else None,
        "span_seconds": match.span_seconds if match else None,
        "runners_up": match.runners_up if match else [],
        "is_fallback": match.is_fallback if match else None,
        "file": str(file) if file else None,
    }


def _line(frame: "Frame", file: Path | None) -> str:
    parts = [f"{frame.seconds or 0:.3f} s"]
    if frame.score is not None:
        parts.append(f"score {frame.score:.4f}")
    if frame.match:
        parts.append(f"frame {frame.match.frame_index}")
        if frame.match.span_seconds:
            parts.append("span {:.3f} to {:.3f} s".format(*frame.match.span_seconds))
        if frame.match.is_fallback:
            parts.append("fallback")
    return "  ".join([*parts, *([str(file)] if file else [])])
