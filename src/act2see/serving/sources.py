"""Where a request's video comes from: a data URL, an upload, a path below an allowed folder, or an address of an allowed host."""

import base64
import binascii
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from act2see.core.errors import StoreError, VideoError, disk_reason
from act2see.serving.folders import AllowedFolders
from act2see.serving.refusals import RefusalError
from act2see.serving.room import Room
from act2see.serving.uploads import UploadStore, is_upload_id
from act2see.storage.codec import shown
from act2see.video.download import AllowedHosts, fetch, is_url

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[\w.+\"-]+)*);base64,", re.IGNORECASE)
_TAKEN = ("video/", "application/octet-stream", "image/gif", "image/apng")


@dataclass(frozen=True, slots=True)
class VideoSource:
    """A video as a local file. `name` is what its client calls it; `is_temporary` says that the file is deleted afterwards."""

    path: Path
    name: str
    is_temporary: bool


@dataclass(frozen=True, slots=True)
class VideoSources:
    """Opens what requests name, within the limits that the server was started with."""

    folder: Path
    """For temporary files."""
    uploads: UploadStore
    roots: AllowedFolders
    hosts: AllowedHosts
    room: Room
    max_bytes: int
    """Largest file that is downloaded."""

    @contextmanager
    def opened(self, reference: str, seconds: float) -> Iterator[VideoSource]:
        """The video that a request names, as a file while the block runs; a download may take `seconds`.

        Raises `RefusalError` for an unknown upload, a malformed data URL, a scheme that is not taken, and without room on the disk; `VideoError` for
        what is outside the allowed folders and hosts and for a failed download; `StoreError` for a full disk.
        """
        if reference[:5].lower() == "data:":
            with self._written(_decoded(reference)) as path:
                yield VideoSource(path, "the video", is_temporary=True)
        elif is_upload_id(reference):
            with self.uploads.reading(reference) as path:
                yield VideoSource(path, reference, is_temporary=True)
        elif is_url(reference):
            with self._fetched(reference, seconds) as path:
                yield VideoSource(path, reference, is_temporary=True)
        else:
            path = self.roots.file(_path_of(reference))
            yield VideoSource(path, self.roots.label(path), is_temporary=False)

    @contextmanager
    def _written(self, content: bytes) -> Iterator[Path]:
        path = self.folder / secrets.token_hex(16)
        with self.room.taken(len(content)):
            try:
                try:
                    path.write_bytes(content)
                except OSError as error:
                    raise StoreError(f"cannot store a video: {disk_reason(error)}") from error
                del content
                yield path
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _fetched(self, url: str, seconds: float) -> Iterator[Path]:
        folder = self.folder / secrets.token_hex(16)  # of its own: the file's name is its digest, and another request may download the same
        self.hosts.check_url(url)
        taken = self.max_bytes  # until its size is known
        self.room.take(taken)
        try:
            path = fetch(url, folder, max_bytes=self.max_bytes, timeout_seconds=max(0.1, seconds), allowed=self.hosts)
            self.room.give(taken - path.stat().st_size)
            taken = path.stat().st_size
            yield path
        finally:
            self.room.give(taken)
            for file in folder.glob("*"):
                file.unlink(missing_ok=True)
            if folder.is_dir():
                folder.rmdir()


def _decoded(url: str) -> bytes:
    found = _DATA_URL.match(url, 0, 200)
    if found is None:
        raise RefusalError(f"the data URL begins {shown(url[:60])}: write data:video/mp4;base64, and the file's content", code="invalid_video")
    kind = (found[1] or "").lower()
    if not kind.startswith(_TAKEN):
        raise RefusalError(f"the data URL holds {shown(kind)}: send a video, such as data:video/mp4;base64,…", code="invalid_video")
    try:
        content = base64.b64decode(url[found.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusalError("the data URL is not base64: encode the file's content", code="invalid_video") from error
    if not content:
        raise RefusalError("the data URL is empty: send a video", code="invalid_video")
    return content


def _path_of(reference: str) -> str:
    """The path in a `file:` URL, or the reference itself. Raises `RefusalError` for other schemes and hosts."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", reference)
    if scheme is None:
        return reference
    if scheme[0].lower() != "file:":
        raise RefusalError(f"{scheme[0]} addresses are not taken: send a data URL, an upload's id, or a path below an allowed folder")
    try:
        parts = urlsplit(reference)
    except ValueError as error:
        raise VideoError(f"{shown(reference)} is no address: give file:///PATH") from error
    if parts.netloc not in ("", "localhost"):
        raise VideoError(f"{shown(reference)} names a file of another machine: give file:///PATH")
    return unquote(parts.path, errors="replace")
