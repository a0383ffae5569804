"""`act2see retrieve`: finds the frames of a video that match a text, as timestamps, files and a plot."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.opening import open_video
from act2see.cli.output import say, say_json, show_progress
from act2see.config import RetrieveConfig, SettingsFile
from act2see.config.checks import check_plot, check_text
from act2see.core.errors import ConfigError

if TYPE_CHECKING:
    from act2see.core.trace import Frame
    from act2see.storage.runs import JSON


def retrieve(
    video: Annotated[str, Parameter(help="Video file or http(s) URL.")],
    query: Annotated[str, Parameter(help="Text to search for.")],
    /,
    *,
    settings: Annotated[RetrieveConfig, Parameter(name="*")] = RetrieveConfig(),
    config: SettingsFile = None,
) -> int:
    """Find the frames of a video that best match a text.

    Prints a line per frame to stdout, best first: timestamp, score, frame number and the span that it was selected from.
    """
    del config
    from act2see import registry
    from act2see.evaluation.frames import find_frames, save_frames

    _check(query, settings)
    registry.check_retriever(settings.retriever)
    check_plot(settings.plot)
    opened = open_video(video, cached=settings.cache)
    with show_progress(unit=" frames", transient=True) as progress:
        found = find_frames(opened, query, settings, progress)
    if settings.plot and found.curve is None:
        raise ConfigError(f"--plot needs scores over time, which retriever {settings.retriever!r} does not provide: remove --plot")
    files = save_frames(found, settings.out) if settings.out else [None] * len(found.frames)
    if settings.plot and found.curve:
        from act2see.report.plots import draw_scores

        draw_scores(found.curve, found.frames, f"{opened.path.name}: {query.strip()}", settings.plot)
    if settings.json:
        about = {"video": video, "query": query.strip(), "retriever": settings.retriever, "threshold": found.curve and found.curve.threshold}
        notice = {} if found.notice is None else {"notice": found.notice}
        frames = [_record(frame, file) for frame, file in zip(found.frames, files, strict=True)]
        say_json({**about, **notice, "frames": frames, "plot": str(settings.plot) if settings.plot else None})
    else:
        for frame, file in zip(found.frames, files, strict=True):
            say(_line(frame, file))
    return ANSWERED


def _check(query: str, settings: RetrieveConfig) -> None:
    check_text("the query", query)
    if settings.out and settings.out.exists() and not settings.out.is_dir():
        raise ConfigError(f"cannot write frames into {settings.out}: it is not a folder")


def _record(frame: "Frame", file: Path | None) -> "dict[str, JSON]":
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
