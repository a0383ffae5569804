"""Opening a file as a video: what is refused, and which of its streams is the video."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from act2see.core.errors import VideoError

MAX_PIXELS = 8192 * 4320
"""Larger pictures are refused: a file of a few bytes can claim 65535x65535. Our choice: the largest common format, 8K DCI."""

# Formats that hold pictures themselves. Left out on purpose: playlists (hls, dash, concat), which name other files and addresses to open, and
# `tty` and the still-image formats, which make a "video" of any text or picture. Sound formats are here for a clearer message.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,ogg,gif,apng,asf,h264,hevc,vvc,obu,av1,ivf,dv,mxf,nut,rm,yuv4mpegpipe,"
    "mp3,wav,flac,aac,aiff,amr"
)
_MEBIBYTE = 1 << 20
_MOST_LETTERS = 1000


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells that a file is still the one that was opened."""

    size_bytes: int
    modified_nanoseconds: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The file's state now. Raises `VideoError` for a file that cannot be read any more."""
        try:
            found = path.stat()
        except OSError as error:
            raise VideoError(f"cannot read {named(path)}: {error.strerror}") from error
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)

    def refuse_change(self, path: Path, *, is_open: bool = False) -> None:
        """Raise `VideoError` unless the file is still as it was: frames of two states must not be mixed.

        While it is open, another file may have taken its name: what is open stays as it was.
        """
        if is_open and not os.path.exists(path):  # False where it may not be looked at; `Path.exists` raises there
            return
        now = FileState.of(path)
        if now == self or (is_open and now.inode != self.inode):
            return
        how = f"it had {self.size_bytes:,} bytes and has {now.size_bytes:,}" if now.size_bytes != self.size_bytes else "it was written anew"
        raise VideoError(f"{named(path)} was changed after it was opened ({how}): open it again when it is complete")


def refuse_no_file(path: Path) -> None:
    """Raise `VideoError` for what is no ordinary file with something in it. Nothing is opened: a pipe would wait for its other end."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoError(f"no such file: {named(path)}") from error
    except OSError as error:  # a folder that may not be read, a name that is too long, links that lead in a circle
        raise VideoError(f"cannot read {named(path)}: {error.strerror}") from error
    except ValueError as error:  # a null character, or half of a surrogate pair
        raise VideoError(f"no such file: {named(path)}: no file can have this name") from error
    if stat.S_ISDIR(found.st_mode):
        raise VideoError(f"{named(path)} is a folder: give a video file")
    if not stat.S_ISREG(found.st_mode):
        raise VideoError(f"{named(path)} is no ordinary file: give a video file")
    if found.st_size == 0:
        raise VideoError(f"{named(path)} is empty (0 bytes): give a video file")


def named(path: Path) -> str:
    """A path as messages show it: what cannot be printed is escaped, and of an endless one the beginning and the end are left."""
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in str(path))
    return shown if len(shown) <= _MOST_LETTERS else f"{shown[: _MOST_LETTERS // 2]}…{shown[-_MOST_LETTERS // 2 :]}"


def digest_of(path: Path) -> str:
    """A sha256 over the file's size, first and last MiB: it identifies the content for caches, but does not vouch for every byte."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = hashlib.sha256(f"{size}\n".encode() + file.read(_MEBIBYTE))
            file.seek(max(0, size - _MEBIBYTE))
            found.update(file.read(_MEBIBYTE))
    except OSError as error:
        raise VideoError(f"cannot read {named(path)}: {error.strerror}") from error
    return found.hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The open container and its video stream. Raises `VideoError` where there is none, or where its pictures are too large."""
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, "max_pixels": str(MAX_PIXELS)}
    try:
        # "file:" keeps a file called "http:x" or "pipe:0" a file.
        container = av.open(f"file:{path.absolute()}", options=options, metadata_errors="ignore")
    except FFmpegError as error:
        raise VideoError(f"{named(path)} cannot be read as a video ({error.strerror}): give a video file, such as an mp4") from error
    with container:
        stream = _video_stream(container, path)
        if getattr(stream, "codec_context", None) is None:  # PyAV's way to say that it has no decoder
            raise VideoError(f"{named(path)} holds a video that cannot be decoded: its codec is not known; convert it, as to H.264 in an mp4")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise VideoError(f"{named(path)} has pictures of {width}x{height} pixels; at most {MAX_PIXELS:,} pixels are read: give a smaller video")
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield container, stream


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        held = "only sound" if container.streams.audio else "no video"
        raise VideoError(f"{named(path)} holds {held}: give a file with a video in it")
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
