"""Pictures by a model behind any server that speaks OpenAI's `POST /images/edits`: OpenAI's own, vLLM-Omni, SGLang.

The endpoint: https://platform.openai.com/docs/api-reference/images/createEdit. Nothing that a server returns is opened as an address or a file.
"""

import base64
import io
import math
import os
import weakref
from dataclasses import dataclass

import openai
from openai.types import ImagesResponse
from PIL import Image

from act2see.errors import BackendError, ConfigError, ToolError
from act2see.servers import is_plain_url, one_line, server_message

OPENAI_URL = "https://api.openai.com/v1"
CONNECT_SECONDS = 10.0
"""A server that takes longer to accept a connection counts as not there."""
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
    """The longest wait for an answer."""
    retries: int = 3
    """How often a request is sent again after a broken connection, a 429 or a 5xx."""
    send_seed: bool = False
    """For servers that take a `seed` (vLLM-Omni, SGLang). OpenAI's own refuse it: their pictures cannot be made again."""

    def __post_init__(self) -> None:
        if self.base_url is not None and not is_plain_url(self.base_url):
            raise ConfigError(
                "the generator's address must look like http://127.0.0.1:8000/v1, without user, password or query; a key goes into OPENAI_API_KEY"
            )


class RemotePainter:
    """One picture from another and a text, over HTTP. The model is an instruction editor. Safe to use from several threads."""

    def __init__(self, settings: RemoteSettings) -> None:
        """Raises `BackendError` for a key that cannot be sent, and for none where OpenAI's own server is asked."""
        self.settings = settings
        self._key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise BackendError("OPENAI_API_KEY holds characters that no key has: copy it again")
        if settings.base_url is None and not self._key:
            raise BackendError(f"{OPENAI_URL} needs a key: set OPENAI_API_KEY, or name another server")
        self._url = settings.base_url or OPENAI_URL
        self._names_size = False
        """True once the server chose a wrong shape by itself."""
        # Frames go to the address that the user gave and to no other.
        http = openai.DefaultHttpxClient(follow_redirects=False)
        weakref.finalize(self, http.close)
        self._client = openai.OpenAI(
            api_key=self._key or "none",  # the client insists on one; servers without keys ignore it
            base_url=self._url,
            timeout=openai.Timeout(settings.timeout_seconds, connect=min(CONNECT_SECONDS, settings.timeout_seconds)),
            max_retries=settings.retries,
            http_client=http,
        )

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
            raise ToolError(f"the generator's picture has the wrong shape ({got}): answer from what you have seen")
        return made if made.size == anchor.size else made.resize(anchor.size, Image.Resampling.LANCZOS)

    def _ask(self, prompt: str, anchor: Image.Image, seed: int, size: tuple[int, int] | None) -> Image.Image:
        buffer = io.BytesIO()
        anchor.convert("RGB").save(buffer, "PNG")
        try:
            answer: object = self._client.images.edit(
                image=("anchor.png", buffer.getvalue(), "image/png"),
                model=self.settings.model,
                n=1,
                # The words are our choice: the prompt describes a scene, and an editor wants to be told what to do.
                prompt=f"Change this picture so that it shows: {prompt.strip().removesuffix('.')}. Keep everything else as it is.",
                size=f"{size[0]}x{size[1]}" if size else openai.omit,
                extra_body={"seed": seed} if self.settings.send_seed else None,
            )
        except openai.APIError as error:
            # Without the cause: its request holds the key.
            raise self._explained(error) from None
        except ValueError:  # not JSON
            answer = None
        if not isinstance(answer, ImagesResponse):
            raise BackendError(f"the answer of {self._url} is no JSON object; is this an OpenAI-compatible server?")
        return _picture(answer)

    def _explained(self, error: openai.APIError) -> BackendError | ToolError:
        s, url = self.settings, self._url
        said = one_line(server_message(error), self._key)
        match error:
            case openai.APITimeoutError():
                text = f"no answer from {url} within {s.timeout_seconds:g} s: start the server, check the generator's address, or allow it more time"
            case openai.APIConnectionError():
                cause = one_line(error.__cause__ or error, self._key)
                text = f"no answer from {url}: {cause}; start the server or check the generator's address"
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                text = f"{url} refused the key ({error.status_code}): " + ("check OPENAI_API_KEY" if self._key else "set OPENAI_API_KEY")
            case openai.NotFoundError():
                text = f"{url} has no model {s.model!r} or no /images/edits (404): {said}; check the generator's model and address"
            case openai.BadRequestError() if _is_about_the_picture(error):
                return ToolError(f"the generator refused to make this picture: {said}")
            case openai.APIStatusError(status_code=status) if status == 429 or status >= 500:
                text = f"{url} still failed after {s.retries + 1} tries ({status}): {said}; try again later"
            case openai.APIStatusError(status_code=status):
                text = f"{url} refused the request ({status}): {said}"
            case _:
                text = f"{url} reported an error: {said}"
        return BackendError(text)


def _picture(answer: ImagesResponse) -> Image.Image:
    """The one picture in an answer, as RGB. Raises `ToolError`."""
    # The client checks no types: anything may stand anywhere.
    data: object = answer.data
    first: object = data[0] if isinstance(data, list) and data else None
    encoded: object = getattr(first, "b64_json", None)
    if not isinstance(encoded, str) or not encoded:
        came = "an address (which is never opened)" if getattr(first, "url", None) else "nothing"
        raise ToolError(f"the generator's server sent {came} instead of a picture: answer from what you have seen")
    try:
        # Some encoders break their lines.
        raw = base64.b64decode("".join(encoded.split()), validate=True)
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            pixels = image.width * image.height
            made = image.convert("RGB") if 0 < pixels <= MAX_PIXELS else None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # Pillow's own bounds, which are wider
        raise _too_large() from None
    except (OSError, SyntaxError, ValueError, EOFError):
        raise ToolError("what the generator's server sent is no PNG, JPEG or WebP picture: answer from what you have seen") from None
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
