"""Downloads a video from a URL that the user gives on the command line. URLs from data files or models must never reach this module.

Only http(s), streamed to disk, with limits on size and on the total time.
"""

import hashlib
import http.client
import re
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from act2see.core.errors import VideoError
from act2see.execution.deadline import Deadline

MAX_BYTES = 4 * 2**30
"""Larger files are rejected. Our choice."""
TIMEOUT_SECONDS = 600.0
"""Time limit for the whole transfer. Our choice."""
_CHUNK_BYTES = 1 << 16
_WAIT_SECONDS = 30.0  # connect and read timeout
_MAX_REASON = 300  # maximum number of characters of a server's error message


def is_url(text: str) -> bool:
    """Whether a command-line argument is a URL rather than a path."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def fetch(url: str, folder: Path, *, max_bytes: int = MAX_BYTES, timeout_seconds: float = TIMEOUT_SECONDS) -> Path:
    """Download a file to a folder and return its path. The name is a digest of the content; the file appears only when complete.

    Raises `VideoError` for schemes other than http(s), for redirects to them or from https to http, for web pages and empty responses, beyond the
    limits, and for any failure of the transfer.
    """
    if not re.fullmatch(r"https?://[^/\s]\S*", url, re.IGNORECASE) or not url.isprintable():
        raise VideoError(f"cannot fetch {url!r}: give an address that begins with http:// or https://")
    with Deadline(timeout_seconds) as deadline:
        try:
            with _opener(deadline).open(_request(url), timeout=_WAIT_SECONDS) as response:
                return _store(response, url, folder, max_bytes, deadline)
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            if deadline.is_over:
                raise VideoError(f"cannot fetch {url}: it took longer than {timeout_seconds:g} s") from error
            raise VideoError(f"cannot fetch {url}: {_reason(error)}") from error


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": "act2see", "Accept-Encoding": "identity"})


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # an HTTPError keeps the connection open
        reason = f"the server returned {error.code} {error.reason}"
    else:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = str(cause) or type(cause).__name__
    return " ".join("".join(sign if sign.isprintable() else " " for sign in reason).split())[:_MAX_REASON]


def _store(response: http.client.HTTPResponse, url: str, folder: Path, max_bytes: int, deadline: Deadline) -> Path:
    if response.headers.get_content_type() == "text/html":
        raise VideoError(f"cannot fetch {url}: it is a web page; give the address of a video file")
    content_length = response.headers.get("Content-Length", "")
    expected_bytes = int(content_length) if content_length.isdecimal() else None
    too_large = VideoError(f"cannot fetch {url}: it has more than {max_bytes:,} bytes; download it yourself and give the file")
    if expected_bytes is not None and expected_bytes > max_bytes:
        raise too_large
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VideoError(f"cannot write to {folder}: {error.strerror}") from error
    digest = hashlib.sha256()
    received = 0
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".fetching-", delete=False) as file:
        temporary = Path(file.name)
        try:
            while chunk := response.read1(_CHUNK_BYTES):
                received += len(chunk)
                if received > max_bytes:
                    raise too_large
                if deadline.is_over:
                    break
                digest.update(chunk)
                file.write(chunk)
            if deadline.is_over:  # the deadline closes the connection, which looks like the end of the body
                raise TimeoutError
            if expected_bytes is not None and received < expected_bytes:
                raise VideoError(f"cannot fetch {url}: the connection closed after {received:,} of {expected_bytes:,} bytes")
            if not received:
                raise VideoError(f"cannot fetch {url}: the response is empty")
            file.flush()
            return temporary.rename(folder / (digest.hexdigest()[:32] + _extension(url)))
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _extension(url: str) -> str:
    """The URL's file extension, if plain: a hint for format detection."""
    match = re.search(r"\.[A-Za-z0-9]{1,5}$", urlsplit(url).path)
    return match.group().lower() if match else ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # urllib would read the whole body
        schemes = urlsplit(req.full_url).scheme.lower(), urlsplit(newurl).scheme.lower()
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise urllib.error.URLError(f"redirects from {schemes[0]} to {schemes[1] or 'nowhere'} are not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(deadline: Deadline) -> urllib.request.OpenerDirector:
    """An opener for http(s) only (urllib's default also opens file, ftp and data URLs), whose connections close at the deadline."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    class Secure(http.client.HTTPSConnection, Plain):
        """Calls `Plain.connect` before the TLS handshake, so that the deadline covers the handshake, too."""

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
