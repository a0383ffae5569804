"""Downloads a video from a URL that the user gives on the command line, or that a server's client names, within `AllowedHosts`.

URLs from data files or models must never reach this module. Only http(s), streamed to disk, with limits on size and on the total time.
"""

import hashlib
import http.client
import ipaddress
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from act2see.core.errors import VideoError
from act2see.execution.deadline import Deadline

MAX_BYTES = 4 * 2**30
"""Larger files are rejected. Our choice."""
TIMEOUT_SECONDS = 600.0
"""Time limit for the whole transfer. Our choice."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_CHUNK_BYTES = 1 << 16
_WAIT_SECONDS = 30.0  # connect and read timeout
_MAX_REASON = 300  # maximum number of characters of a server's error message


def is_url(text: str) -> bool:
    """Whether a command-line argument is a URL rather than a path."""
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, multicast or reserved."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and (found.sixtofour or found.teredo or found in _NAT64):
        return False  # an IPv4 address of any kind is inside
    inner = (found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None) or found
    return inner.is_global and not inner.is_multicast


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Hosts that a server's clients may name. Addresses are checked once connected, so that a name cannot resolve to another one meanwhile."""

    hosts: frozenset[tuple[str, int | None]]
    """Names in lower case with a port each; None for 80 and 443."""
    is_allowed_address: Callable[[str], bool] = is_public

    @classmethod
    def of(cls, named: Sequence[str]) -> "AllowedHosts":
        """From `HOST` and `HOST:PORT`. Raises `ValueError`."""
        found = set()
        for text in named:
            parts = urlsplit(f"//{text}")
            if parts.hostname is None or parts.username is not None or parts.path or parts.query or not text.isprintable() or " " in text:
                raise ValueError(f"{text!r} is no host: give HOST or HOST:PORT, such as media.example.org")
            found.add((parts.hostname.rstrip("."), parts.port))
        return cls(frozenset(found))

    def check_url(self, url: str) -> None:
        """Raise `VideoError` unless the URL's host is allowed."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError as error:
            raise VideoError(f"cannot fetch {url!r}: {error}") from error
        if parts.username is not None or not {(host, port), *({(host, None)} if port in (None, 80, 443) else ())} & self.hosts:
            raise VideoError(f"cannot fetch {url!r}: its host is not among those that this server downloads from (--allow-host)")

    def check_address(self, address: str) -> None:
        """Raise `OSError` for an address that is not allowed."""
        if not self.is_allowed_address(address):
            raise OSError("its host has a private address")


def fetch(
    url: str, folder: Path, *, max_bytes: int = MAX_BYTES, timeout_seconds: float = TIMEOUT_SECONDS, allowed: AllowedHosts | None = None
) -> Path:
    """Download a file to a folder and return its path. The name is a digest of the content; the file appears only when complete.

    With `allowed`, only from these hosts, redirects included, and never through a proxy. Raises `VideoError` for schemes other than http(s), for
    redirects to them or from https to http, for web pages and empty responses, beyond the limits, and for any failure of the transfer.
    """
    if not re.fullmatch(r"https?://[^/\s]\S*", url, re.IGNORECASE) or not url.isprintable():
        raise VideoError(f"cannot fetch {url!r}: give an address that begins with http:// or https://")
    if allowed is not None:
        allowed.check_url(url)
    with Deadline(timeout_seconds) as deadline:
        try:
            with _opener(deadline, allowed).open(_request(url), timeout=_WAIT_SECONDS) as response:
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
    """Follows redirects to http(s) only, never from https to http, and only to allowed hosts."""

    def __init__(self, allowed: AllowedHosts | None) -> None:
        self._allowed = allowed

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # urllib would read the whole body
        schemes = urlsplit(req.full_url).scheme.lower(), urlsplit(newurl).scheme.lower()
        if schemes[1] not in ("http", "https") or schemes == ("https", "http"):
            raise urllib.error.URLError(f"redirects from {schemes[0]} to {schemes[1] or 'nowhere'} are not followed")
        if self._allowed is not None:
            self._allowed.check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(deadline: Deadline, allowed: AllowedHosts | None) -> urllib.request.OpenerDirector:
    """An opener for http(s) only (urllib's default also opens file, ftp and data URLs), whose connections close at the deadline."""

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)
            if allowed is not None:
                allowed.check_address(self.sock.getpeername()[0])

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
        urllib.request.ProxyHandler(None if allowed is None else {}),
        urllib.request.UnknownHandler(),
        PlainHandler(),
        SecureHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(allowed),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
