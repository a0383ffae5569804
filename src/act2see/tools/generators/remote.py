"""Pictures by a model behind any server that speaks OpenAI's `POST /images/edits`: OpenAI's own, vLLM-Omni, SGLang.

The endpoint: https://platform.openai.com/docs/api-reference/images/createEdit. Nothing that a server returns is opened as an address or a file.
"""

import base64
import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from PIL import Image

from act2see.backends.calls import Call, Caller, CircuitBreaker
from act2see.backends.servers import PassingFault, Server, check_url, server_message
from act2see.core.errors import BackendError, NoFrameError, ToolError

OPENAI_URL = "https://api.openai.com/v1"
MAX_BYTES = 96 * 2**20
"""An answer of more bytes is not read to its end. Our choice: a picture of `MAX_PIXELS` as base64, where a PNG takes 1.5 bytes a pixel."""
MAX_PIXELS = 50_000_000
"""A larger picture is refused before it is decoded. Our choice: six times 4K."""
FORMATS = ("PNG", "JPEG", "WEBP")
"""What the endpoint can return. Others are not tried: some of Pillow's readers start programs."""
SIZES = ((1024, 1024), (1536, 1024), (1024, 1536))
"""Width and height in pixels that every GPT image model can be asked for, by the endpoint's reference."""
SHAPE_FACTOR = 1.1
"""Width over height may differ by this much without another try. Our choice: servers round both to multiples of 16 or 32."""

_OF_THE_PICTURE = (None, "", "prompt", "image", "image[]")


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Which server, which model, and how to ask it. The key is no setting: it comes from the environment, as OPENAI_API_KEY."""

    model: str
    """The model's name as the server knows it."""
    base_url: str | None = None
    """The address up to and including the version, as `http://127.0.0.1:8000/v1`. None is OpenAI's own server."""
    timeout_seconds: float = 300.0
    """The longest wait for the next bytes of an answer."""
    answer_seconds: float = 3600.0
    """Time for one picture, all tries and pauses included. Our choice."""
    retries: int = 3
    """How often a request is sent again after a broken connection, a 429 or a 5xx."""
    send_seed: bool = False
    """For servers that take a `seed` (vLLM-Omni, SGLang). OpenAI's own refuse it: their pictures cannot be made again."""

    def __post_init__(self) -> None:
        if self.base_url is not None:
            check_url(self.base_url, "the generator's address")


class RemotePainter:
    """One picture from another and a text, over HTTP. The model is an instruction editor. Safe to use from several threads."""

    def __init__(self, settings: RemoteSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        """Raises `BackendError` for a key that cannot be sent, and for none where OpenAI's own server is asked. `sleep` pauses between tries."""
        self.settings = settings
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise BackendError("OPENAI_API_KEY holds characters that no key has: copy it again")
        if settings.base_url is None and not key:
            raise BackendError(f"{OPENAI_URL} needs a key: set OPENAI_API_KEY, or name another server")
        self._url = settings.base_url or OPENAI_URL
        self._names_size = False
        """True once the server chose a wrong shape by itself."""
        self._server = Server(self._url, settings.model, "/images/edits", "the generator's address", key, settings.timeout_seconds)
        patience = CircuitBreaker(settings.timeout_seconds, settings.answer_seconds, settings.retries, "--answer-seconds")
        # Frames go to the address that the user gave and to no other.
        self._caller = Caller(self._server, patience, follow_redirects=False, sleep=sleep)

    @property
    def name(self) -> str:
        """The model, and that it lies behind a server."""
        return f"openai:{self.settings.model}"

    @property
    def model(self) -> str:
        """The model's name as the server knows it, for a picture's provenance."""
        return self.settings.model

    @property
    def strengths(self) -> tuple[float | None, ...]:
        """None alone: an instruction editor knows no strength."""
        return (None,)

    def paint(self, prompt: str, anchor: Image.Image, *, seed: int, strength: float | None) -> Image.Image:
        """An RGB picture of the anchor's size that shows what the prompt describes. `strength` is not used, `seed` only with `send_seed`.

        The server chooses the size. If its picture has another shape than the anchor although one of `SIZES` comes nearer, it is asked again for
        that size, and from then on at once; what shape still differs is stretched back. Raises `ToolError` for a picture that was refused, cannot
        be read or has the wrong shape in spite of that, and `BackendError` for a server that cannot be used.
        """
        shape = math.log(anchor.width / anchor.height)
        nearest = min(SIZES, key=lambda size: _distance(size, shape))
        asked = nearest if self._names_size else None
        made = self._ask(prompt, anchor, seed, asked)
        if _is_squeezed(made.size, nearest, shape) and asked is None:
            made = self._ask(prompt, anchor, seed, nearest)
            self._names_size = True
        if _is_squeezed(made.size, nearest, shape):
            got = f"{made.width} x {made.height} pixels came for a frame of {anchor.width} x {anchor.height}"
            raise NoFrameError(f"the generator's picture has the wrong shape ({got})")
        return made if made.size == anchor.size else made.resize(anchor.size, Image.Resampling.LANCZOS)

    def _ask(self, prompt: str, anchor: Image.Image, seed: int, size: tuple[int, int] | None) -> Image.Image:
        buffer = io.BytesIO()
        anchor.convert("RGB").save(buffer, "PNG")
        request = {
            "image": ("anchor.png", buffer.getvalue(), "image/png"),
            "model": self.settings.model,
            "n": 1,
            # The words are our choice: the prompt describes a scene, and an editor wants to be told what to do.
            "prompt": f"Change this picture so that it shows: {prompt.strip().removesuffix('.')}. Keep everything else as it is.",
            "size": f"{size[0]}x{size[1]}" if size else openai.omit,
            "extra_body": {"seed": seed} if self.settings.send_seed else None,
        }
        tries = self._caller.tries()
        while True:
            try:
                with tries.next() as call:
                    answer = self._answer(call, request)
                    break
            except PassingFault as fault:
                if call.deadline.is_over:
                    raise tries.overdue() from None
                tries.again(fault)
        if not isinstance(answer, Mapping):
            raise BackendError(f"the answer of {self._url} is no JSON object; is this an OpenAI-compatible server?")
        return _picture(answer)

    def _answer(self, call: Call, request: Mapping[str, Any]) -> object:
        """The JSON that one request brings; None for what is no JSON. Raises `PassingFault`, `BackendError` and `ToolError`."""
        try:
            with call.client.images.with_streaming_response.edit(**request) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise BackendError(f"the answer of {self._url} has more than {MAX_BYTES:,} bytes: is this an OpenAI-compatible server?")
                if call.deadline.is_over:  # a body without a length then seems to end
                    raise self._server.broken("it came too slowly")
                return json.loads(body)
        except openai.BadRequestError as error:
            if _is_about_the_picture(error):
                said = self._server.said(server_message(error.body, error.message))
                raise ToolError(f"the generator refused to make this picture: {said}") from None
            raise self._server.fault(error) from None
        except openai.APIError as error:
            # Without the cause: its request holds the key.
            raise self._server.fault(error) from None
        except httpx2.TimeoutException:
            raise self._server.broken(f"nothing came for {self.settings.timeout_seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise self._server.broken(self._server.said(error) or type(error).__name__) from None
        except (ValueError, RecursionError):
            return None


def _picture(answer: Mapping[str, Any]) -> Image.Image:
    """The one picture in an answer, as RGB. Raises `ToolError`."""
    data = answer.get("data")
    first = data[0] if isinstance(data, list) and data and isinstance(data[0], Mapping) else {}
    encoded = first.get("b64_json")
    if not isinstance(encoded, str) or not encoded:
        came = "an address (which is never opened)" if first.get("url") else "nothing"
        raise NoFrameError(f"the generator's server sent {came} instead of a picture")
    try:
        # Some encoders break their lines.
        raw = base64.b64decode("".join(encoded.split()), validate=True)
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            pixels = image.width * image.height
            made = image.convert("RGB") if 0 < pixels <= MAX_PIXELS else None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # Pillow's own bounds, which are wider
        raise _too_large() from None
    except (OSError, SyntaxError, ValueError, EOFError):
        raise NoFrameError("what the generator's server sent is no PNG, JPEG or WebP picture") from None
    if made is None:
        raise _too_large(f" ({image.width} x {image.height} pixels)")
    made.info = {}  # the texts inside the file are nobody's
    return made


def _too_large(size: str = "") -> ToolError:
    return ToolError(f"the generator's picture is too large{size}; at most {MAX_PIXELS // 1_000_000} megapixels are read")


def _distance(size: tuple[int, int], shape: float) -> float:
    """How far a size is from a shape, which is the logarithm of width over height."""
    return abs(math.log(size[0] / size[1]) - shape)


def _is_squeezed(size: tuple[int, int], nearest: tuple[int, int], shape: float) -> bool:
    """Whether the server could have come nearer to the shape than with this size, by more than its rounding."""
    return _distance(size, shape) > _distance(nearest, shape) + math.log(SHAPE_FACTOR)


def _is_about_the_picture(error: openai.BadRequestError) -> bool:
    """Whether a 400 is about this prompt or this anchor, so that another may pass; a field or a bill would stop them all."""
    return error.param in _OF_THE_PICTURE and not str(error.code or "").startswith("billing")
