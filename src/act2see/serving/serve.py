"""Serves questions over HTTP until the process is told to end."""

from collections.abc import Callable

from act2see.config import ServeConfig
from act2see.execution.progress import ProgressCallback
from act2see.serving.app import Application
from act2see.serving.http_server import Ending, address_of, faults_in_our_log, listen, run, warn_if_open
from act2see.serving.service import Service, service


def serve(config: ServeConfig, on_ready: Callable[[str, Service], None], progress: ProgressCallback | None = None) -> bool:
    """Load the models and answer until SIGTERM or SIGINT. Returns whether all running answers were finished.

    `on_ready` receives the address and the service once connections are taken. Raises `ConfigError` and what loading the models raises.
    """
    with listen(config.host, config.port) as listening, service(config, progress) as made, faults_in_our_log("python_multipart"):
        warn_if_open(listening, config.api_key)
        on_ready(address_of(listening), made)
        answers = made.answers
        return run(Application(made).asgi(), Ending(answers.drain, lambda: answers.is_idle, answers.stop_all), listening, config.write_seconds)
