"""`act2see retrieve`: finds the frames of videos that match a text, as timestamps, files, clips, a contact sheet and a plot."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, FAILURE, NO_ANSWER
from act2see.cli.output import complain, say, say_json, show_progress
from act2see.cli.video_source import local_files, open_video
from act2see.config import RetrieveConfig, SettingsFile
from act2see.config.checks import check_file_to_write, check_plot, check_text
from act2see.core.errors import Act2SeeError, ConfigError, NoMatchError, VideoError

if TYPE_CHECKING:
    from act2see.core.trace import Frame
    from act2see.evaluation.indexing import FailedVideo
    from act2see.evaluation.searching import QueryResult
    from act2see.storage.runs import JSON
    from act2see.video import Video

_PICTURES = (".png", ".jpg", ".jpeg")


def retrieve(
    video: Annotated[str, Parameter(help="Video file, folder of videos, or http(s) URL.")],
    query: Annotated[str, Parameter(help="Text to search for.")],
    /,
    *more: Annotated[str, Parameter(help="Further videos: name all videos first, and what to look for last.")],
    settings: Annotated[RetrieveConfig, Parameter(name="*")] = RetrieveConfig(),
    config: SettingsFile = None,
) -> int:
    """Find the frames of one or several videos that best match a text.

    Prints a line per frame to stdout, best first: timestamp, score, frame number and the span that it was selected from; for several videos,
    ranked over all, the file too. Exit code 1 if a video that was named itself failed; other files in a folder are skipped with a note. Exit code 3
    when nothing matches.
    """
    del config
    from act2see import registry

    named = (video, query, *more)
    videos, last = named[:-1], named[-1]
    queries = tuple(dict.fromkeys(text.strip() for text in (last, *settings.also)))
    _check(queries, settings)
    if settings.retriever != "auto":  # which the video decides
        registry.check_retriever(settings.retriever)
    check_plot(settings.plot)
    if len(videos) == len(queries) == 1 and not os.path.isdir(os.path.expanduser(videos[0])):
        return _in_one(videos[0], last, settings)
    if settings.plot:
        raise ConfigError("--plot draws the scores of one video for one text: leave it out")
    return _in_several(videos, queries, settings)


def _check(queries: Sequence[str], settings: RetrieveConfig) -> None:
    for query in queries:
        check_text("the query", query)
    if settings.out and settings.out.exists() and not settings.out.is_dir():
        raise ConfigError(f"cannot write frames into {settings.out}: it is not a folder")
    if settings.sheet and settings.sheet.suffix.lower() not in _PICTURES:
        raise ConfigError(f"cannot draw {settings.sheet}: its name must end in one of {', '.join(_PICTURES)}")
    check_file_to_write(settings.sheet)


# One video, one text


def _in_one(video: str, query: str, settings: RetrieveConfig) -> int:
    from act2see.evaluation.frames import find_frames, save_frames

    opened = open_video(video, cached=settings.cache)
    try:
        with show_progress(transient=True) as progress:
            found = find_frames(opened, query, settings, progress)
    except NoMatchError as error:
        complain(str(error))
        if settings.json:
            retriever = "words" if settings.retriever == "auto" else settings.retriever
            say_json({"video": video, "query": query.strip(), "retriever": retriever, "no_match": str(error), "frames": []})
        return NO_ANSWER
    if settings.plot and found.curve is None:
        raise ConfigError(f"--plot needs scores over time, which retriever {found.retriever!r} does not provide: remove --plot")
    pictures = save_frames(found, settings.out) if settings.out else [None] * len(found.frames)
    clips = [_clip(opened, frame, f"{frame.seconds or 0:09.3f}", settings) for frame in found.frames]
    if settings.plot and found.curve:
        from act2see.report.plots import draw_scores

        draw_scores(found.curve, found.frames, f"{opened.path.name}: {query.strip()}", settings.plot)
    if settings.sheet:
        _draw(settings.sheet, [(f"{opened.path.name}: {query.strip()}", [("", frame) for frame in found.frames])])
    rows = [_Row(None, frame, *files) for frame, *files in zip(found.frames, pictures, clips, strict=True)]
    if settings.json:
        about = {"video": video, "query": query.strip(), "retriever": found.retriever, "threshold": found.curve and found.curve.threshold}
        notice = {} if found.notice is None else {"notice": found.notice}
        sheet = {"sheet": str(settings.sheet)} if settings.sheet else {}
        frames = [row.record() for row in rows]
        say_json({**about, **notice, "frames": frames, "plot": str(settings.plot) if settings.plot else None, **sheet})
    else:
        for row in rows:
            say(row.line())
    return ANSWERED


# Several videos or texts


def _in_several(videos: Sequence[str], queries: Sequence[str], settings: RetrieveConfig) -> int:
    from act2see.evaluation.searching import search_videos

    failed: list[dict[str, str]] = []
    skipped: list[dict[str, str]] = []

    def fail(name: str, error: Act2SeeError) -> None:
        failed.append({"video": name, "error": str(error)})
        complain(str(error))

    files = local_files(videos, fail, cached=settings.cache)

    def tell(one: "FailedVideo") -> None:
        file = files[one.video]
        if file.is_named or not isinstance(one.error, VideoError):
            fail(file.name, one.error)
        else:
            skipped.append({"video": file.name, "error": str(one.error)})
            complain(f"note: skipped: {one.error}")

    with show_progress(unit=" frames", transient=True) as progress:
        found = search_videos(list(files), queries, settings, progress, tell)
    if not found.searched:
        if not failed:
            complain("no video among these files: name one, or a folder with videos")
        return FAILURE
    names = {path: file.name for path, file in files.items()}
    rows = [(result, _rows(result, number if len(found.queries) > 1 else None, names, settings)) for number, result in enumerate(found.queries, 1)]
    if settings.sheet:
        _draw(settings.sheet, [(result.query, [(Path(hit.video).name, hit.frame) for hit in result.hits]) for result, _ in rows])
    if settings.json:
        notice = {} if found.notice is None else {"notice": found.notice}
        sheet = {"sheet": str(settings.sheet)} if settings.sheet else {}
        told = [{"query": result.query, "frames": [row.record() for row in of_query]} for result, of_query in rows]
        about = {"retriever": settings.retriever, "videos": [names[path] for path in found.searched], **notice}
        say_json({**about, "queries": told, "failed": failed, "skipped": skipped, **sheet})
    else:
        for result, of_query in rows:
            if len(rows) > 1:
                say(f"{result.query}:")
            for row in of_query:
                say(row.line())
    if failed:
        return FAILURE
    return ANSWERED if any(of_query for _, of_query in rows) else NO_ANSWER


def _rows(result: "QueryResult", number: int | None, names: dict[str, str], settings: RetrieveConfig) -> "list[_Row]":
    """The hits of one text with the files that were written; `number` tells the files of several texts apart."""
    from act2see.evaluation.frames import save_frame
    from act2see.storage.cache import Cache
    from act2see.video import Video

    rows = []
    for place, hit in enumerate(result.hits, 1):
        name = f"{'' if number is None else f'q{number}-'}{place:02d}-{Path(hit.video).stem}-{hit.frame.seconds or 0:09.3f}"
        picture = save_frame(hit.frame, settings.out, f"{name}.png") if settings.out else None
        clip = _clip(Video(hit.video, Cache() if settings.cache else None), hit.frame, name, settings) if settings.clip else None
        rows.append(_Row(names[hit.video], hit.frame, picture, clip))
    return rows


# Files


def _clip(video: "Video", frame: "Frame", name: str, settings: RetrieveConfig) -> Path | None:
    """The stretch around a frame, in --out or the current folder."""
    if settings.clip is None or frame.seconds is None:
        return None
    from act2see.evaluation.frames import own_folder
    from act2see.video.clips import write_clip

    path = (own_folder(settings.out) if settings.out else Path()) / f"{name}.mp4"
    write_clip(video, frame.seconds - settings.clip / 2, frame.seconds + settings.clip / 2, path)
    return path


def _draw(path: Path, found: "Sequence[tuple[str, Sequence[tuple[str, Frame]]]]") -> None:
    from act2see.report.contact_sheet import Section, draw_sheet

    draw_sheet([Section(title, [(frame.image, _caption(video, frame)) for video, frame in frames]) for title, frames in found], path)


def _caption(video: str, frame: "Frame") -> str:
    minutes, seconds = divmod(frame.seconds or 0, 60)
    score = "" if frame.score is None else f"  {frame.score:.4f}"
    return f"{video}  {int(minutes)}:{seconds:06.3f}{score}".strip()


@dataclass(frozen=True, slots=True)
class _Row:
    """A found frame as it is printed; `video` where several were searched."""

    video: str | None
    frame: "Frame"
    picture: Path | None
    clip: Path | None

    def record(self) -> "dict[str, JSON]":
        """For --json."""
        frame, match = self.frame, self.frame.match
        runners_up: JSON = [list(one) for one in match.runners_up] if match else []
        span: JSON = list(match.span_seconds) if match and match.span_seconds else None
        return {
            **({} if self.video is None else {"video": self.video}),
            "seconds": frame.seconds,
            "score": frame.score,
            "frame_index": match.frame_index if match else None,
            "span_seconds": span,
            "runners_up": runners_up,
            "is_fallback": match.is_fallback if match else None,
            **({"line": asdict(match.line)} if match and match.line else {}),
            "file": str(self.picture) if self.picture else None,
            **({} if self.clip is None else {"clip": str(self.clip)}),
        }

    def line(self) -> str:
        """For a reader."""
        frame = self.frame
        parts = [*([] if self.video is None else [self.video]), f"{frame.seconds or 0:.3f} s"]
        if frame.score is not None:
            parts.append(f"score {frame.score:.4f}")
        if frame.match:
            parts.append(f"frame {frame.match.frame_index}")
            if frame.match.span_seconds:
                parts.append("span {:.3f} to {:.3f} s".format(*frame.match.span_seconds))
            if frame.match.is_fallback:
                parts.append("fallback")
            if frame.match.line:
                parts.append(f"{frame.match.line.source}: {frame.match.line.text!r}")
        return "  ".join([*parts, *(str(one) for one in (self.picture, self.clip) if one)])
