"""Opening video files: validation and choice of the video stream."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.codec.context import Flags
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from act2see.core.errors import VideoError

MAX_PIXELS = 8192 * 4320
"""Larger pictures are rejected: a file of a few bytes can claim 65535x65535. Our choice: the largest common format, 8K DCI."""

# Container formats that hold the pictures themselves. Excluded on purpose: playlists (hls, dash, concat), which open other files and URLs, and
# `tty` and the still-image formats, which read any text or image as a "video". Audio formats are listed for a clearer error message.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,ogg,gif,apng,asf,h264,hevc,vvc,obu,av1,ivf,dv,mxf,nut,rm,yuv4mpegpipe,"
    "mp3,wav,flac,aac,aiff,amr"
)
_MEBIBYTE = 1 << 20
_MAX_PATH_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class FileState:
    """Size, modification time and inode, to detect changes after opening."""

    size_bytes: int
    modified_nanoseconds: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The file's current state. Raises `VideoError` if it can no longer be read."""
        try:
            found = path.stat()
        except OSError as error:
            raise VideoError(f"cannot read {printable(path)}: {error.strerror}") from error
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)

    def check_unchanged(self, path: Path, *, is_open: bool = False) -> None:
        """Raise `VideoError` if the file has changed: frames of different versions must not be mixed.

        While the file is open, a replacement under the same name is harmless: the open file stays the same.
        """
        if is_open and not os.path.exists(path):  # False without permission; `Path.exists` raises
            return
        now = FileState.of(path)
        if now == self or (is_open and now.inode != self.inode):
            return
        how = f"it had {self.size_bytes:,} bytes and has {now.size_bytes:,}" if now.size_bytes != self.size_bytes else "it was written anew"
        raise VideoError(f"{printable(path)} was changed after it was opened ({how}): open it again when it is complete")


def check_regular_file(path: Path) -> None:
    """Raise `VideoError` unless this is a non-empty regular file. Does not open it: opening a pipe would block."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoError(f"no such file: {printable(path)}") from error
    except OSError as error:  # no permission, a name that is too long, a cycle of links
        raise VideoError(f"cannot read {printable(path)}: {error.strerror}") from error
    except ValueError as error:  # a null character or an unpaired surrogate
        raise VideoError(f"no such file: {printable(path)}: invalid file name") from error
    if stat.S_ISDIR(found.st_mode):
        raise VideoError(f"{printable(path)} is a folder: give a video file")
    if not stat.S_ISREG(found.st_mode):
        raise VideoError(f"{printable(path)} is not a regular file: give a video file")
    if found.st_size == 0:
        raise VideoError(f"{printable(path)} is empty (0 bytes): give a video file")


def printable(path: Path) -> str:
    """A path for messages: unprintable characters are escaped, and very long paths are abbreviated."""
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in str(path))
    half = _MAX_PATH_CHARACTERS // 2
    return shown if len(shown) <= _MAX_PATH_CHARACTERS else f"{shown[:half]}…{shown[-half:]}"


def digest_of(path: Path) -> str:
    """SHA-256 of the file's size and its first and last MiB: a cache key, not an integrity check."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = hashlib.sha256(f"{size}\n".encode() + file.read(_MEBIBYTE))
            file.seek(max(0, size - _MEBIBYTE))
            found.update(file.read(_MEBIBYTE))
    except OSError as error:
        raise VideoError(f"cannot read {printable(path)}: {error.strerror}") from error
    return found.hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the container and its video stream. Raises `VideoError` if there is none or its pictures are too large."""
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS)}
    try:
        # The prefix "file:" keeps FFmpeg from reading a name such as "http:x" or "pipe:0" as a URL.
        container = av.open(f"file:{path.absolute()}", options=options, metadata_errors="ignore")
    except FFmpegError as error:
        if _is_webp(path):
            raise VideoError(
                f"{printable(path)} is a WebP picture, and animated WebP is not read: convert it to a video file, such as an mp4"
            ) from error
        raise VideoError(f"{printable(path)} cannot be read as a video ({error.strerror}): give a video file, such as an mp4") from error
    with container:
        stream = _video_stream(container, path)
        if getattr(stream, "codec_context", None) is None:  # PyAV has no decoder for it
            raise VideoError(f"{printable(path)} holds a video that cannot be decoded: unknown codec; convert it, for instance to H.264 in an mp4")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise VideoError(
                f"{printable(path)} has pictures of {width}x{height} pixels; at most {MAX_PIXELS:,} pixels are read: give a smaller video"
            )
        stream.codec_context.flags |= Flags.unaligned  # else cropping on the left is rounded to what is aligned in memory
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        yield container, stream


def _is_webp(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return start[:4] == b"RIFF" and start[8:] == b"WEBP"


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        held = "only sound" if container.streams.audio else "no video"
        raise VideoError(f"{printable(path)} holds {held}: give a file with a video in it")
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
