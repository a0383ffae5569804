"""Serves questions over HTTP until the process is told to end."""

import ipaddress
import logging
from collections.abc import Callable

from act2see.config import ServeConfig
from act2see.execution.progress import ProgressCallback
from act2see.serving.app import Application
from act2see.serving.http_server import Ending, address_of, listen, run
from act2see.serving.service import Service, service

_log = logging.getLogger(__name__)


def serve(config: ServeConfig, on_ready: Callable[[str, Service], None], progress: ProgressCallback | None = None) -> bool:
    """Load the models and answer until SIGTERM or SIGINT. Returns whether all running answers were finished.

    `on_ready` receives the address and the service once connections are taken. Raises `ConfigError` and what loading the models raises.
    """
    with listen(config.host, config.port) as listening, service(config, progress) as made:
        if config.api_key is None and not _is_loopback(listening.getsockname()[0]):
            _log.warning("anybody who reaches %s can ask questions here: set ACT2SEE_API_KEY", config.host)
        on_ready(address_of(listening), made)
        answers = made.answers
        return run(Application(made).asgi(), Ending(answers.drain, lambda: answers.is_idle, answers.stop_all), listening)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
