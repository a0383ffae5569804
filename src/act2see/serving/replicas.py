"""The HTTP server on Ray Serve: its proxy in front, and behind it replicas with a service each, which answer with the application of `serving.app`.

The process that starts them answers nothing. It waits for its end, and then has the replicas finish what they have accepted.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import Metric
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from act2see.config import ServeConfig
from act2see.core.errors import BackendError, ConfigError, StoreError
from act2see.core.interfaces import is_dead
from act2see.evaluation import setup
from act2see.execution.ray_connection import LOCAL, check_address, connected  # before Ray itself: it sets what Ray reads at import
from act2see.serving.app import Application
from act2see.serving.http_server import MOST_CONNECTIONS, address_of, listen, warn_if_open
from act2see.serving.metrics import text_of_replicas
from act2see.serving.service import allowed, ask_config, model_name, service
from act2see.serving.shares import ReplicaShare, reason_in
from act2see.serving.workspace import workspace

# isort: split
import ray
import ray.exceptions
from ray import serve as ray_serve
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

APPLICATION = "act2see"
OTHER_REQUESTS = 64
"""Requests at once in a replica beside its questions: uploads, /health, and questions that it refuses. Our choice."""
_LAST_SECONDS = 10.0
"""How long responses that are complete may take to be received, at the end. Our choice."""
_KEEP_ALIVE_SECONDS = 5
_ASKING_SECONDS = 0.2
_METRICS_SECONDS = 5.0
_HEALTH_SECONDS = 5.0
"""How often Ray asks a replica whether it is well. Our choice, as is the next one."""
_SLOW_SECONDS = 60.0
"""A replica that says nothing for so long is dead: while it computes, its answers are late."""
_LOGGING = LoggingConfig(log_level="WARNING", enable_access_log=False)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Counted:
    """The counters of one replica."""

    replica: str
    families: list[Metric]


class Replica:
    """One service. Ray Serve calls its methods and its application in one event loop."""

    def __init__(self, config: ServeConfig, uploads: Path, folder: Path) -> None:
        """Load the models. `folder` is where the command was started, `uploads` the folder that all replicas share."""
        self._ends = ExitStack()
        with suppress(OSError):  # it need not be on every node
            os.chdir(folder)
        if not uploads.is_dir():
            raise StoreError(f"a replica's node has no folder {uploads}: set TMPDIR to a folder that all nodes share, and start the server again")
        self._service = self._ends.enter_context(service(config, uploads_in=uploads))
        self._application = Application(self._service, self._counters_of_all)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Ray Serve's proxy passes requests to."""
        return self._application.asgi()

    async def check_health(self) -> None:
        """Raises `BackendError` when the replica can answer nothing more, so that another one takes its place."""
        if is_dead(self._service.models.backend):
            raise BackendError("the engine has ended")

    async def drain(self) -> int:
        """Refuse new questions. Returns how many are being answered or wait."""
        answers = self._service.answers
        answers.drain()
        return answers.running + answers.waiting

    async def stop(self) -> None:
        """Give all questions up."""
        self._service.answers.stop_all()

    async def counters(self) -> Counted:
        """The counters of this replica."""
        return Counted(ray_serve.get_replica_context().replica_id.unique_id, self._application.metrics.families())

    async def _counters_of_all(self) -> bytes:
        all_of_us = await run_in_threadpool(ray_serve.get_app_handle, APPLICATION)
        found = await all_of_us.broadcast("counters").results_async(timeout_s=_METRICS_SECONDS, return_exceptions=True)
        return text_of_replicas({one.replica: one.families for one in found if isinstance(one, Counted)})

    async def __del__(self) -> None:
        """Ray Serve awaits this at the replica's end."""
        self._ends.close()


def serve(config: ServeConfig, on_ready: Callable[[str, str], None]) -> bool:
    """Start the replicas and wait until SIGTERM or SIGINT. Returns whether all running answers were finished.

    `on_ready` receives the address and the model's name once connections are taken. Raises `ConfigError` for settings that cannot be and a cluster
    that cannot be reached or serves already, and `BackendError` with what a replica said that could not load its models.
    """
    assert config.ray is not None  # or nobody calls this
    check_address(config.ray)
    setup.check_models(ask_config(config))
    allowed(config)
    with closing(listen(config.host, config.port)) as listening:
        port, address = int(listening.getsockname()[1]), address_of(listening)
        warn_if_open(listening, config.api_key)
    with connected(config.ray), workspace() as uploads, _Signals() as signals, _serving(config, port):
        everyone = _started(config, uploads)
        signals.is_ready = True
        on_ready(address, model_name(config))
        signals.wait()
        until = time.monotonic() + config.deadline_seconds + _LAST_SECONDS  # no answer takes longer
        while _left(everyone) and time.monotonic() < until:
            if signals.wait(_ASKING_SECONDS):
                _told(everyone, "stop")
                until = time.monotonic() + _LAST_SECONDS
        return not signals.was_hastened


class _Signals:
    """SIGTERM and SIGINT: the first ends the wait, another one hastens the end. While the models are loaded they interrupt."""

    def __init__(self) -> None:
        self.is_ready = self.was_hastened = False
        self._is_ending = False
        self._came = threading.Event()

    def __enter__(self) -> "_Signals":
        self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the next one. Returns whether it has come."""
        came = self._came.wait(seconds)
        self._came.clear()
        return came

    def _hear(self, number: int, frame: object) -> None:
        if not self.is_ready:
            raise KeyboardInterrupt
        self.was_hastened, self._is_ending = self._is_ending, True
        self._came.set()


@contextmanager
def _serving(config: ServeConfig, port: int) -> Iterator[None]:
    """Ray Serve on the cluster, for the time of the block. Raises `ConfigError` if it is there already: its address and port cannot be changed."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # it tells of each step
    found = ray_serve.status()
    if found.proxies or found.applications:
        raise ConfigError("Ray Serve runs on this cluster already: end it with `serve shutdown`, or give another cluster")
    options = {"host": config.host, "port": port, "keep_alive_timeout_s": _KEEP_ALIVE_SECONDS}
    try:
        ray_serve.start(proxy_location="EveryNode", http_options=options, logging_config=_LOGGING)
        yield
    finally:
        ray_serve.shutdown()


def _started(config: ServeConfig, uploads: Path) -> DeploymentHandle:
    """The replicas, their models loaded."""
    has = ray.cluster_resources()
    share = ReplicaShare.of(config, has, is_own=config.ray == LOCAL)
    if lacking := share.lacks(has):
        _log.warning("the cluster has only %s for %d replicas: waiting for more", " and ".join(lacking), share.replicas)
    deployment = ray_serve.deployment(
        ray_serve.ingress()(Replica),
        name=APPLICATION,
        num_replicas=share.replicas,
        ray_actor_options=share.options,
        max_ongoing_requests=config.workers + config.queue + OTHER_REQUESTS,  # so that a full queue is our 429 and nobody waits before it
        max_queued_requests=MOST_CONNECTIONS,
        graceful_shutdown_timeout_s=_LAST_SECONDS,
        graceful_shutdown_wait_loop_s=_ASKING_SECONDS,
        health_check_period_s=_HEALTH_SECONDS,
        health_check_timeout_s=_SLOW_SECONDS,
        max_constructor_retry_count=1,  # what was wrong once is wrong again
        logging_config=_LOGGING,
    )
    try:
        return ray_serve.run(deployment.bind(config, uploads, Path.cwd()), name=APPLICATION, route_prefix="/")
    except (RuntimeError, ray.exceptions.RayError) as error:
        found = ray_serve.status().applications.get(APPLICATION)
        told = [one.message for one in found.deployments.values()] if found is not None else []
        raise BackendError(reason_in([str(error), *told])) from error


def _left(everyone: DeploymentHandle) -> int:
    """How many questions are not answered yet. No new ones are taken from now on."""
    return sum(found for found in _told(everyone, "drain") if isinstance(found, int))


def _told(everyone: DeploymentHandle, method: str) -> list[object]:
    """What a method of all replicas brings; of one that dies meanwhile, its error."""
    try:
        return list(everyone.broadcast(method).results(timeout_s=_SLOW_SECONDS, return_exceptions=True))
    except DeploymentUnavailableError:  # none is left
        return []
