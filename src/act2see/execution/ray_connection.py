"""A connection to a Ray cluster, or to a Ray of one's own. Imports ray: only what `--ray` asks for imports this module."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from act2see.core.errors import ConfigError

# Ray logs every death of a worker at length to stdout, which is reserved for the result. It reads this variable at import.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

import ray
import ray.exceptions

LOCAL, AUTO = "local", "auto"
ADDRESSES = "give local, auto (on a node of a cluster) or the address HOST:6379 of one"
CONNECTING_SECONDS = 10.0


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to the cluster; one that this process has already is used, and left. Raises `ConfigError`."""
    if ray.is_initialized():
        yield
        return
    check_address(address)
    quiet: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a Ray of our own reports to nobody
            ray.init(address=LOCAL, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"no Ray cluster at {address!r}: {said}; {ADDRESSES}") from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Raise `ConfigError` where nobody listens, which Ray itself finds out in four minutes and many lines. Ray itself looks for `auto`."""
    if address in (LOCAL, AUTO) or ray.is_initialized():
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdecimal()):
        raise ConfigError(f"{address!r} is not an address of a Ray cluster; {ADDRESSES}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECTING_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address!r}: {error}; {ADDRESSES}") from error
