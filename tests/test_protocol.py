"""Mention is not use: what counts of what a model writes, as one table; locally, over HTTP, in training data, and wherever a stream is cut."""

from collections.abc import Generator as Yields
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from act2see.backends.openai import CALL_STOPS, MAX_MENTIONS, _Answer
from act2see.backends.stream import Chunk, Delta
from act2see.core import chat, decoding
from act2see.core.engine import reason
from act2see.core.interfaces import Continuation
from act2see.core.protocol import MAX_QUERY_CHARACTERS, STOPS, first_use, is_mention, is_thinking, parse_chunk
from act2see.core.trace import Answer, Cost, Frame, Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.video import Video

CLIP = cast(Video, SimpleNamespace(path=Path("clip.mp4"), size=(8, 8)))
OPENINGS = ("", "<think>\n")
RENDERINGS: tuple[chat.Rendering, ...] = ("same_turn", "tool_turn", "user_turn")

# What is written while the reasoning is open, and what of it counts first: a step, the part of a refusal, or nothing.
IN_REASONING: list[tuple[str, Step | str | None]] = [
    ("I end with <answer> your answer </answer>", None),
    ("I end with <answer> B </answer>, I think", None),
    ("so `<answer>B</answer>` it will be", None),
    ("I write `<answer>` and then close it.", None),
    ("It comes back inside <frame> and </frame>.", None),
    ("It comes back inside `<frame>` and `</frame>`.", None),
    ("I may write <retrieve> what to look for </retrieve> first.", None),
    ("I may write <Retrieve> a star </Retrieve> first.", None),
    ("or <generate> its description </generate>, both are tools", None),
    ("I may write `<retrieve> the star </retrieve>` here", None),
    ('I may write "<retrieve> the star </retrieve>" here', None),
    ("```\n<retrieve> the star </retrieve>\n``` is the form", None),
    ("The tags are <retrieve> and </retrieve>.", None),
    ("The tags are <retrieve>, </retrieve>, <generate> and </generate>.", None),
    ("Tags: <retrieve></retrieve>", None),
    ("Tags: <retrieve> … </retrieve>", None),
    ("I close it with </retrieve>.", None),
    ("Opened as <retrieve> and closed as </generate>", None),
    ("I reason inside <think> and </think>. Then <answer>A</answer> comes.", None),
    ("The form is\n<think>\nreasoning\n</think>\n<answer>\nfinal answer\n</answer>\nand nothing else", None),
    ("I reason inside <thinking> and </thinking>, then <answer>A</answer>, yes", None),
    ("I need to <retrieve> the frame of the star", None),
    ("Let me look. <retrieve> the red star </retrieve>", Retrieve(" the red star ")),
    ("The <retrieve> tool helps. <retrieve> the red star </retrieve>", Retrieve(" the red star ")),
    ("Not <answer>A</answer> yet: <retrieve>star</retrieve>", Retrieve("star")),
    ("I quote `<retrieve>` and call <generate>a blue star</generate>", Generate("a blue star")),
    ("```\ncode\n```\n<retrieve> the star </retrieve>", Retrieve(" the star ")),
    ("inside <think> and </think>, so <retrieve> the star </retrieve>", Retrieve(" the star ")),
    ("<retrieve><retrieve> the star </retrieve>", "tags inside"),
    ("<retrieve> <think>the star</think> </retrieve>", "tags inside"),
    (f"<retrieve>{'x' * (MAX_QUERY_CHARACTERS + 1)}</retrieve>", "1,001 characters"),
    ("It shows <frame> a red star </frame>", "only the tool"),
    ("It is red.</think><answer> A </answer>", Answer(" A ")),
    ("End with <answer> your answer </answer>. It is red.</think>\n\n<answer>A</answer>", Answer("A")),
    ("I use `</think>` to close. <answer>B</answer> may be. Red.</think><answer>A</answer>", Answer("A")),
    ("the <answer> tag, later.</think><answer>A</answer>", Answer("A")),
    ("done</think>I could also <retrieve> the star </retrieve>", Retrieve(" the star ")),
]
# The same where no reasoning was opened, or it has closed.
OUTSIDE: list[tuple[str, Step | str | None]] = [
    ("<answer> A </answer>", Answer(" A ")),
    ("`<answer>A</answer>`", Answer("A")),
    ("I answer in `<answer>` tags: <answer>A</answer>", Answer("A")),
    ("You said <answer> your answer </answer>. So: <answer>A</answer>", Answer("A")),
    ("You said <answer> Your  Answer </answer>.", None),
    ("I end with <answer>...</answer>, as you said: <answer>A</answer>", Answer("A")),
    ("I may write <retrieve> … </retrieve> first.", None),
    ("A frame stands inside <frame> and </frame>.", None),
    ("I would close with `</answer>`.", None),
    ("<retrieve> the star </retrieve>", Retrieve(" the star ")),
    ("<retrieve> a <retrieve> b </retrieve>", "tags inside"),
    ("<retrieve> a </generate>", "opened as retrieve and closed as generate"),
    ("a </answer>", "without an opening"),
    ("<answer> </answer>", "empty"),
]


def begun(where: str, opening: str) -> str:
    """What a turn holds before the case's words: the reasoning open or closed, its first mark the template's or the model's own."""
    mark = "" if opening else "<think>\n"
    return {"reasoning": mark + "Hm. ", "closed": mark + "Hm.</think>\n", "never": ""}[where]


CASES = [
    *[(text, wanted, "reasoning") for text, wanted in IN_REASONING],
    *[(text, wanted, "closed") for text, wanted in OUTSIDE],
    *[(text, wanted, "never") for text, wanted in OUTSIDE],
]
cases = pytest.mark.parametrize(("text", "wanted", "where"), CASES)


def counted(text: str, before: str) -> Step | str | None:
    steps, problem = parse_chunk(text, before)
    last = steps[-1] if steps else None
    return problem if problem is not None else None if isinstance(last, Thought) else last


def agree(found: Step | str | None, wanted: Step | str | None) -> bool:
    return wanted in found if isinstance(found, str) and isinstance(wanted, str) else found == wanted


def test_the_table_has_its_cases() -> None:
    assert len(IN_REASONING) + len(OUTSIDE) >= 40


@pytest.mark.parametrize("opening", OPENINGS)
@cases
def test_what_counts(text: str, wanted: Step | str | None, where: str, opening: str) -> None:
    if where == "never" and opening:
        before = opening + "Hm.</think>"
    else:
        before = opening + begun(where, opening)
    assert agree(counted(text, before), wanted)
    if where != "never":  # written in one go, it is the same
        assert agree(counted(begun(where, opening) + text, opening), wanted)


@dataclass
class Speaker:
    """A model with its words laid out: like a real one it stops at every closing tag, and goes on from its own last words."""

    words: str
    made_with: Mapping[str, str]
    asked: int = 0

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        self.asked += 1
        pieces = chat.render(trace.steps)
        if any(isinstance(piece, Observation) for piece in pieces):
            yield "</think><answer>seen</answer>"
            return Continuation("</think><answer>seen</answer>", "tag", Cost())
        left = self.words.removeprefix("".join(piece for piece in pieces if isinstance(piece, str)))
        ends = [left.find(stop) + len(stop) for stop in STOPS if stop in left]
        text = left[: min(ends)] if ends else left
        yield text
        return Continuation(text, "tag" if ends else "end", Cost(tokens_out=1))


class Frames:
    name = "frames"

    def find(self, video: Video, query: str, *, shown: Any, count: int = 1) -> Sequence[Frame]:
        return [Frame(Image.new("RGB", (8, 8)), 1.0)]


@pytest.mark.parametrize("rendering", RENDERINGS)
@pytest.mark.parametrize("opening", OPENINGS)
@cases
def test_the_loop_goes_on_over_what_is_mentioned(text: str, wanted: Step | str | None, where: str, opening: str, rendering: chat.Rendering) -> None:
    said = begun("closed" if where == "never" and opening else where, opening) + text
    backend = Speaker(said, {"backend": "speaker", "rendering": rendering} | ({"opening": opening} if opening else {}))
    trace = Trace("t", "clip.mp4", "What?", ())
    list(reason(trace, CLIP, backend, Frames()))
    match wanted:
        case None if trace.finish == "answer":  # nothing came behind a whole answer: then it counts, and the trace says so
            assert trace.made_with["answered"] == "while its reasoning was open"
            assert "".join(piece for piece in chat.render(trace.steps) if isinstance(piece, str)) == said
        case None:
            assert (trace.steps, trace.finish) == ([Thought(said)], "end")
        case Answer():
            assert (trace.steps[-1], trace.finish) == (wanted, "answer")
            assert "answered" not in trace.made_with
        case str():
            assert any(isinstance(step, Observation) and wanted in (step.error or "") for step in trace.steps)
        case _:
            assert wanted in trace.steps
    if wanted is None:
        assert backend.asked == 1 + sum(said.count(stop) for stop in STOPS)


@pytest.mark.parametrize(("opening", "closing"), [("<thinking>", "</thinking>"), ("<thought>\n", "</thought>"), ("◁think▷", "◁/think▷")])
def test_the_marks_of_other_models_hold_their_reasoning(opening: str, closing: str) -> None:
    said = f"{opening}It may be <answer>A</answer>. I write </think>, or not.{closing}<answer>B</answer>"
    assert chat.parse([said])[-1] == Answer("B")
    assert chat.parse([f"{opening}So <answer>A</answer>{closing}\n"])[-1] == Answer("A")
    assert is_thinking(said.partition(closing)[0])


def test_a_tag_between_a_mark_s_brackets_is_text() -> None:
    assert chat.parse(["◁answer▷A◁/answer▷ <answer▷B</answer▷"]) == [Thought("◁answer▷A◁/answer▷ <answer▷B</answer▷")]


ENDS: list[tuple[str, str | None]] = [
    ("It is red. <answer>A</answer>", "A"),
    ("It is red. <answer> A </answer>\n", "A"),
    ("It is red. <answer>A</answer></think>", "A"),
    ("It is red. <answer>A</answer>\n</think>\n", "A"),
    ("Not <answer>B</answer>. <answer>A</answer>", "A"),
    ("It is <answer>A</answer>, surely", None),
    ("I end with <answer> your answer </answer>", None),
    ("I end with `<answer>A</answer>", None),
    ("I end with <answer></answer>", None),
    ("I end with <answer>…</answer>", None),
    ("I end with A</answer>", None),
    ("<answer> <think>A</think> </answer>", None),
]


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize(("text", "answer"), ENDS)
def test_a_turn_that_ends_right_after_a_whole_answer_counts_though_its_reasoning_is_open(text: str, answer: str | None, opening: str) -> None:
    said = begun("reasoning", opening) + text
    steps, problem = parse_chunk(said, opening, ended=True)
    assert problem is None
    assert (steps[-1].text.strip() if isinstance(steps[-1], Answer) else None) == answer
    assert parse_chunk(said, opening)[0] == [Thought(said)]  # cut off by its length, it does not


def heard(text: str, before: str, cuts: Sequence[int], stops: tuple[str, ...], reasoning: int = 0) -> _Answer:
    """An answer that a server sends in these pieces, the first `reasoning` characters as reasoning sent apart."""
    answer = _Answer(before, stops)
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        answer.take(Chunk(Delta(reasoning=text[start:end]) if end <= reasoning else Delta(content=text[start:end])))
    answer.take(Chunk(finish_reason="stop"))
    answer.end()
    return answer


@given(st.sampled_from(CASES), st.sampled_from(OPENINGS), st.sampled_from([STOPS, CALL_STOPS, ()]), st.data())
def test_wherever_a_stream_is_cut_the_same_counts(
    case: tuple[str, Step | str | None, str], opening: str, stops: tuple[str, ...], data: st.DataObject
) -> None:
    text, wanted, where = case
    said = begun("closed" if where == "never" and opening else where, opening) + text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=6)))
    answer = heard(said, opening, cuts, stops)
    if text.endswith("of the star") and stops:  # a hosted server returns what stands before its stop string: an open call is closed
        wanted = Retrieve(" the frame of the star")
    assert agree(counted(answer.text, opening), wanted)
    if isinstance(wanted, Retrieve | Generate | Answer):
        assert answer.stopped == "tag"
    if wanted is None and not answer.text.endswith(STOPS):
        assert answer.stopped == "end"


def test_reasoning_that_is_sent_apart_quotes_an_answer() -> None:
    reasoning, content = "It may be <answer>green</answer>. No, red.", "<answer>red</answer>"
    answer = heard(reasoning + content, "", [len(reasoning)], CALL_STOPS, len(reasoning))
    steps, _ = parse_chunk(answer.text)
    assert steps == [Thought(f"<think>{reasoning}</think>"), Answer("red")]
    assert answer.stopped == "tag"


@pytest.mark.parametrize("cut", range(1, 40))
def test_reasoning_that_is_sent_apart_ends_where_the_server_says(cut: int) -> None:
    reasoning, content = "I close </think>, then <answer>A</answer>? <", "<answer>B</answer>"
    answer = heard(reasoning + content, "", [cut, len(reasoning)], CALL_STOPS, len(reasoning))
    said = reasoning.replace("</think>", "`</think>`")
    assert parse_chunk(answer.text)[0] == [Thought(f"<think>{said}</think>"), Answer("B")]


def test_nothing_of_a_reasoning_that_is_cut_off_is_lost() -> None:
    answer = _Answer()
    answer.take(Chunk(Delta(reasoning="it is a </thi")))
    answer.take(Chunk(finish_reason="length"))
    answer.end()
    assert (answer.text, answer.stopped) == ("<think>it is a </thi", "length")


def test_a_stream_that_mentions_calls_without_end_is_hung_up_on() -> None:
    answer = _Answer("<think>", ())
    taken = [answer.take(Chunk(Delta("<retrieve> and </retrieve> "))) for _ in range(MAX_MENTIONS)]
    assert (answer.ran_on, answer.is_complete, answer.stopped) == (True, True, "length")
    assert answer.text == "".join(taken) == "<retrieve> and </retrieve> " * MAX_MENTIONS
    assert answer.end() == ""


def test_a_model_that_quotes_without_end_has_used_up_its_length() -> None:
    quote = "I end with <answer> your answer </answer>. "
    backend = Speaker("<think>" + quote * 500, {"backend": "speaker"})
    trace = Trace("t", "clip.mp4", "What?", ())
    list(reason(trace, CLIP, backend, None))
    assert trace.finish == "length"
    assert backend.asked == trace.cost.tokens_out == decoding.MAX_MENTIONS
    assert trace.steps == [Thought("<think>" + (quote * decoding.MAX_MENTIONS).rstrip(". "))]


def test_what_follows_a_call_is_dropped_as_decoding_stops_there() -> None:
    assert parse_chunk("a <retrieve> b </retrieve> c")[0] == [Thought("a "), Retrieve(" b ")]
    assert parse_chunk("<answer>b</answer>\n")[0] == [Answer("b")]


@pytest.mark.parametrize(
    ("text", "thinking"),
    [
        ("", False), ("<think>", True), ("<think>a</think>", False), ("a</think>", False), ("<think>\n<think>a</think>", False),
        ("<think>a `</think>` b", True), ("<think>inside <think> and </think> b", True), ("<think>a</think><think>b", True),
    ],
)  # fmt: skip
def test_when_the_reasoning_is_open(text: str, thinking: bool) -> None:
    assert is_thinking(text) is thinking


tags = st.sampled_from([f"<{slash}{name}>" for name in ("think", "retrieve", "generate", "frame", "answer") for slash in ("", "/")])
texts = st.lists(tags | st.sampled_from(["a", " ", "`", '"', "\n", "and", "your answer", "```", "…"]), max_size=16).map("".join)


@given(texts, st.sampled_from(OPENINGS))
def test_no_text_raises_and_what_counts_ends_with_a_stop(text: str, opening: str) -> None:
    found = first_use(text, opening)
    steps, problem = parse_chunk(text, opening)
    if found is None:
        assert (steps, problem) == ([Thought(text)] if text else [], None)
        assert is_mention(text, opening) == text.endswith(STOPS)
    else:
        assert text[: found.end].endswith(STOPS)
        assert first_use(text[: found.end], opening) == found  # known as soon as its last sign is there
        assert not is_mention(text[: found.end], opening)


@given(texts, st.sampled_from(OPENINGS))
def test_what_is_only_mentioned_stays_text_in_training_data(text: str, opening: str) -> None:
    trace = Trace("t", "clip.mp4", "What?", (), steps=[Thought(text)] if text else [], finish="end")
    flat = chat.segments(chat.turns(trace, ("retrieve",), chat.Style(opening=opening)), ended=True)
    assert "".join(item.text for item in flat if isinstance(item, chat.Text) and item.own and not item.marks) == text
    assert not any(isinstance(item, chat.Picture) for item in flat)
