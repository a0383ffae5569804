"""The HTTP backend against a strict stand-in server (conftest.py), on its own and through the whole loop."""

import base64
import io
import json
import logging
import socket
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from act2see.backends.openai import CALL_STOPS, OpenAIBackend, OpenAISettings, data_url, left_out
from act2see.core import chat, engine
from act2see.core.errors import BackendError, ConfigError
from act2see.core.interfaces import Continuation
from act2see.core.protocol import STOPS
from act2see.core.trace import Answer, Frame, Observation, Retrieve, Thought, Trace
from act2see.video import Video

Server = Any  # conftest.StrictServer: test files are imported by path, so its name cannot be imported here
KEY = "sk-very-secret-1234567890"
LOOK, ANSWER = "<think>Not seen yet.<retrieve> the star </retrieve>", "It is red.</think><answer> B </answer>"
LOOKS: tuple[chat.Tool, ...] = ("retrieve",)


def settings(server: Server, **changes: Any) -> OpenAISettings:
    made = OpenAISettings(model="test-model", base_url=server.base_url, temperature=0.0, timeout_seconds=5, retries=2)
    return replace(made, **changes)


def picture(colour: str, size: tuple[int, int] = (8, 6)) -> Image.Image:
    return Image.new("RGB", size, colour)


def question() -> Trace:
    return Trace("1", "clip.mp4", "What colour?", (Frame(picture("blue"), 0.0), Frame(picture("green"), 1.0)), ("blue", "red"))


class Finder:
    """A retriever that always brings the same frame."""

    name = "finder"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        assert query == "the star"
        assert tuple(shown) == (0.0, 1.0)
        return [Frame(picture("red"), 0.5, score=0.9)]


def two_calls(prompt: str) -> str:
    """A model that looks once and then answers; what it would write after its call must never be seen."""
    return f"{ANSWER} trailing" if "<0.5 seconds>" in prompt else f"{LOOK} and the frame shows <answer> A </answer>"


def run(backend: OpenAIBackend, trace: Trace) -> list[str]:
    """Carry the trace through the loop; the text as it streamed."""
    happened = list(engine.reason(trace, cast(Video, SimpleNamespace(path=Path("clip.mp4"), size=(8, 8))), backend, Finder()))
    return [item.text for item in happened if isinstance(item, engine.Delta)]


def ask(backend: OpenAIBackend, trace: Trace | None = None) -> tuple[list[str], Continuation]:
    """One call of decode: the text as it streamed, and what it returned."""
    stream = backend.decode(trace or question(), LOOKS)
    pieces: list[str] = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def refused(backend: OpenAIBackend) -> str:
    with pytest.raises(BackendError) as raised:
        ask(backend)
    text = str(raised.value)
    assert text.isprintable()  # one line
    return text


# The whole loop


@pytest.mark.parametrize(("rendering", "opening"), [("same_turn", ""), ("same_turn", "<think>\n"), ("tool_turn", "")])
def test_loop_on_vllm(server: Server, rendering: chat.Rendering, opening: str) -> None:
    server.kind, server.write = "vllm", two_calls
    trace = question()
    streamed = run(OpenAIBackend(settings(server, rendering=rendering, opening=opening, top_k=20)), trace)
    assert [type(step) for step in trace.steps] == [Thought, Retrieve, Observation, Thought, Answer]
    assert "".join(streamed) == LOOK + ANSWER
    assert (trace.answer, trace.finish) == ("B", "answer")
    # The server's prompt, made by transformers from our template, is what a local model would be fed.
    style = chat.Style(rendering, "images", opening)
    for prompt, steps in zip(server.prompts, ([], trace.steps[:3]), strict=True):
        assert prompt == as_text(chat.segments(chat.turns(replace(question(), steps=steps), LOOKS, style)))
    if rendering == "same_turn":
        assert server.prompts[1].startswith(server.prompts[0])  # so that the server's prefix cache holds
        last = server.requests[1]["messages"][-1]
        assert (last["role"], last["content"][-1]) == ("assistant", {"type": "text", "text": "</frame>"})
    assert [request.get("continue_final_message", False) for request in server.requests] == [bool(opening), rendering == "same_turn"]
    assert server.requests[0]["stop"] == list(STOPS if rendering == "same_turn" else CALL_STOPS)
    assert trace.cost.tokens_in == sum(map(len, server.prompts))
    # Where the answer's tag is no stop string, the server is heard to the end of what it writes behind it, and its count is the bill.
    assert trace.cost.tokens_out == len(LOOK + ANSWER) + (0 if rendering == "same_turn" else len(" trailing") - len("</retrieve>"))
    assert trace.cost.tokens_reused == len(server.prompts[0])
    assert trace.cost.seconds["decode"] >= trace.cost.seconds["first_token"] > 0


@pytest.mark.parametrize("kind", ["vllm", "openai"])
def test_looks_at_a_stretch_and_into_a_part_reach_a_server_with_all_their_pictures(
    server: Server, monkeypatch: pytest.MonkeyPatch, video: Video, kind: Literal["vllm", "openai"]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    calls = ["0.1 to 0.9 s", "zoom 0.2 0.1 0.6 0.5 at 0.5 s"]
    texts = iter([f"<think>I look.<retrieve> {call} </retrieve>" for call in calls] + ["Both fit.</think><answer>B</answer>"])
    server.kind, server.key, server.write = kind, KEY if kind == "openai" else None, lambda prompt: next(texts)
    trace = question()
    options = engine.LoopOptions(max_looks=2, offered=("clip", "zoom"))
    rendering: chat.Rendering = "same_turn" if kind == "vllm" else "user_turn"
    list(engine.reason(trace, video, OpenAIBackend(settings(server, rendering=rendering)), None, options=options))
    assert trace.answer == "B"
    assert [len(one.frames) for one in trace.observations] == [8, 1]

    def pictures(request: dict[str, Any]) -> int:
        return sum(
            part["type"] == "image_url" for message in request["messages"] if isinstance(message["content"], list) for part in message["content"]
        )

    assert [pictures(request) for request in server.requests] == [2, 10, 11]
    assert "T1 to T2 s" in json.dumps(server.requests[0]["messages"][0])
    assert {"clip", "zoom"} <= trace.cost.seconds.keys()


def as_text(segments: Sequence[chat.Segment]) -> str:
    return "".join(part.text if isinstance(part, chat.Text) else "<|vision_start|><|image_pad|><|vision_end|>" for part in segments)


@pytest.mark.parametrize("opening", ["", "<think>\n"])
def test_loop_on_a_hosted_server(server: Server, monkeypatch: pytest.MonkeyPatch, opening: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.kind, server.write, server.key = "openai", two_calls, KEY
    trace = question()
    streamed = run(OpenAIBackend(settings(server, opening=opening)), trace)
    assert "".join(streamed) == LOOK + ANSWER  # with the tags that the server left out
    assert trace.steps[1] == Retrieve(" the star ")
    assert trace.answer == "B"
    roles = [message["role"] for message in server.requests[1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert server.requests[1]["messages"][2]["content"] == opening + LOOK
    kinds = [part["type"] for part in server.requests[1]["messages"][3]["content"]]
    assert kinds == ["text", "image_url", "text"]
    assert trace.made_with["rendering"] == "user_turn"


def test_loop_on_a_server_that_ignores_stop(server: Server) -> None:
    server.write, server.honours_stop = two_calls, False
    trace = question()
    run(OpenAIBackend(settings(server, send_stop=False)), trace)
    assert trace.steps[1] == Retrieve(" the star ")
    assert trace.steps[-1] == Answer(" B ")
    assert "stop" not in server.requests[0]
    assert server.hung_up_on.wait(10)  # instead of paying for words that nobody reads
    assert trace.cost.tokens_out == 0  # the count comes at the end of a stream


def test_a_malformed_call_goes_on_as_an_error_that_the_model_reads(server: Server) -> None:
    server.kind, server.write = "vllm", lambda prompt: ANSWER if "error:" in prompt else "<retrieve> a </generate>"
    trace = question()
    run(OpenAIBackend(settings(server, rendering="same_turn")), trace)
    assert isinstance(trace.steps[1], Observation)
    assert trace.answer == "B"


# One call


def test_the_end_and_the_limit_are_told_apart(server: Server) -> None:
    server.write = lambda prompt: "I do not know."
    backend = OpenAIBackend(settings(server))
    assert (ask(backend)[1].text, ask(backend)[1].stopped) == ("I do not know.", "end")
    backend = OpenAIBackend(settings(server, max_tokens=5))
    assert (ask(backend)[1].text, ask(backend)[1].stopped) == ("I do ", "length")


def test_a_named_stop_string_is_believed(server: Server) -> None:
    server.names_stop, server.write = True, lambda prompt: "no tag was opened </answer>"
    assert ask(OpenAIBackend(settings(server)))[1].text == "no tag was opened </answer>"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(("text", "whole"), [("<answer> B </answer>", "<think>Look.</think><answer> B </answer>"), ("", "<think>Look.</think>")])
def test_reasoning_sent_apart_is_put_back(server: Server, name: str, text: str, whole: str) -> None:
    server.reasoning, server.reasoning_field, server.write = "Look.", name, lambda prompt: text
    pieces, continuation = ask(OpenAIBackend(settings(server)))
    assert "".join(pieces) == continuation.text == whole


def test_reasoning_that_the_template_opened_is_not_opened_again(server: Server) -> None:
    server.reasoning, server.write = "Look.", lambda prompt: "<answer> B </answer>"
    assert ask(OpenAIBackend(settings(server, opening="<think>\n")))[1].text == "Look.</think><answer> B </answer>"


def test_a_call_inside_reasoning_sent_apart_is_a_call(server: Server) -> None:
    server.reasoning, server.write = "I want <retrieve> x </retrieve> now", lambda prompt: "no"
    assert ask(OpenAIBackend(settings(server)))[1].text == "<think>I want <retrieve> x </retrieve>"


def test_no_usage_counts_nothing(server: Server) -> None:
    server.gives_usage, server.write = False, lambda prompt: ANSWER
    cost = ask(OpenAIBackend(settings(server)))[1].cost
    assert (cost.tokens_in, cost.tokens_out, cost.tokens_reused, cost.dollars) == (0, 0, 0, None)


def test_only_what_is_set_is_sent(server: Server) -> None:
    server.write = lambda prompt: ANSWER
    ask(OpenAIBackend(settings(server, temperature=None)))
    always = {"model", "messages", "max_completion_tokens", "stop", "stream", "stream_options"}
    assert server.requests[0].keys() == always
    server.kind = "vllm"
    ask(OpenAIBackend(settings(server, top_p=0.9, top_k=5, seed=3, max_tokens_field="max_tokens", max_tokens=7)))
    sent = {name: value for name, value in server.requests[1].items() if name not in always}
    assert sent == {"max_tokens": 7, "temperature": 0.0, "top_p": 0.9, "top_k": 5, "seed": 3}


# Faults


@pytest.mark.parametrize(
    ("faults", "pauses"),
    [
        (["429"], [(0.001, 0.001)]),  # as the server asks
        (["500", "429"], [(0.001, 0.001)] * 2),
        (["break_at_once"], [(0.3, 0.5)]),
        (["bad_json"], [(0.3, 0.5)]),
        (["html", "break_at_once"], [(0.3, 0.5), (0.7, 1.0)]),
    ],
)
def test_a_passing_fault_is_tried_again(server: Server, faults: list[Any], pauses: list[tuple[float, float]]) -> None:
    server.faults, server.write = list(faults), lambda prompt: ANSWER
    slept: list[float] = []
    pieces, continuation = ask(OpenAIBackend(settings(server), sleep=slept.append))
    assert "".join(pieces) == continuation.text == ANSWER
    assert len(server.requests) == len(faults) + 1
    assert [low <= seconds <= high for seconds, (low, high) in zip(slept, pauses, strict=True)] == [True] * len(faults)


@pytest.mark.parametrize(
    ("fault", "part"),
    [
        ("500", "/v1 failed after 3 tries (500): overloaded said"),
        ("429", "/v1 failed after 3 tries (429): overloaded said"),
        ("break_at_once", "broke off after 3 tries: it ended without a finish reason"),
        ("html", "is this an OpenAI-compatible server?"),
    ],
)
def test_a_lasting_fault_is_an_error_after_bounded_tries(server: Server, fault: Any, part: str) -> None:
    server.faults = [fault] * 9
    assert part in refused(OpenAIBackend(settings(server), sleep=lambda seconds: None))
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", ["break", "no_end"])
def test_a_stream_that_breaks_in_the_middle_is_an_error(server: Server, fault: Any) -> None:
    server.faults, server.write = [fault], lambda prompt: "I think, and then"
    assert "broke off" in refused(OpenAIBackend(settings(server)))
    assert len(server.requests) == 1  # what was yielded cannot be taken back


def test_a_break_after_the_stop_string_does_not_matter(server: Server) -> None:
    server.kind, server.faults, server.write = "vllm", ["no_end"], lambda prompt: ANSWER
    continuation = ask(OpenAIBackend(settings(server, rendering="same_turn")))[1]
    assert (continuation.text, continuation.stopped) == (ANSWER, "tag")


def test_a_server_that_hangs(server: Server) -> None:
    server.faults = ["hang", "hang"]
    assert "no answer from http://127.0.0.1" in refused(OpenAIBackend(settings(server, timeout_seconds=0.2, retries=0)))


def test_a_dead_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        text = refused(OpenAIBackend(OpenAISettings("m", url, retries=0)))
    assert text.startswith(f"no answer from {url} after 1 try: ")
    assert text.endswith("Connection refused; start the server or check --base-url")


def test_refusals_say_what_to_do(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "has no model 'other'" in refused(OpenAIBackend(settings(server, model="other")))
    assert "refused the request (400): Unrecognized request argument supplied: top_k" in refused(OpenAIBackend(settings(server, top_k=1)))
    server.key = KEY
    assert refused(OpenAIBackend(settings(server))).endswith("refused the key (401): set OPENAI_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    assert refused(OpenAIBackend(settings(server))).endswith("refused the key (401): check OPENAI_API_KEY")
    server.key, server.faults = None, ["error_event"]
    assert refused(OpenAIBackend(settings(server))).endswith("reported an error: the engine has no attribute get_vocab")
    server.faults = ["filter"]
    assert "content filter" in refused(OpenAIBackend(settings(server)))
    assert len(server.requests) == 6  # none of them is tried again


def test_the_key_is_never_seen(server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server.key, server.write = KEY, lambda prompt: ANSWER
    backend = OpenAIBackend(settings(server))
    trace = question()
    run(backend, trace)
    for fault in ("400", "500", "429"):
        server.faults = [fault] * 3
        text = refused(backend)
        assert "Bearer ***" in text
        assert KEY not in text
    assert caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(trace.made_with) + repr(backend.settings) + repr(server.requests)


def test_a_key_that_no_header_can_hold(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\nX: y")
    with pytest.raises(BackendError, match="copy it again"):
        OpenAIBackend(settings(server))


# Settings and small parts


def test_settings_that_cannot_be_used() -> None:
    with pytest.raises(ConfigError, match="--base-url"):
        OpenAISettings("m", None)
    with pytest.raises(ConfigError, match="known are auto, same_turn, tool_turn, user_turn"):
        OpenAISettings("m", "http://h/v1", rendering=cast(chat.Rendering, "any"))
    with pytest.raises(ConfigError, match="known are auto, png, jpeg"):
        OpenAISettings("m", "http://h/v1", image_format=cast(Any, "gif"))


def test_made_with_names_what_changes_an_answer() -> None:
    made = OpenAIBackend(OpenAISettings("m", "https://example.org:8443/some/v1", "same_turn", "<think>\n", temperature=0.0)).made_with
    assert made == {
        "backend": "openai",
        "model": "m",
        "server": "example.org:8443",
        "rendering": "same_turn",
        "frames_as": "images",
        "image_format": "auto",
        "decoding": "greedy",
        "max_tokens": "8192",
        "opening": "<think>\n",
    }
    asked: list[dict[str, Any]] = [{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "seed": 3}, {}]
    drawn = [OpenAIBackend(OpenAISettings("m", "http://h/v1", **how)).made_with["decoding"] for how in asked]
    assert drawn == ["temperature 0.6, top-p 0.95, top-k 20, seed 3", "as the server does"]


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("", ""),
        ("no tags", ""),
        ("<retrieve> q", "</retrieve>"),
        ("<think>a<generate>p", "</generate>"),
        ("<answer> B", ""),  # no stop string: whoever writes an answer closes it
        ("<frame>", ""),
        ("<answer>x</answer>", ""),
        ("<retrieve> a </retrieve>", ""),
        ("<think>I may use `<retrieve>", ""),
        ("<think>I may use <retrieve> and", ""),
        ("<think>I may use <retrieve> what to look for", ""),
        ("<think> only", ""),
    ],
)
def test_the_stop_string_that_a_server_left_out(text: str, tail: str) -> None:
    assert left_out(text, "", CALL_STOPS) == tail
    assert left_out(text + tail, "", CALL_STOPS) == ""
    assert left_out(text, "", ()) == ""  # none was sent, so none was left out


words = st.text(alphabet="ab <>/\n", max_size=12)  # too few letters for a tag


@given(words, words.filter(str.strip), st.sampled_from(["retrieve", "generate"]))
def test_what_a_hosted_server_left_out_is_put_back(before: str, inner: str, name: str) -> None:
    whole = f"{before}<{name}>{inner}</{name}>"
    cut = whole[: whole.index(f"</{name}>")]
    assert cut + left_out(cut, "", CALL_STOPS) == whole


def test_data_urls_hold_the_picture() -> None:
    for image, image_format, expected in (
        (picture("red", (256, 256)), "auto", "png"),
        (picture("red", (257, 256)), "auto", "jpeg"),
        (picture("red"), "jpeg", "jpeg"),
        (Image.new("RGBA", (300, 300), (255, 0, 0, 255)), "png", "png"),
        (Image.new("L", (300, 300), 76), "auto", "jpeg"),
    ):
        head, _, data = data_url(image, cast(Any, image_format)).partition(",")
        assert head == f"data:image/{expected};base64"
        decoded = Image.open(io.BytesIO(base64.b64decode(data)))
        assert (decoded.format, decoded.size, decoded.mode) == (expected.upper(), image.size, "RGB")
        pixel, original = decoded.getpixel((3, 3)), image.convert("RGB").getpixel((3, 3))
        assert isinstance(pixel, tuple)
        assert isinstance(original, tuple)
        assert all(abs(a - b) <= (0 if expected == "png" else 3) for a, b in zip(pixel, original, strict=True))


def test_a_frame_is_encoded_once_and_forgotten_with_its_image(server: Server) -> None:
    server.write = lambda prompt: ANSWER
    backend = OpenAIBackend(settings(server))
    trace = question()
    ask(backend, trace)
    urls = backend._urls
    held = dict(urls)
    ask(backend, trace)
    assert len(held) == 2
    assert all(urls[key] is held[key] for key in held)
    del trace
    assert not urls
