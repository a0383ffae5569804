"""A strict stand-in for servers that speak OpenAI's chat completions: it refuses what vLLM or OpenAI's own servers refuse, and more.

It runs in a thread on 127.0.0.1. Its "model" is a function from the rendered prompt to a text; the server does what servers do around it:
checks, template, stop strings, pieces over SSE, usage.
"""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from PIL import Image
from transformers.utils.chat_template_utils import render_jinja_template

import act2see

Fault = Literal["429", "500", "hang", "break_at_once", "break", "no_end", "error_event", "bad_json", "html", "400", "filter"]
TEMPLATE = (Path(act2see.__file__).parent / "core" / "templates" / "chat_template.jinja").read_text(encoding="utf-8")
MODEL = "test-model"
OPENAI_FIELDS = {"model", "messages", "max_completion_tokens", "stop", "stream", "stream_options", "temperature", "top_p", "seed"}
VLLM_FIELDS = OPENAI_FIELDS | {"max_tokens", "top_k", "include_stop_str_in_output", "continue_final_message", "add_generation_prompt"}


class Refused(Exception):
    """An answer with a 4xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class StrictServer:
    """What the server is, what it shall do next, and what it has seen."""

    kind: Literal["vllm", "openai"] = "openai"
    write: Callable[[str], str] = lambda prompt: ""
    """The model: everything that it would write after this prompt, if nothing stopped it."""
    reasoning: str | None = None
    """What a reasoning parser splits off and sends apart, and the field's name."""
    reasoning_field: str = "reasoning_content"
    key: str | None = None
    honours_stop: bool = True
    gives_usage: bool = True
    names_stop: bool = False
    faults: list[Fault] = field(default_factory=list)
    """What goes wrong with the next requests, one each."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    hung_up_on: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test: hanging requests go home."""
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def check(self, body: dict[str, Any], key: str | None) -> None:
        if self.key is not None and key != self.key:
            raise Refused(401, f"Incorrect API key provided: {key}")
        allowed = OPENAI_FIELDS if self.kind == "openai" else VLLM_FIELDS
        if unknown := sorted(body.keys() - allowed):
            raise Refused(400, f"Unrecognized request argument supplied: {', '.join(unknown)}")
        if body["model"] != MODEL:
            raise Refused(404, f"The model `{body['model']}` does not exist.")
        if self.kind == "openai" and len(body.get("stop", [])) > 4:
            raise Refused(400, "Invalid 'stop': array too long. Expected an array with maximum length 4")
        if body.get("stream_options") and not body.get("stream"):
            raise Refused(400, "Stream options can only be defined when `stream=True`.")
        for number, message in enumerate(body["messages"]):
            self.check_message(message, body["messages"][:number])
        last_is_assistant = body["messages"][-1]["role"] == "assistant"
        continued = body.get("continue_final_message", False)
        if continued and body.get("add_generation_prompt", True):
            raise Refused(400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
        # vLLM would continue a user's message; nobody means that.
        if continued != last_is_assistant:
            raise Refused(400, "the last message is the assistant's exactly when it shall be continued")

    def check_message(self, message: dict[str, Any], before: list[dict[str, Any]]) -> None:
        if message["role"] == "tool" and self.kind == "openai" and not any("tool_calls" in earlier for earlier in before):
            raise Refused(400, "messages with role 'tool' must be a response to a preceding message with 'tool_calls'")
        content = message["content"]
        for part in content if isinstance(content, list) else []:
            if part["type"] == "image_url":
                if self.kind == "openai" and message["role"] != "user":
                    raise Refused(400, "Invalid value: 'image_url'. Supported values are: 'text' and 'refusal'.")
                read_data_url(part["image_url"]["url"])
            elif part["type"] != "text" or not isinstance(part["text"], str):
                raise Refused(400, f"Unsupported chat content part type: {part['type']!r}.")

    def prompt(self, body: dict[str, Any]) -> str:
        """The prompt as vLLM makes it: images become bare parts, strings become text parts, transformers renders."""
        chat: list[dict[str, Any]] = []
        for message in body["messages"]:
            content = message["content"] if isinstance(message["content"], list) else [{"type": "text", "text": message["content"]}]
            parts = [part if part["type"] == "text" else {"type": "image"} for part in content]
            chat.append({"role": message["role"], "content": parts})
        continued = body.get("continue_final_message", False)
        how = {"continue_final_message": continued, "add_generation_prompt": not continued}
        rendered, _ = cast("tuple[list[str], object]", render_jinja_template([chat], chat_template=TEMPLATE, **how))
        return rendered[0]

    def answer(self, body: dict[str, Any], prompt: str) -> tuple[str, str, str | None]:
        """The text that goes out, the finish reason, and the stop string that was met."""
        text = self.write(prompt)
        stops = [(text.find(stop), stop) for stop in body.get("stop", []) if stop in text]
        if not stops or not self.honours_stop:
            limit = int(body.get("max_completion_tokens") or body["max_tokens"])
            return (text[:limit], "length", None) if len(text) > limit else (text, "stop", None)
        at, stop = min(stops)
        end = at + len(stop) if body.get("include_stop_str_in_output") else at
        return text[:end], "stop", stop


def read_data_url(url: str) -> Image.Image:
    """The image in a data URL, decoded to its last pixel."""
    head, comma, data = url.partition(",")
    if not comma or head not in ("data:image/png;base64", "data:image/jpeg;base64"):
        raise Refused(400, f"not a data URL of an image: {url[:40]}")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        image.load()
    except (ValueError, OSError) as error:
        raise Refused(400, f"cannot decode image: {error}") from error
    if image.format is None or image.format.lower() not in head:
        raise Refused(400, f"the image is {image.format}, not what {head} says")
    return image


def _handler(server: StrictServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else every small piece waits for an acknowledgement

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append(body)
            fault = server.faults.pop(0) if server.faults else None
            if fault == "hang":
                server.released.wait(60)
            if fault in ("429", "500", "400"):
                # Servers may quote anything; this one quotes the key, over two lines and with a control character.
                self.refuse(int(fault), f"overloaded\nsaid \x1b[31m{self.headers['Authorization']}")
                return
            try:
                if self.path != "/v1/chat/completions":
                    raise Refused(404, "Not Found")
                server.check(body, (self.headers["Authorization"] or "").removeprefix("Bearer "))
                server.prompts.append(server.prompt(body))
            except Refused as refused:
                self.refuse(refused.status, str(refused))
            else:
                self.stream(body, fault)

        def refuse(self, status: int, message: str) -> None:
            data = json.dumps({"error": {"message": message, "type": "invalid_request_error", "code": status}}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After-Ms", "1")  # the client's own pauses are half a second and more
            self.end_headers()
            self.wfile.write(data)

        def stream(self, body: dict[str, Any], fault: Fault | None) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if fault == "html" else "text/event-stream")
            self.end_headers()
            try:
                for line in _lines(server, body, fault):
                    self.wfile.write(line)
                    self.wfile.flush()
            except OSError:
                server.hung_up_on.set()

    return Handler


def _lines(server: StrictServer, body: dict[str, Any], fault: Fault | None) -> Iterator[bytes]:
    if fault == "html":
        yield b"<html>It works!</html>"
        return
    yield _event({"role": "assistant", "content": ""})
    if fault == "break_at_once":
        return
    if fault == "error_event":
        yield b'data: {"error": "the engine has no attribute get_vocab"}\n\n'
        return
    if fault == "bad_json":
        yield b"data: {not json\n\n"
        return
    text, finish, stop = server.answer(body, server.prompts[-1])
    for piece in _pieces(server.reasoning or ""):
        yield _event({server.reasoning_field: piece})
    for number, piece in enumerate(_pieces(text)):
        if fault == "break" and number == 2:
            return
        yield _event({"content": piece})
    while not server.honours_stop and not server.released.is_set():
        yield _event({"content": " and on"})  # until the client hangs up
    if fault == "no_end":
        return
    end: dict[str, Any] = {"stop_reason": stop} if server.names_stop else {}
    yield _event({}, finish_reason="content_filter" if fault == "filter" else finish, **end)
    if server.gives_usage and body.get("stream_options", {}).get("include_usage"):
        prompt_tokens = len(server.prompts[-1])
        shared = len(server.prompts[-2]) if len(server.prompts) > 1 else 0
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(text), "total_tokens": prompt_tokens + len(text)}
        yield _event(None, usage=usage | {"prompt_tokens_details": {"cached_tokens": shared}})
    yield b"data: [DONE]\n\n"


def _pieces(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]  # four signs: tags come in pieces


def _event(delta: dict[str, Any] | None, usage: dict[str, Any] | None = None, **choice: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None, **choice}]
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": choices, "usage": usage}
    return f"data: {json.dumps(chunk)}\n\n".encode()


@pytest.fixture
def server() -> Iterator[StrictServer]:
    """A running strict server, to be set up by the test."""
    state = StrictServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(state)) as http:
        state.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        state.released.set()
        http.shutdown()
        thread.join()
