"""Fetching a video that a person named by its address. Nothing else may call this: no data file and no model ever says what is opened.

Over http(s) only, streamed to disk, within a limit of bytes and one of time for the whole transfer.
"""

import hashlib
import http.client
import re
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from act2see.core.errors import VideoError
from act2see.execution.deadline import Deadline

MAX_BYTES = 4 * 2**30
"""Larger files are refused. Our choice."""
TIMEOUT_SECONDS = 600.0
"""Time for the whole transfer. Our choice."""
_CHUNK_BYTES = 1 << 16
_WAIT_SECONDS = 30.0  # for a server that says nothing
_MAX_REASON = 300  # characters of an error that are the server's


def is_url(text: str) -> bool:
    """Whether a text on the command line is an address to fetch from rather than a path."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def fetch(url: str, folder: Path, *, max_bytes: int = MAX_BYTES, timeout_seconds: float = TIMEOUT_SECONDS) -> Path:
    """Fetch a file into a folder and give its path, whose name is made from its content; it appears only when it is complete.

    Raises `VideoError`: for another scheme than http(s), also where a redirect leads there or from https to http; for an answer that is no file;
    beyond the limits; and for whatever goes wrong on the way.
    """
    if not re.fullmatch(r"https?://[^/\s]\S*", url, re.IGNORECASE) or not url.isprintable():
        raise VideoError(f"cannot fetch {url!r}: give an address that begins with http:// or https://")
    with Deadline(timeout_seconds) as deadline:
        try:
            with _opener(deadline).open(_request(url), timeout=_WAIT_SECONDS) as answer:
                return _store(answer, url, folder, max_bytes, deadline)
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            if deadline.is_over:
                raise VideoError(f"cannot fetch {url}: it took longer than {timeout_seconds:g} s") from error
            raise VideoError(f"cannot fetch {url}: {_reason(error)}") from error


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": "act2see", "Accept-Encoding": "identity"})


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it holds the connection
        reason = f"the server answers {error.code} {error.reason}"
    else:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = str(cause) or type(cause).__name__
    return " ".join("".join(sign if sign.isprintable() else " " for sign in reason).split())[:_MAX_REASON]


def _store(answer: Any, url: str, folder: Path, max_bytes: int, deadline: Deadline) -> Path:
    kind = answer.headers.get_content_type()
    if kind.startswith("text/html"):
        raise VideoError(f"cannot fetch {url}: it is a web page; give the address of a video file")
    promised = answer.headers.get("Content-Length", "")
    promised_bytes = int(promised) if promised.isdecimal() else None
    too_large = VideoError(f"cannot fetch {url}: it has more than {max_bytes:,} bytes; fetch it yourself and give the file")
    if promised_bytes is not None and promised_bytes > max_bytes:
        raise too_large
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VideoError(f"cannot write to {folder}: {error.strerror}") from error
    found = hashlib.sha256()
    received = 0
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".fetching-", delete=False) as file:
        temporary = Path(file.name)
        try:
            while chunk := answer.read1(_CHUNK_BYTES):
                received += len(chunk)
                if received > max_bytes:
                    raise too_large
                if deadline.is_over:
                    break
                found.update(chunk)
                file.write(chunk)
            if deadline.is_over:  # then the connection was cut, which looks like its end
                raise TimeoutError
            if promised_bytes is not None and received < promised_bytes:
                raise VideoError(f"cannot fetch {url}: the connection ended after {received:,} of {promised_bytes:,} bytes")
            if not received:
                raise VideoError(f"cannot fetch {url}: the answer is empty")
            file.flush()
            return temporary.rename(folder / (found.hexdigest()[:32] + _ending(url)))
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _ending(url: str) -> str:
    """The address's file name ending where it is a plain one: it may help to recognise the format."""
    found = re.search(r"\.[A-Za-z0-9]{1,5}$", urlsplit(url).path)
    return found.group().lower() if found else ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # urllib would read it to its end
        schemes = urlsplit(req.full_url).scheme.lower(), urlsplit(newurl).scheme.lower()
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise urllib.error.URLError(f"it redirects from {schemes[0]} to {schemes[1] or 'nowhere'}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(deadline: Deadline) -> urllib.request.OpenerDirector:
    """An opener that knows http(s) alone (urllib's own also opens files, ftp and data), and whose connections end with the deadline."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    class Secure(http.client.HTTPSConnection, Plain):
        """Calls `Plain.connect` before the TLS handshake, which is thereby watched as well."""

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        PlainHandler(),
        SecureHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
