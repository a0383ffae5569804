"""Image generation on any server with OpenAI's `POST /images/edits`: OpenAI, vLLM-Omni, SGLang.

Reference: https://platform.openai.com/docs/api-reference/images/createEdit. URLs and paths in a response are never opened.
"""

import base64
import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

import httpx2
import openai
from PIL import Image

from act2see.backends.calls import Call, Caller, RetryPolicy
from act2see.backends.servers import Server, TransientError, check_url, server_message
from act2see.core.errors import BackendError, NoFrameError, ToolError
from act2see.core.flops import count

OPENAI_URL = "https://api.openai.com/v1"
MAX_BYTES = 96 * 2**20
"""Maximum size of a response. Our choice: a picture of `MAX_PIXELS` in base64, at 1.5 bytes per pixel as PNG."""
MAX_PIXELS = 50_000_000
"""Larger pictures are rejected before decoding. Our choice: six times 4K."""
FORMATS = ("PNG", "JPEG", "WEBP")
"""The formats that the endpoint can return. No others are tried: some of Pillow's readers start programs."""
SIZES = ((1024, 1024), (1536, 1024), (1024, 1536))
"""Width and height in pixels that every GPT image model supports, from the endpoint's reference."""
SHAPE_FACTOR = 1.1
"""Tolerated factor between aspect ratios. Our choice: servers round both sides to multiples of 16 or 32."""

_PICTURE_PARAMETERS = (None, "", "prompt", "image", "image[]")


class _Request(TypedDict):
    """Arguments of `client.images.edit`."""

    image: tuple[str, bytes, str]
    model: str
    n: int
    prompt: str
    size: str | openai.Omit
    extra_body: dict[str, int] | None


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Server, model and request options. The API key is not a setting: it is read from OPENAI_API_KEY."""

    model: str
    """The model's name on the server."""
    base_url: str | None = None
    """Base URL including the API version, such as `http://127.0.0.1:8000/v1`. None is OpenAI's server."""
    timeout_seconds: float = 300.0
    """Read timeout: the longest wait for the next bytes of a response."""
    answer_seconds: float = 3600.0
    """Time limit for one picture, retries and backoff included. Our choice."""
    retries: int = 3
    """Retries of a request after a broken connection, a 429 or a 5xx."""
    send_seed: bool = False
    """Send a `seed`, for servers that accept one (vLLM-Omni, SGLang). OpenAI's rejects it, so its pictures are not reproducible."""

    def __post_init__(self) -> None:
        if self.base_url is not None:
            check_url(self.base_url, "the generator's address")


class RemotePainter:
    """Generates an image from an anchor image and a text, over HTTP. The model is an instruction editor. Thread-safe."""

    def __init__(self, settings: RemoteSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        """Raises `BackendError` for an invalid API key, or for a missing one with OpenAI's server. `sleep` waits between retries."""
        self.settings = settings
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise BackendError("OPENAI_API_KEY contains invalid characters: copy it again")
        if settings.base_url is None and not key:
            raise BackendError(f"{OPENAI_URL} needs a key: set OPENAI_API_KEY, or name another server")
        self._url = settings.base_url or OPENAI_URL
        self._names_size = False
        """Whether to request a size, set once the server has chosen a wrong aspect ratio by itself."""
        self._server = Server(self._url, settings.model, "/images/edits", "the generator's address", key, settings.timeout_seconds)
        policy = RetryPolicy(settings.timeout_seconds, settings.answer_seconds, settings.retries, "--answer-seconds")
        # Frames are sent to the user's address only.
        self._caller = Caller(self._server, policy, follow_redirects=False, sleep=sleep)

    @property
    def name(self) -> str:
        """The model, prefixed by its kind of server."""
        return f"openai:{self.settings.model}"

    @property
    def model(self) -> str:
        """The model's name on the server, for a picture's provenance."""
        return self.settings.model

    @property
    def strengths(self) -> tuple[float | None, ...]:
        """Only None: instruction editors have no strength."""
        return (None,)

    def paint(self, prompt: str, anchor: Image.Image, *, seed: int, strength: float | None) -> Image.Image:
        """Generate an RGB image of the anchor's size. `strength` is ignored; `seed` is only sent with `send_seed`.

        The server chooses the size. If one of `SIZES` is closer to the anchor's aspect ratio than the returned picture, the request is repeated
        with that size, and later requests name it at once. A remaining difference is removed by resizing. Raises `ToolError` for a picture that
        the server rejects, that cannot be read or that still has the wrong aspect ratio, and `BackendError` for a server that cannot be used.
        """
        count("generator", None)
        shape = math.log(anchor.width / anchor.height)
        nearest = min(SIZES, key=lambda size: _distance(size, shape))
        requested = nearest if self._names_size else None
        picture = self._edit(prompt, anchor, seed, requested)
        if _is_distorted(picture.size, nearest, shape) and requested is None:
            picture = self._edit(prompt, anchor, seed, nearest)
            self._names_size = True
        if _is_distorted(picture.size, nearest, shape):
            got = f"{picture.width} x {picture.height} pixels came for a frame of {anchor.width} x {anchor.height}"
            raise NoFrameError(f"the generator's picture has the wrong shape ({got})")
        return picture if picture.size == anchor.size else picture.resize(anchor.size, Image.Resampling.LANCZOS)

    def _edit(self, prompt: str, anchor: Image.Image, seed: int, size: tuple[int, int] | None) -> Image.Image:
        buffer = io.BytesIO()
        anchor.convert("RGB").save(buffer, "PNG")
        request: _Request = {
            "image": ("anchor.png", buffer.getvalue(), "image/png"),
            "model": self.settings.model,
            "n": 1,
            # Our wording: the prompt describes a scene, whereas an editor expects an instruction.
            "prompt": f"Change this picture so that it shows: {prompt.strip().removesuffix('.')}. Keep everything else as it is.",
            "size": f"{size[0]}x{size[1]}" if size else openai.omit,
            "extra_body": {"seed": seed} if self.settings.send_seed else None,
        }
        tries = self._caller.tries()
        while True:
            try:
                with tries.next() as call:
                    response = self._response(call, request)
                    break
            except TransientError as fault:
                if call.deadline.is_over:
                    raise tries.overdue() from None
                tries.again(fault)
        if not isinstance(response, dict):
            raise BackendError(f"the response from {self._url} is not a JSON object; is this an OpenAI-compatible server?")
        return _picture(response)

    def _response(self, call: Call, request: _Request) -> object:
        """The JSON body of the response to one request; None if it is not JSON. Raises `TransientError`, `BackendError` and `ToolError`."""
        try:
            with call.client.images.with_streaming_response.edit(**request) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise BackendError(f"the response from {self._url} exceeds {MAX_BYTES:,} bytes: is this an OpenAI-compatible server?")
                if call.deadline.is_over:  # a body without a length then looks complete
                    raise self._server.broken("it came too slowly")
                return json.loads(body)
        except openai.BadRequestError as error:
            if _concerns_the_picture(error):
                said = self._server.redacted(server_message(error.body, error.message))
                raise ToolError(f"the generator refused to make this picture: {said}") from None
            raise self._server.fault(error) from None
        except openai.APIError as error:
            # Drop the cause: its request contains the API key.
            raise self._server.fault(error) from None
        except httpx2.TimeoutException:
            raise self._server.broken(f"no data for {self.settings.timeout_seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._server.broken(self._server.redacted(error) or type(error).__name__) from None
        except (ValueError, RecursionError):
            return None


def _picture(response: Mapping[str, object]) -> Image.Image:
    """The picture in a response, as RGB. Raises `ToolError`."""
    data = response.get("data")
    first: Mapping[str, object] = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
    encoded = first.get("b64_json")
    if not isinstance(encoded, str) or not encoded:
        came = "an address (which is never opened)" if first.get("url") else "nothing"
        raise NoFrameError(f"the generator's server sent {came} instead of a picture")
    try:
        # Some servers break base64 into lines.
        raw = base64.b64decode("".join(encoded.split()), validate=True)
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            pixels = image.width * image.height
            picture = image.convert("RGB") if 0 < pixels <= MAX_PIXELS else None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # Pillow's own limits, which are higher
        raise _too_large() from None
    except (OSError, SyntaxError, ValueError, EOFError):
        raise NoFrameError("what the generator's server sent is no PNG, JPEG or WebP picture") from None
    if picture is None:
        raise _too_large(f" ({image.width} x {image.height} pixels)")
    picture.info = {}  # drop untrusted metadata
    return picture


def _too_large(size: str = "") -> ToolError:
    return ToolError(f"the generator's picture is too large{size}; at most {MAX_PIXELS // 1_000_000} megapixels are read")


def _distance(size: tuple[int, int], shape: float) -> float:
    """Distance of a size from a shape, which is the logarithm of the aspect ratio."""
    return abs(math.log(size[0] / size[1]) - shape)


def _is_distorted(size: tuple[int, int], nearest: tuple[int, int], shape: float) -> bool:
    """Whether the `nearest` size is closer to the shape than this size, by more than the server's rounding."""
    return _distance(size, shape) > _distance(nearest, shape) + math.log(SHAPE_FACTOR)


def _concerns_the_picture(error: openai.BadRequestError) -> bool:
    """Whether a 400 concerns this prompt or anchor, so that others may pass. Unknown fields and billing errors affect every request."""
    return error.param in _PICTURE_PARAMETERS and not str(error.code or "").startswith("billing")
