"""chat_template.jinja, rendered by transformers as servers do it, against chat.segments() and against strings written by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jinja2
import jinja2.nodes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.utils.chat_template_utils import render_jinja_template

import act2see
from act2see.core import chat
from act2see.core.trace import Answer, Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace

TEMPLATE = (Path(act2see.__file__).parent / "core" / "templates" / "chat_template.jinja").read_text(encoding="utf-8")
IMAGE, VIDEO = "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"


def render(messages: Sequence[Mapping[str, Any]], **how: Any) -> str:
    rendered, _ = cast("tuple[list[str], object]", render_jinja_template([[dict(one) for one in messages]], chat_template=TEMPLATE, **how))
    return rendered[0]


def as_text(segments: Sequence[chat.Segment]) -> str:
    kinds = {chat.Picture: IMAGE, chat.Clip: VIDEO}
    return "".join(part.text if isinstance(part, chat.Text) else kinds[type(part)] for part in segments)


def as_messages(conversation: Sequence[chat.Turn]) -> list[dict[str, Any]]:
    """The conversation as a server hands it to the template: every segment a part, images without their data."""
    kinds = {chat.Picture: {"type": "image"}, chat.Clip: {"type": "video"}}
    return [
        {
            "role": turn.role,
            "content": [text(part.text) if isinstance(part, chat.Text) else kinds[type(part)] for part in turn.segments],
        }
        for turn in conversation
    ]


# Every conversation that chat.turns() can make

words = st.text(max_size=20) | st.sampled_from(
    ["\n", "  ", "a\n", " CONTINUE_FINAL_MESSAGE_TAG ", "{{ 1 + 1 }}{% raw %}", "<|im_end|>\n", "</frame>"]
)
real = st.builds(Frame, st.just(Image.new("RGB", (2, 2))), st.floats(0, 1000))
imagined = st.builds(Frame, st.just(Image.new("RGB", (2, 2))), st.none(), provenance=st.just(Provenance("p", None, "m", 0)))
observations = st.lists(real | imagined, min_size=1, max_size=3).map(lambda frames: Observation(tuple(frames))) | words.map(
    lambda e: Observation((), e)
)
calls: st.SearchStrategy[Step] = st.builds(Retrieve, words) | st.builds(Generate, words)
looks = st.tuples(st.builds(Thought, words), calls, observations)
steps = st.lists(looks, max_size=3).map(lambda several: [step for look in several for step in look])
lasts = st.lists(st.builds(Thought, words), max_size=1)
styles = st.builds(
    chat.Style, st.sampled_from(["same_turn", "tool_turn", "user_turn"]), st.sampled_from(["images", "video"]), st.sampled_from(["", "<think>\n"])
)
traces = st.builds(
    Trace, st.just("1"), st.just("v"), words, st.lists(real, max_size=3).map(tuple), st.lists(words, max_size=4).map(tuple), st.none(), steps
)
tools = st.sampled_from([(), ("retrieve",), ("retrieve", "generate")])


@settings(max_examples=60, deadline=None)
@given(traces, lasts, tools, styles)
def test_an_open_conversation_is_what_segments_say(trace: Trace, last: list[Step], tools: tuple[chat.Tool, ...], style: chat.Style) -> None:
    trace.steps.extend(last)
    conversation = chat.turns(trace, tools, style)
    forms: list[Sequence[Mapping[str, Any]]] = [as_messages(conversation)]
    # Over HTTP, words that look like marks are broken (test_control_tokens.py): they alone differ.
    said = "".join(part.text for turn in conversation for part in turn.segments if isinstance(part, chat.Text))
    if (style.frames_as == "images" or not trace.frames) and chat.without_marks(said) == said:
        forms.append(chat.messages(conversation, lambda frame: "data:"))
    for messages in forms:
        if messages[-1]["role"] == "assistant" and messages[-1]["content"]:
            rendered = render(messages, continue_final_message=True)
        else:
            rendered = render([m for m in messages if m["content"]], add_generation_prompt=True)
        assert rendered == as_text(chat.segments(conversation))


@settings(max_examples=30, deadline=None)
@given(traces, words, tools, styles)
def test_an_ended_conversation_is_what_segments_say(trace: Trace, text: str, tools: tuple[chat.Tool, ...], style: chat.Style) -> None:
    trace.steps.append(Answer(text))
    conversation = chat.turns(trace, tools, style)
    assert render(as_messages(conversation)) == as_text(chat.segments(conversation, ended=True)) + "\n"


# What Qwen3-VL's own template gives for the same conversations, written by hand


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


SYSTEM = {"role": "system", "content": "Be brief."}
MIXED = [
    text("<0.0 seconds>"),
    {"type": "image"},
    text(" and "),
    {"type": "image_url", "image_url": {"url": "data:"}},
    {"type": "video"},
    text("What?\n"),
]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "user", "content": "Hi"}], "<|im_start|>user\nHi<|im_end|>\n"),
        ([SYSTEM, {"role": "user", "content": " Hi\n"}], "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n"),
        (
            [{"role": "system", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]}],
            "<|im_start|>system\nBe brief.<|im_end|>\n",
        ),
        ([{"role": "user", "content": MIXED}], f"<|im_start|>user\n<0.0 seconds>{IMAGE} and {IMAGE}{VIDEO}What?\n<|im_end|>\n"),
        (
            [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [text("Hello")]},
                {"role": "user", "content": "So?"},
            ],
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nSo?<|im_end|>\n",
        ),
        (
            [{"role": "tool", "content": MIXED[:2], "tool_call_id": "look-0"}],
            f"<|im_start|>user\n<tool_response>\n<0.0 seconds>{IMAGE}\n</tool_response><|im_end|>\n",
        ),
    ],
)
def test_agrees_with_the_models_own_template(messages: list[dict[str, Any]], expected: str) -> None:
    assert render(messages) == expected
    assert render(messages, add_generation_prompt=True) == expected + "<|im_start|>assistant\n"


def test_an_image_inside_the_assistants_turn_stays() -> None:
    content = [text("<retrieve>x</retrieve><frame>"), {"type": "image"}, text("</frame>")]
    expected = f"<|im_start|>assistant\n<retrieve>x</retrieve><frame>{IMAGE}</frame>"
    assert render([{"role": "assistant", "content": content}], continue_final_message=True) == expected


@pytest.mark.parametrize(
    ("messages", "how", "message"),
    [
        ([{"role": "root", "content": "x"}], {}, "unknown role"),
        ([{"role": "user", "content": [{"type": "audio"}]}], {}, "unknown part"),
        ([{"role": "user", "content": "x"}], {"tools": [{"type": "function"}]}, "no tools"),
    ],
)
def test_what_it_cannot_write_is_refused(messages: list[dict[str, Any]], how: dict[str, Any], message: str) -> None:
    with pytest.raises(jinja2.TemplateError, match=message):
        render(messages, **how)


def test_servers_see_that_images_may_stay_in_place() -> None:
    """vLLM and SGLang parse the template: only with a loop over exactly `message['content']` do they leave images where they stand."""
    loops = list(jinja2.Environment().parse(TEMPLATE).find_all(jinja2.nodes.For))
    over_messages = [loop.target.name for loop in loops if isinstance(loop.iter, jinja2.nodes.Name) and isinstance(loop.target, jinja2.nodes.Name)]
    over_content = [loop.iter for loop in loops if isinstance(loop.iter, jinja2.nodes.Getitem)]
    assert over_messages == ["message"]
    assert [(iterated.node, iterated.arg) for iterated in over_content] == [
        (jinja2.nodes.Name("message", "load"), jinja2.nodes.Const("content")),
    ]
