"""Constructs and filters training data end to end, with the embedded model as a teacher behind a real HTTP server that also fails.

    python scripts/construct_over_http.py [--n 50] [--work FOLDER]

A small server on 127.0.0.1 speaks OpenAI's chat completions. Its model is the embedded one; it answers one request at a time while others wait,
refuses every seventh with 429 and `Retry-After`, and breaks one off in the middle. Against it runs what a user would type: `act2see construct`,
interrupted halfway with Ctrl-C, the same with --resume, and `act2see filter` twice: with all its reasons, and without `leak`, because the embedded
model was trained on the very sentences that stand as the data set's reasoning. The prices are made up. Prints the commands, what came of them, and
one line of JSON; exits with 1 if a question is missing or there twice, if the counts do not add up, or if nothing was kept even without `leak`.
Needs act2see[local,openai].
"""

import argparse
import base64
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from transformers.utils.chat_template_utils import render_jinja_template

import act2see
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.kv_cache import CachedConversation
from act2see.core import chat
from act2see.core.trace import Frame

PACKAGE = Path(act2see.__file__).parent
TEMPLATE = (PACKAGE / "core" / "templates" / "chat_template.jinja").read_text(encoding="utf-8")
MODEL = "micro"
KNOWN = {"model", "messages", "max_completion_tokens", "stop", "stream", "stream_options", "temperature", "seed"}
KNOWN |= {"include_stop_str_in_output", "continue_final_message", "add_generation_prompt"}
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
MARKS = re.compile(r"(<\|im_start\|>|<\|im_end\|>|" + re.escape(PICTURE) + ")")
BEFORE_A_FRAME = re.compile(r"(?<=<frame>)(?=<\d+\.\d seconds>)")
PRICES = f"[{MODEL}]\ninput = 1.0\noutput = 4.0\ncached = 0.25\n"
BREAK_AT = 10
"""The request that is broken off. It must come before the Ctrl-C: a trace that a failure ended is begun again by --resume."""

Fault = Literal["429", "break"]


class Refused(Exception):
    """An answer with a 4xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a model needs it."""

    prompt: str
    images: tuple[Image.Image, ...]
    stops: tuple[str, ...]
    keeps_stop: bool
    max_tokens: int
    temperature: float
    seed: int | None


@dataclass(slots=True)
class Usage:
    """What a model counts while it writes."""

    tokens_in: int = 0
    tokens_out: int = 0
    reused: int = 0
    is_too_long: bool = False


Model = Callable[[Asked, Usage], Iterator[str]]
"""Writes on after a prompt, piece by piece, until it ends by itself or nobody listens any more."""


@dataclass
class Teaching:
    """A server, what goes wrong at it, and what it has seen."""

    model: Model
    fault: Callable[[int], Fault | None] = lambda number: None
    """What goes wrong with the request of this number, from 1."""
    retry_after: str = "1"
    asked: list[Asked] = field(default_factory=list)
    """The requests that got to the model."""
    counts: Counter[str] = field(default_factory=Counter)
    base_url: str = ""
    writing: threading.Lock = field(default_factory=threading.Lock)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, more: int = 1) -> int:
        """Counts something; gives the new count."""
        with self._counting:
            self.counts[what] += more
            return self.counts[what]


@contextmanager
def serving(state: Teaching) -> Iterator[None]:
    """The server runs on a free port of this machine as long as the block."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(state)) as http:
        state.base_url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            http.shutdown()
            thread.join()


def _handler(state: Teaching) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: the counts are told at the end."""

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.close_connection = True
            fault = state.fault(state.note("requests"))
            try:
                try:
                    asked = read_request(self.path, content, fault)
                except Refused as refused:
                    state.note(f"refused with {refused.status}")
                    self.refuse(refused)
                    return
                with state.writing:
                    state.asked.append(asked)
                    self.stream(asked, fault)
            except OSError:
                state.note("left by the client")

        def refuse(self, refused: Refused) -> None:
            data = json.dumps({"error": {"message": str(refused), "type": "invalid_request_error", "code": refused.status}}).encode()
            self.send_response(refused.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if refused.status == 429:
                self.send_header("Retry-After", state.retry_after)
            self.end_headers()
            self.wfile.write(data)

        def stream(self, asked: Asked, fault: Fault | None) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            usage, text = Usage(), ""
            try:
                for piece in cut(state.model(asked, usage), asked):
                    text += piece
                    self.send(_event({"content": piece}))
                    if fault == "break":  # the last chunk never comes: for the client, the connection is lost
                        state.note("broken off")
                        return
            finally:
                for name in ("tokens_in", "tokens_out", "reused"):
                    state.note(name, getattr(usage, name))
            stopped = next((stop for stop in asked.stops if text.endswith(stop)), None)
            self.send(_event({}, finish_reason="length" if usage.is_too_long else "stop", stop_reason=stopped))
            self.send(_event(None, usage))
            state.note("answered")  # before the client knows it: who reads the counts then finds it
            self.send(b"data: [DONE]\n\n")
            self.send(b"")

        def send(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    return Handler


def _event(delta: Mapping[str, str] | None, usage: Usage | None = None, **choice: str | None) -> bytes:
    """One event of a stream; the last one has the usage instead of a choice."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None, **choice}]
    chunk: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": choices}
    if usage is not None:
        counted = {"prompt_tokens": usage.tokens_in, "completion_tokens": usage.tokens_out, "total_tokens": usage.tokens_in + usage.tokens_out}
        chunk["usage"] = counted | {"prompt_tokens_details": {"cached_tokens": usage.reused}}
    return f"data: {json.dumps(chunk)}\n\n".encode()


def cut(pieces: Iterator[str], asked: Asked) -> Iterator[str]:
    """The pieces up to the first stop string. What may be the beginning of one is held back until that is clear."""
    text, sent, held = "", 0, max(map(len, asked.stops), default=1) - 1
    for piece in pieces:
        text += piece
        found = min(((at, stop) for stop in asked.stops if (at := text.find(stop)) >= 0), default=None)
        if found is not None:
            text = text[: found[0] + (len(found[1]) if asked.keeps_stop else 0)]
            break
        if len(text) - held > sent:
            yield text[sent : len(text) - held]
            sent = len(text) - held
    if text[sent:]:
        yield text[sent:]


def read_request(path: str, content: bytes, fault: Fault | None = None) -> Asked:
    """What is asked, checked as servers check it. Raises `Refused`."""
    if fault == "429":
        raise Refused(429, "too many requests")
    try:
        body = json.loads(content)
        if path != "/v1/chat/completions" or body["model"] != MODEL:
            raise Refused(404, f"there is only the model {MODEL} at /v1/chat/completions")
        if unknown := sorted(body.keys() - KNOWN):
            raise Refused(400, f"unknown fields: {', '.join(unknown)}")
        if not body["stream"] or not body["stream_options"]["include_usage"]:
            raise Refused(400, "only streams with their usage are written here")
        continued = body.get("continue_final_message", False)
        if continued == body.get("add_generation_prompt", True) or continued != (body["messages"][-1]["role"] == "assistant"):
            raise Refused(400, "the last message is the assistant's exactly when it is continued, and no generation prompt follows it then")
        images: list[Image.Image] = []
        told = [{"role": message["role"], "content": list(_parts(message["content"], images))} for message in body["messages"]]
        how = {"continue_final_message": continued, "add_generation_prompt": not continued}
        prompt: str = render_jinja_template([told], chat_template=TEMPLATE, **how)[0][0]
        stops, keeps_stop = tuple(body.get("stop", ())), bool(body.get("include_stop_str_in_output"))
        limit, temperature, seed = int(body["max_completion_tokens"]), float(body.get("temperature", 1.0)), body.get("seed")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        raise Refused(400, f"not a request: {error}") from error
    return Asked(prompt, tuple(images), stops, keeps_stop, limit, temperature, seed)


def _parts(content: Any, images: list[Image.Image]) -> Iterator[dict[str, str]]:
    """The parts as templates take them. Pictures are put into `images`; no address but a data URL is opened."""
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            if head not in ("data:image/png;base64", "data:image/jpeg;base64"):
                raise Refused(400, "only pictures in data URLs, PNG or JPEG, are taken")
            images.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=("PNG", "JPEG")).convert("RGB"))
            yield {"type": "image"}
        elif "<|" in part["text"]:  # in the prompt, nobody could tell it from the template's own marks
            raise Refused(400, "a text with marks of the chat format in it")
        else:
            yield {"type": "text", "text": part["text"]}


class Micro:
    """The embedded model as a server runs it: it knows a request, and nothing of traces."""

    def __init__(self, folder: Path) -> None:
        loaded = HuggingFaceBackend.load(HuggingFaceSettings(str(folder), device="cpu"))
        self._encoder = loaded.encoder
        self._conversation = CachedConversation(loaded.model, loaded.encoder.merge)
        self._end = loaded.encoder.tokenizer.eos_token_id

    def __call__(self, asked: Asked, usage: Usage) -> Iterator[str]:
        """See `Model`. The same seed and prompt draw the same words."""
        logits, usage.tokens_in, usage.reused = self._conversation.feed(self._encoder.encode(segments(asked.prompt, asked.images)))
        generator, ids, written = torch.Generator(), list[int](), ""
        if asked.seed is None:
            generator.seed()
        else:
            generator.manual_seed(asked.seed)
        while True:
            shares = torch.softmax(logits / max(asked.temperature, 1e-6), dim=-1)
            token = int(torch.multinomial(shares, 1, generator=generator)) if asked.temperature else int(logits.argmax())
            ids.append(token)
            usage.tokens_out = len(ids)
            if token == self._end:
                return
            text = self._encoder.tokenizer.decode(ids)
            if not text.endswith("\ufffd"):  # part of a character
                yield text[len(written) :]
                written = text
            if len(ids) == asked.max_tokens:
                usage.is_too_long = True
                return
            logits = self._conversation.append(token)


def segments(prompt: str, images: Sequence[Image.Image]) -> list[chat.Segment]:
    """A rendered prompt in the pieces in which the model was trained to read it, its pictures in their places."""
    found: list[chat.Segment] = []
    pictures, role, begins = iter(images), "", False
    for part in MARKS.split(prompt):
        if part == PICTURE:
            found.append(chat.Picture(Frame(next(pictures), None)))
        elif MARKS.fullmatch(part):
            role, begins = "", part == "<|im_start|>"
            found.append(chat.Text(part, marks=True))
        else:
            said = part
            if begins:
                role, line_end, said = part.partition("\n")
                found.append(chat.Text(role + line_end))
                begins = False
            own = [words for text in BEFORE_A_FRAME.split(said) for words in chat.split_words(text)] if role == "assistant" else [said]
            found += [chat.Text(text) for text in own if text]
    return found


def main() -> int:
    """Construct, interrupt, go on, filter twice, and count; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=50, help="number of synthetic questions")
    parser.add_argument("--work", type=Path, help="empty folder for all output; a temporary one if not given")
    parser.add_argument("--refuse-every", type=int, default=7, help="refuse every n-th request with 429; 0 for none")
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="act2see-http-"))
    work.mkdir(parents=True, exist_ok=True)
    (work / "prices.toml").write_text(PRICES, encoding="utf-8")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored, and children would inherit that
    state = Teaching(Micro(PACKAGE / "micro" / "vlm"))
    state.fault = lambda number: "break" if number == BREAK_AT else "429" if given.refuse_every and number % given.refuse_every == 0 else None
    run, filters, begun = work / "run", ("filter", str(work / "run"), "--embedder", "words", "--out"), time.monotonic()
    with serving(state):
        asked: tuple[str, ...] = ("construct", "synthetic", "--teacher", f"openai:{MODEL}", "--base-url", state.base_url, "--rendering", "same_turn")
        asked += ("--temperature", "0.7", "--seed", "0", "--n", str(given.n), "--workers", "4", "--retries", "2", "--max-tokens", "512")
        asked += ("--prices", str(work / "prices.toml"), "--out", str(run))
        problems = act2see_says(work, 130, *asked, interrupt=lambda: lines(run) >= given.n // 2)
        at_the_interrupt = lines(run)
        problems += act2see_says(work, 0, *asked, "--resume")
    problems += act2see_says(work, 0, *filters, str(work / "kept"))
    problems += act2see_says(work, 0, *filters, str(work / "kept-leaks"), "--ignore", "leak")
    told: dict[str, Any] = {"server": dict(state.counts), "seconds": round(time.monotonic() - begun), "traces_at_the_interrupt": at_the_interrupt}
    problems += [] if problems else report(work, given.n, told)
    for name, value in told.items():
        print(f"{name}: {json.dumps(value)}")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print(json.dumps({**told, "problems": problems}))
    return 1 if problems else 0


def act2see_says(work: Path, expected: int, *arguments: str, interrupt: Callable[[], bool] = lambda: False) -> list[str]:
    """Run a command as a user does and show its output; returns a problem if the exit code differs."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}  # a real key is not sent here
    environment |= {"ACT2SEE_CACHE": str(work / "cache"), "XDG_CONFIG_HOME": str(work / "settings"), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    print("$", shlex.join(["act2see", *arguments]), flush=True)
    begun = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", "act2see", *arguments], env=environment) as process:
        try:
            while process.poll() is None and not interrupt():
                time.sleep(0.05)
            if process.poll() is None:
                print("^C", flush=True)
                process.send_signal(signal.SIGINT)
            code = process.wait()
        finally:
            process.kill()
    print(f"exit code {code} after {time.monotonic() - begun:.0f} s\n", flush=True)
    return [] if code == expected else [f"act2see {arguments[0]} ended with {code} instead of {expected}"]


def lines(run: Path) -> int:
    """Number of traces on disk."""
    return (run / "traces.jsonl").read_bytes().count(b"\n") if (run / "traces.jsonl").exists() else 0


def report(work: Path, count: int, told: dict[str, Any]) -> list[str]:
    """Put into `told` what came of it, by the files alone; gives what is wrong."""
    traces, scores = (
        [json.loads(line) for line in (work / "run" / name).read_text("utf-8").splitlines()] for name in ("traces.jsonl", "scores.jsonl")
    )
    made = json.loads((work / "run" / "summary.json").read_text("utf-8"))
    ended = Counter(trace["id"] for trace in traces if trace["finish"])  # one that a failure ended is begun again under its id
    twice = sorted(name for found in (ended, Counter(row["id"] for row in scores)) for name, times in found.items() if times > 1)
    problems = [f"there twice: {', '.join(twice)}"] if twice else []
    if len(scores) != count or sum(made["outcomes"].values()) != count:
        problems.append(f"{len(scores)} scores and {sum(made['outcomes'].values())} outcomes for {count} questions")
    told |= {"questions": count, "outcomes": made["outcomes"], "tries": made["tries"], "call_rate": made["call_rate"]["all"]}
    told |= {"traces": len(traces), "traces_ended": sum(ended.values())}
    for folder in ("kept", "kept-leaks"):
        found = json.loads((work / folder / "summary.json").read_text("utf-8"))
        rejected = Counter(json.loads(line)["first"] for line in (work / folder / "rejected.jsonl").read_text("utf-8").splitlines())
        first = {reason: row["first"] for reason, row in found["by_reason"].items() if row["first"]}
        if first != dict(rejected) or sum(first.values()) != found["traces"] - found["kept"] or found["traces"] != sum(ended.values()):
            problems.append(f"{folder}: {first} of {found['traces']} traces, {found['kept']} kept, do not add up; rejected are {dict(rejected)}")
        told[folder] = {"kept": found["kept"], "of": found["traces"], "by_reason": found["by_reason"], "per_kept": found["cost"]["per_kept_trace"]}
        told[folder] |= {"mean_similarity": found["similarity"]["mean"], "ignored": found["settings"]["ignore"]}
    if not told["kept-leaks"]["kept"]:
        problems.append("nothing was kept")
    return problems


if __name__ == "__main__":
    sys.exit(main())
