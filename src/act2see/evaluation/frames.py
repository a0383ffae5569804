"""One video without a reasoning model: find frames that match a text, generate a picture from one, or index them ahead of time."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from act2see import registry
from act2see.config import GenerateConfig, IndexConfig, RetrieveConfig, SearchConfig
from act2see.core.errors import ConfigError, OutOfMemoryToolError, ScopeError, ToolError, UnsupportedSizeError
from act2see.core.interfaces import FrameEncoder, Retriever
from act2see.core.trace import Frame, Provenance
from act2see.execution.progress import ProgressCallback
from act2see.storage.cache import Cache
from act2see.storage.frames import save_picture
from act2see.synthetic.scope import FORCED, refusal_to_search
from act2see.tools.index import Index, Progress
from act2see.tools.retrievers.fused import FusedRetriever
from act2see.tools.retrievers.search import SearchRetriever
from act2see.tools.retrievers.selection import Curve
from act2see.tools.retrievers.words import WordsRetriever
from act2see.video import Video

_log = logging.getLogger(__name__)

_GAP_PIXELS = 8


@dataclass(frozen=True, slots=True)
class RetrieveResult:
    """The frames found by `find_frames`, best first, with times in seconds and full-size pictures."""

    frames: tuple[Frame, ...]
    curve: Curve | None
    """The score of every indexed frame; None if the retriever provides none."""
    retriever: str = ""
    """Name of the retriever that searched, as in the options; what `auto` resolved to."""
    notice: str | None = None
    """Warning that the result may be unreliable, because `force` ran an embedded model outside its domain."""


@dataclass(frozen=True, slots=True)
class IndexedVideo:
    """A video whose encoded frames are in the cache."""

    video: str
    frames: int
    duration_seconds: float
    damage: str | None
    """Damage of the file; None if it is intact."""
    lines: int | None = None
    """Number of lines in the transcript; None if the retriever uses no transcript."""


@dataclass(frozen=True, slots=True)
class GeneratedFiles:
    """The files of one generated picture."""

    picture: Path
    anchor: Path
    pair: Path

    @classmethod
    def beside(cls, picture: Path) -> "GeneratedFiles":
        """The picture's own path, and NAME-anchor and NAME-pair in the same folder."""
        anchor, pair = (picture.with_name(f"{picture.stem}-{what}{picture.suffix}") for what in ("anchor", "pair"))
        return cls(picture, anchor, pair)


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """The picture made by `generate_frame`, and the frame of the video that it was made from."""

    picture: Frame
    anchor: Frame
    provenance: Provenance
    """Prompt, model, seed, strength and the scores of the picture's check."""
    notice: str | None = None
    """As in `RetrieveResult`."""

    @property
    def pair(self) -> Frame:
        """Both side by side, the anchor on the left. It carries the picture's provenance, so its file says that it shows a generated picture."""
        width, height = self.anchor.image.size
        both = Image.new("RGB", (2 * width + _GAP_PIXELS, height), "white")
        both.paste(self.anchor.image, (0, 0))
        both.paste(self.picture.image, (width + _GAP_PIXELS, 0))
        return replace(self.picture, image=both)

    def save(self, path: Path) -> GeneratedFiles:
        """Write the picture to `path`, the anchor and the pair beside it; each file is written whole or not at all. Raises `StoreError`."""
        files = GeneratedFiles.beside(path)
        save_picture(files.picture, self.picture)
        save_picture(files.anchor, self.anchor)
        save_picture(files.pair, self.pair)
        return files


def find_frames(
    video: Video | str | os.PathLike[str], query: str, options: RetrieveConfig = RetrieveConfig(), progress: ProgressCallback | None = None
) -> RetrieveResult:
    """Find the `options.top` frames of a video that best match a text; nothing is written. `progress` receives the number of indexed frames.

    Warns where no frame passes the retriever's threshold. Raises `ConfigError` for an empty query or a retriever that cannot be used, `ScopeError`
    where the embedded retriever does not know the video, `VideoError` for what is no video, `ToolError` where nothing is found, and `NoMatchError`
    of these where nothing that is said or written matches.
    """
    return search_frames(video, query, options, options.top, progress=progress)


def search_frames(
    video: Video | str | os.PathLike[str],
    query: str,
    options: SearchConfig,
    count: int,
    *,
    retriever: Retriever | None = None,
    progress: ProgressCallback | None = None,
) -> RetrieveResult:
    """Find `count` frames as `find_frames` does, with a retriever that is loaded already, or else the one that the options name."""
    text = _text("query", query)
    opened = _opened(video)
    notice = None
    if retriever is None:
        options = retriever_for(opened, options)
        notice = check_scope(options, opened)
        retriever = _retriever(options, opened, progress)
    if retriever is None:
        raise ConfigError("retriever 'none' cannot search: choose another, such as micro or siglip:DIR")
    frames, curve = frames_in(opened, text, retriever, count)
    if all(frame.match is not None and frame.match.is_fallback for frame in frames):
        threshold = "" if curve is None else f" of {curve.threshold:g}"
        _log.warning("no frame reaches the retriever's threshold%s: the result is a best guess", threshold)
    return RetrieveResult(frames, curve, options.retriever, notice)


_Options = TypeVar("_Options", bound=SearchConfig)


def retriever_for(video: Video, options: _Options, told: set[str | None] | None = None) -> _Options:
    """The options with what the retriever `auto` stands for: the embedded one if it knows the video, and else what is said and written in it.

    The latter is told as a warning, of several videos once: `told` holds what was said before.
    """
    if options.retriever != "auto":
        return options
    if options.force or refusal_to_search(video) is None:
        return replace(options, retriever="micro")
    advice = "what is said and written in it is searched (--retriever words); to search what is seen, name an encoder, such as --retriever siglip:DIR"
    if told is None or advice not in told:
        _log.warning("no retriever was named, and %s is not of the synthetic world: %s", video.path.name, advice)
    if told is not None:
        told.add(advice)
    return replace(options, retriever="words")


def frames_in(video: Video, query: str, retriever: Retriever, count: int) -> tuple[tuple[Frame, ...], Curve | None]:
    """The frames of a video that fit a text best, best first, and the scores of all, where the retriever gives them. Raises `ToolError`."""
    if isinstance(retriever, WordsRetriever):
        return tuple(retriever.find(video, query, shown=(), count=count)), retriever.curve(video, query)
    if not isinstance(retriever.seen if isinstance(retriever, FusedRetriever) else retriever, SearchRetriever):
        return tuple(retriever.find(video, query, shown=(), count=count)), None
    assert isinstance(retriever, SearchRetriever | FusedRetriever)
    found = retriever.search(video, query, count=count)
    for note in found.notes:
        _log.warning("%s", note)
    return found.frames, found.curve


def index_video(
    video: Video | str | os.PathLike[str],
    encoder: FrameEncoder,
    options: IndexConfig = IndexConfig(),
    cache: Cache | None = None,
    progress: ProgressCallback | None = None,
) -> IndexedVideo:
    """Encode a video's frames ahead of the first query and keep them in the cache (the user's own if not given). `progress` counts the frames.

    Frames that are in the cache are not encoded again. Raises `VideoError` for what is no video.
    """
    opened = _opened(video)
    made = Index.build(
        opened,
        encoder,
        options.retrieve_fps,
        cache or Cache(),
        _counting(progress, opened),
        skip_duplicates=options.skip_duplicates,
        keyframes_only=options.keyframes_first,
    )
    return IndexedVideo(str(opened.path), len(made.seconds), opened.duration_seconds, opened.damage)


def save_frames(result: RetrieveResult, folder: Path) -> tuple[Path, ...]:
    """Write the frames as PNG files named by their time, each whole or not at all. Raises `ConfigError` for the folder, `StoreError` for a file."""
    own_folder(folder)
    return tuple(save_frame(frame, folder, f"{frame.seconds or 0:09.3f}.png") for frame in result.frames)


def save_frame(frame: Frame, folder: Path, name: str) -> Path:
    """Write one frame into a folder, which is made if it is missing. Raises as `save_frames` does."""
    path = own_folder(folder) / name
    save_picture(path, frame)
    return path


def own_folder(folder: Path) -> Path:
    """Make a folder unless it is there. Raises `ConfigError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write frames into {folder}: {error.strerror or error}; give a writable folder") from error
    return folder


def generate_frame(
    video: Video | str | os.PathLike[str], prompt: str, options: GenerateConfig = GenerateConfig(), progress: ProgressCallback | None = None
) -> GenerateResult:
    """Generate a picture of something that never happened in a video, from the frame that fits the prompt best or the one at `options.at` seconds.

    Nothing is written; see `GenerateResult.save`. `progress` counts the frames indexed. Raises as `find_frames` does, and `ToolError` where no
    picture passes the check.
    """
    text = _text("prompt", prompt)
    opened = _opened(video)
    notice = check_scope(options, opened)
    retriever = _retriever(options, opened, progress)
    anchor = _anchor(opened, text, retriever, options.at)
    generator = registry.generator(options.generator, options, retriever, has_anchor=True)
    if generator is None:
        raise ConfigError("generator 'none' cannot generate pictures: choose another, such as micro or diffusers:flux2-klein")
    if progress is not None:
        progress(0, None, "imagining")
    try:
        made = generator.generate(text, anchor, seed=options.seed or 0)
    except ToolError as error:
        raise ToolError(f"{error}; {_advice(error)}") from error
    if made.provenance is None:
        raise ToolError(f"generator {generator.name} returned a frame without provenance")
    return GenerateResult(made, anchor, made.provenance, notice)


def _text(what: str, text: str) -> str:
    if not text.strip():
        raise ConfigError(f"the {what} is empty: enter some text")
    return text.strip()


def _opened(video: Video | str | os.PathLike[str]) -> Video:
    return video if isinstance(video, Video) else Video(video)


def check_scope(options: SearchConfig, video: Video) -> str | None:
    """The notice for a video that the embedded models do not know, where `force` is set; None where they know it. Raises `ScopeError` otherwise."""
    scope = registry.scope(options)
    if isinstance(options, GenerateConfig) and options.at is not None:  # no frame is searched for
        scope = replace(scope, retriever=False)
    if not scope.is_limited or (refused := refusal_to_search(video, scope)) is None:
        return None
    if not options.force:
        raise ScopeError(refused)
    _log.warning("%s", FORCED)
    return FORCED


def _retriever(options: SearchConfig, video: Video, progress: ProgressCallback | None) -> Retriever | None:
    return registry.retriever(options.retriever, options, _counting(progress, video))


def _counting(progress: ProgressCallback | None, video: Video) -> Callable[[Progress], None] | None:
    """A callback that forwards an index's progress."""
    if progress is None:
        return None
    return lambda now: progress(now.done, now.total, now.what or f"indexing {video.path.name}")


def _anchor(video: Video, prompt: str, retriever: Retriever | None, seconds: float | None) -> Frame:
    if seconds is not None:
        return video.frame_at(seconds)
    if retriever is None:
        raise ConfigError("retriever 'none' cannot find an anchor frame: choose another, or give its timestamp with --at")
    return retriever.find(video, prompt, shown=())[0]


def _advice(error: ToolError) -> str:
    if isinstance(error, OutOfMemoryToolError):
        return "try --memory group-offload or nf4, or a video of smaller frames"
    if isinstance(error, UnsupportedSizeError):
        return "give a video of another shape, or another --generator"
    return "try another --seed, more --tries, or --judge none to see what came"
