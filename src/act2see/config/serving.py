"""Options of the servers: act2see serve and act2see mcp."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from act2see.config.models import MODELS, RAY, Count, ModelConfig, NotNegative, Positive, Seconds
from act2see.core.errors import ConfigError

SERVING = Group("Serving", sort_key=0)
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
Port = Annotated[int, Parameter(group=SERVING, validator=Number(gte=0, lte=65535))]


@dataclass(frozen=True, slots=True)
class ServingConfig(ModelConfig):
    """Settings shared by the servers."""

    cache: Annotated[bool, Parameter(group=SERVING)] = False
    """Cache frame indexes and transcripts on disk; off by default, so that nothing of a request outlives it there."""
    host: Annotated[str, Parameter(group=SERVING)] = "127.0.0.1"
    """Address to listen on. Other machines reach all but a loopback address: set an API key then."""
    proxy_host: Annotated[tuple[str, ...], Parameter(group=SERVING, negative_iterable=(), show_default=False)] = ()
    """Host name of a proxy in front of this server, as browsers and clients name it; may be repeated. On a loopback address, others are refused."""
    max_video_seconds: Annotated[Seconds, Parameter(group=SERVING)] = 7200.0
    """Maximum length of a video in seconds; longer ones are refused."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        if (wrong := next((name for name in self.proxy_host if not _HOST.fullmatch(name)), None)) is not None:
            raise ConfigError(f"--proxy-host is {wrong!r}; it must be one host's name without a scheme, a port or a wildcard, such as video.example")


@dataclass(frozen=True, slots=True)
class ServeConfig(ServingConfig):
    """Answer questions over HTTP, in the protocol of OpenAI's chat completions."""

    port: Port = 8000
    """Port to listen on; 0 for a free one."""
    model_name: Annotated[str | None, Parameter(group=SERVING)] = None
    """The model's name in requests and in /v1/models; default: the name in --backend."""
    workers: Annotated[int, Parameter(group=SERVING, validator=Number(gte=1, lte=1000))] = 1
    """Questions to answer at once: rows of a local model's forward pass, or requests to a server."""
    queue: Annotated[Count, Parameter(group=SERVING)] = 64
    """Questions that may wait for a worker; further ones get 429 with Retry-After."""
    deadline_seconds: Annotated[Seconds, Parameter(group=SERVING)] = 300.0
    """Time limit of a request, waiting included; after it the request fails with 504 and its worker is freed."""
    api_key: Annotated[str | None, Parameter(group=SERVING, env_var="ACT2SEE_API_KEY", show_default=False)] = None
    """Key that clients must send as a bearer token. Set ACT2SEE_API_KEY instead: other users can see a command line."""
    allow_root: Annotated[tuple[Path, ...], Parameter(group=SERVING, negative_iterable=(), show_default=False)] = ()
    """Folder below which requests may name videos by path; may be repeated. None by default."""
    allow_host: Annotated[tuple[str, ...], Parameter(group=SERVING, negative_iterable=(), show_default=False)] = ()
    """Host (or HOST:PORT) from which requests may have videos downloaded; may be repeated. None by default; never a private address."""
    max_body_mb: Annotated[Positive, Parameter(group=SERVING)] = 64
    """Maximum size of a request in MiB, a video in a data URL included."""
    max_upload_mb: Annotated[Positive, Parameter(group=SERVING)] = 512
    """Maximum size of an uploaded or downloaded video in MiB."""
    max_disk_mb: Annotated[Positive, Parameter(group=SERVING)] = 8192
    """Maximum size of all uploads, data URLs and downloads on disk together in MiB; what does not fit gets 507. An upload counts twice until it is
    stored, a download as --max-upload-mb until it is complete."""
    body_seconds: Annotated[Seconds, Parameter(group=SERVING)] = 60.0
    """Time limit for receiving a request's body."""
    write_seconds: Annotated[Seconds, Parameter(group=SERVING)] = 60.0
    """A client that takes nothing of its answer for this long is disconnected, and its question given up."""
    upload_seconds: Annotated[Seconds, Parameter(group=SERVING)] = 900.0
    """An upload is deleted this long after its last use."""
    ray: Annotated[str | None, Parameter(group=RAY)] = None
    """Serve with replicas on Ray Serve: `local`, or the address of a cluster (needs act2see[ray-serve])."""
    replicas: Annotated[Positive | None, Parameter(group=RAY)] = None
    """With --ray: processes that answer, each with models, --workers and --queue of its own. Default: 1."""
    replica_gpus: Annotated[NotNegative, Parameter(group=RAY)] = 0.0
    """GPUs per replica; may be fractional. With vllm:DIR, --tensor-parallel if not given and the cluster has GPUs."""

    def __post_init__(self) -> None:
        ServingConfig.__post_init__(self)
        if self.ray is None and (self.replicas is not None or self.replica_gpus):
            given = f"--replicas {self.replicas}" if self.replicas is not None else f"--replica-gpus {self.replica_gpus:g}"
            raise ConfigError(f"{given} is for a server on Ray: add --ray local or --ray HOST:6379, or use --workers for more questions at once")


@dataclass(frozen=True, slots=True)
class McpConfig(ServingConfig):
    """Let an assistant look into local videos, over the Model Context Protocol."""

    retriever: Annotated[str, Parameter(group=MODELS)] = "auto"
    """Frame retriever: micro (embedded), siglip:DIR, clip:DIR, blip2:DIR, embedding:DIR, words, words+RETRIEVER, or package.module:Class; auto is
    micro for a video of the synthetic world, and words for any other."""
    http: Annotated[bool, Parameter(group=SERVING, negative="")] = False
    """Serve over streamable HTTP instead of stdin and stdout."""
    port: Port = 8001
    """Port to listen on with --http; 0 for a free one."""
    api_key: Annotated[str | None, Parameter(group=SERVING, env_var="ACT2SEE_API_KEY", show_default=False)] = None
    """With --http: key that clients must send as a bearer token. Set ACT2SEE_API_KEY instead: other users can see a command line."""
    write_seconds: Annotated[Seconds, Parameter(group=SERVING)] = 60.0
    """With --http: a client that takes nothing of what is sent to it for this long is disconnected."""
    picture_side: Annotated[int, Parameter(group=SERVING, validator=Number(gte=32, lte=4096))] = 768
    """Longest side of returned pictures in pixels, so that they fit a context window."""
