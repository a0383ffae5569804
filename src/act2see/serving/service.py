"""What the server answers with: the loaded models, the sources of videos, and the settings of every question."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from act2see import api
from act2see.api import Models
from act2see.config import AskConfig, ServeConfig
from act2see.config.checks import check_question
from act2see.config.models import ModelConfig
from act2see.core.engine import Delta
from act2see.core.errors import ConfigError, VideoError
from act2see.core.interfaces import batched, is_concurrent
from act2see.core.trace import Step
from act2see.execution.progress import ProgressCallback
from act2see.serving.answers import Answered, Answers, Job, Tell, check_current
from act2see.serving.chat_requests import ChatRequest
from act2see.serving.completions import Completion
from act2see.serving.folders import AllowedFolders
from act2see.serving.refusals import RefusalError
from act2see.serving.room import Room
from act2see.serving.shared_tools import shared
from act2see.serving.sources import VideoSources
from act2see.serving.uploads import UploadStore, bytes_of_uploads
from act2see.serving.workspace import workspace
from act2see.storage.cache import Cache
from act2see.video import Video
from act2see.video.download import AllowedHosts

_MEBIBYTE = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that a server's requests share. Thread-safe."""

    config: ServeConfig
    models: Models
    answers: Answers
    sources: VideoSources
    uploads: UploadStore
    model_name: str
    created: int
    """When the models were loaded, in seconds since the epoch."""

    def options_for(self, request: ChatRequest) -> AskConfig:
        """The settings of one question. Raises `RefusalError` for another model, invalid choices, and more looks than the server allows."""
        if request.model != self.model_name:
            raise RefusalError(f"no model {request.model!r}; this server has {self.model_name!r}", 404, "model_not_found")
        try:
            check_question(request.question, request.choices)
        except ConfigError as error:
            raise RefusalError(str(error)) from error
        looks = self.config.max_looks if request.max_looks is None else request.max_looks
        if looks > self.config.max_looks:
            raise RefusalError(f"max_looks is {looks}; this server allows at most {self.config.max_looks}")
        return replace(ask_config(self.config), choices=request.choices, max_looks=looks)

    def start(self, job: Job, request: ChatRequest, tell: Tell, names: dict[str, str]) -> None:
        """Queue a request. `names` receives what the client calls the video, by its path, for errors. Raises as `options_for`."""
        options = self.options_for(request)
        self.answers.start(job, lambda: self._answer(job, request, options, tell, names), tell)

    def _answer(self, job: Job, request: ChatRequest, options: AskConfig, tell: Tell, names: dict[str, str]) -> Answered:
        """Runs in a worker's thread."""
        completion = Completion(self.model_name, request.ignored)

        def hear(event: Delta | Step) -> None:
            check_current()
            if request.stream:
                for chunk in completion.chunks(event):
                    tell(chunk)

        with self.sources.opened(request.video, job.seconds_left) as source:
            names[str(source.path)] = names[source.path.name] = source.name
            video = Video(source.path, Cache() if self.config.cache and not source.is_temporary else None)
            if not source.is_temporary:
                self.sources.roots.check_opened(source.path)
            check_length(video, self.config.max_video_seconds)
            result = api.ask(video, request.question, options, models=self.models, on_event=hear)
        if request.stream:
            return Answered(result.trace, b"".join(completion.last(result, source.name, include_usage=request.include_usage)))
        return Answered(result.trace, json.dumps(completion.whole(result, source.name)).encode())


def ask_config(config: ModelConfig) -> AskConfig:
    """The settings of a question that a server's settings hold."""
    return AskConfig(**{field.name: getattr(config, field.name) for field in fields(ModelConfig)})


def check_length(video: Video, most_seconds: float) -> None:
    """Raise `VideoError` for a video that is too long."""
    if video.duration_seconds > most_seconds:
        raise VideoError(f"the video has {video.duration_seconds:.0f} s; at most {most_seconds:g} s are taken: send a part of it")


def load_service_models(config: ServeConfig, progress: ProgressCallback | None = None) -> tuple[Models, int]:
    """The models, ready for several threads, and how many questions they answer at once. Raises what `api.load_models` raises."""

    def report(done: int, total: int | None, what: str) -> None:
        check_current()  # indexing a long video ends with its request
        if progress is not None and what.startswith("loading"):
            progress(done, total, what)

    # A server behind the backend that says nothing must not hold a worker beyond the request's own time.
    options = replace(ask_config(config), answer_seconds=min(config.answer_seconds, config.deadline_seconds))
    models = api.load_models(options, progress=report)
    backend = batched(models.backend, config.workers)
    workers = config.workers
    if workers > 1 and not is_concurrent(backend):
        _log.warning("backend %r answers one question at a time: --workers %d has no effect", config.backend, workers)
        workers = 1
    return shared(replace(models, backend=backend), check_current), workers


def model_name(config: ServeConfig) -> str:
    """The model's name in requests: the one that is given, or the last part of the backend's."""
    if config.model_name is not None:
        return config.model_name
    name, _, rest = config.backend.partition(":")
    return (Path(rest).name if name == "huggingface" else rest) or name


def allowed(config: ServeConfig) -> tuple[AllowedFolders, AllowedHosts]:
    """The folders and hosts whose videos requests may name. Raises `ConfigError` for what is none, and for an empty API key."""
    roots = AllowedFolders.of(config.allow_root, "--allow-root")
    try:
        hosts = AllowedHosts.of(config.allow_host)
    except ValueError as error:
        raise ConfigError(f"--allow-host: {error}") from error
    if config.api_key is not None and not config.api_key.strip():
        raise ConfigError("the API key is empty: set ACT2SEE_API_KEY to a key, or unset it")
    return roots, hosts


@contextmanager
def service(
    config: ServeConfig,
    progress: ProgressCallback | None = None,
    *,
    load: Callable[..., tuple[Models, int]] = load_service_models,
    uploads_in: Path | None = None,
) -> Iterator[Service]:
    """A service with its models loaded; its temporary files are deleted at the end. Raises `ConfigError` and what loading raises.

    Uploads are in a folder of its own, or in `uploads_in`, which several services share.
    """
    roots, hosts = allowed(config)
    with ExitStack() as ends:
        folder = ends.enter_context(workspace())
        shared_folder = uploads_in or folder
        room = Room.of(config.max_disk_mb, config.max_upload_mb, copies=2, held=lambda: bytes_of_uploads(shared_folder))
        models, workers = load(config, progress)
        uploads = UploadStore(shared_folder, room, max_bytes=config.max_upload_mb * _MEBIBYTE, keep_seconds=config.upload_seconds)
        sources = VideoSources(folder, uploads, roots, hosts, room, config.max_upload_mb * _MEBIBYTE)
        answers = Answers(workers, config.queue, config.deadline_seconds)
        ends.callback(answers.close)
        yield Service(config, models, answers, sources, uploads, model_name(config), int(time.time()))
