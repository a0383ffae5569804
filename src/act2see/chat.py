"""The only place where steps become text, turns or tokens' segments, and where text becomes steps again.

A model's turn alternates its own words with observations. `render` and `parse` go between steps and these pieces, `turns` puts them into a
conversation in one of three renderings, `segments` flattens a conversation for a backend that feeds token ids, `messages` for one that speaks HTTP.
Decoding and training build token ids from the same segments, so that a training example holds the ids that decoding would have produced.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never, get_args

from act2see.trace import Answer, Frame, Generate, Observation, Retrieve, Step, Thought, Trace

Rendering = Literal["same_turn", "tool_turn", "user_turn"]
"""Where an inserted frame stands: inside the assistant's turn (the paper's), in a turn of the tool, or in a turn of the user."""
FramesAs = Literal["images", "video"]
"""How the initial frames go in: each as an image after its time, or all as the model's native video (two frames a temporal patch)."""
Tool = Literal["retrieve", "generate"]

STOPS = ("</retrieve>", "</generate>", "</answer>", "</frame>")
"""Decoding stops after any of these. `</frame>` is the tool's to write: a model that writes it is told so."""
MAX_QUERY_CHARACTERS = 1000
"""Longer calls are refused. Not in the paper; our choice: no retriever or generator reads that much."""

_AFTER_STOP = re.compile("(?<=" + ")|(?<=".join(STOPS) + ")")
_AFTER_CLOSING_TAG = re.compile("(?<=</think>)|(?<=" + ")|(?<=".join(STOPS) + ")")
_TAG = re.compile(r"<(/?)(retrieve|generate|frame|answer)>")
_ANY_TAG = re.compile(r"</?(?:retrieve|generate|frame|answer|think)>")


# Steps and pieces of a turn


def render(steps: Iterable[Step]) -> list[str | Observation]:
    """The pieces of the model's turn: its own words, joined, between the observations. The inverse of `parse`."""
    pieces: list[str | Observation] = []
    for step in steps:
        match step:
            case Observation():
                pieces.append(step)
                continue
            case Thought(text):
                words = text
            case Retrieve(query):
                words = f"<retrieve>{query}</retrieve>"
            case Generate(prompt):
                words = f"<generate>{prompt}</generate>"
            case Answer(text):
                words = f"<answer>{text}</answer>"
            case _:
                assert_never(step)
        if pieces and isinstance(pieces[-1], str):
            pieces[-1] += words
        else:
            pieces.append(words)
    return pieces


def parse(pieces: Iterable[str | Observation]) -> list[Step]:
    """Steps from the pieces of a turn. Whatever is no well-formed call or answer stays a `Thought`, exactly as written."""
    steps: list[Step] = []
    for piece in pieces:
        if isinstance(piece, Observation):
            steps.append(piece)
        else:
            for chunk in _AFTER_STOP.split(piece):
                steps.extend(parse_chunk(chunk)[0])
    return steps


def parse_chunk(text: str) -> tuple[list[Step], str | None]:
    """Steps from the words that a model wrote up to a stop, and what is wrong with their call or answer (None if nothing is).

    A chunk without a closing tag is a thought and no error: the model was still writing, or ended its turn.
    """
    tags = [(m.group(2), m.group(1) == "", m) for m in _TAG.finditer(text)]
    if not tags or tags[-1][1]:
        return ([Thought(text)] if text else []), None
    name = tags[-1][0]
    problem = _problem(name, [(tag, is_open) for tag, is_open, _ in tags])
    if problem is None:
        opening, closing = tags[0][2], tags[1][2]
        inner = text[opening.end() : closing.start()]
        problem = _inner_problem(name, inner)
    if problem is not None:
        return [Thought(text)], problem
    before, after = text[: opening.start()], text[closing.end() :]
    kinds: dict[str, type[Retrieve] | type[Generate] | type[Answer]] = {"retrieve": Retrieve, "generate": Generate, "answer": Answer}
    step: Step = kinds[name](inner)
    return [*([Thought(before)] if before else []), step, *([Thought(after)] if after else [])], None


def _problem(name: str, tags: list[tuple[str, bool]]) -> str | None:
    if name == "frame":
        return "only the tool writes a frame: ask with retrieve, and it comes back"
    match tags:
        case [(opened, True), (closed, False)] if opened == closed:
            return None
        case [(opened, True), (closed, False)]:
            return f"the call was opened as {opened} and closed as {closed}: open and close it with the same tag"
        case [(closed, False)]:
            return f"a closing {closed} without an opening one: write both"
        case _:
            return f"tags inside a {name}: write one call at a time, with plain words in it"


def _inner_problem(name: str, inner: str) -> str | None:
    if not inner.strip():
        return f"an empty {name}: put words between its tags"
    if _ANY_TAG.search(inner):
        return f"tags inside a {name}: write plain words in it"
    if name != "answer" and len(inner) > MAX_QUERY_CHARACTERS:
        return f"the {name} has {len(inner):,} characters; at most {MAX_QUERY_CHARACTERS:,} are read: say it shorter"
    return None


# Conversations


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is tokenised on its own. `own` marks the model's own words: the only ones that are trained on."""

    text: str
    own: bool = False
    marks: bool = False
    """True for the chat format's own marks (`<|im_start|>` …): only these may become special tokens, never a user's or a model's text."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame as an image."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames as one native video."""

    frames: tuple[Frame, ...]


Segment = Text | Picture | Clip


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation. `call` numbers the look that a tool's turn answers, or that an assistant's turn ends with."""

    role: Literal["system", "user", "assistant", "tool"]
    segments: tuple[Segment, ...]
    call: int | None = None


@dataclass(frozen=True, slots=True)
class Style:
    """How a conversation is written for one model: recorded with every trace, because it changes what the model reads."""

    rendering: Rendering = "same_turn"
    frames_as: FramesAs = "images"
    opening: str = ""
    """What the model's chat template puts at the start of its turn (`<think>\\n` for Qwen3-VL-Thinking). Prompt, not the model's words."""


def seconds_tag(seconds: float) -> str:
    """A time as Qwen3-VL's processor writes it before each of a video's temporal patches."""
    return f"<{seconds:.1f} seconds>"


def system_prompt(tools: Sequence[Tool]) -> str:
    """What the model is told about the protocol. The paper's wording is not known; this is ours. A tool that cannot be used is not mentioned."""
    lines = ["You answer a question about a video. You see some of its frames, each after its time. Think step by step inside <think> and </think>."]
    if "retrieve" in tools:
        lines.append(
            "If you need a frame of the video that you have not seen, write <retrieve> what to look for </retrieve>: "
            "it comes back inside <frame> and </frame>."
        )
    if "generate" in tools:
        lines.append(
            "If you need a picture of something that never happened, write <generate> its description </generate>: it comes back in the same way."
        )
    return " ".join([*lines, "End with <answer> your answer </answer>."])


def question_text(question: str, choices: Sequence[str]) -> str:
    """The question as the user's turn ends with it; choices get the letters A, B, C, …"""
    if not choices:
        return f"Question: {question}"
    options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters(len(choices)), choices, strict=True))
    return f"Question: {question}\n{options}\nAnswer with the right option."


def letters(count: int) -> str:
    """The letters of `count` choices (at most 26)."""
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count]


def chosen(answer: str | None, choices: Sequence[str]) -> int | None:
    """The index of the choice that an answer names, by its letter (`B`, `(b)`, `B. red`) or by its exact text; None when that is not sure."""
    if answer is None:
        return None
    text = answer.strip().rstrip(".").casefold()
    options = [choice.strip().rstrip(".").casefold() for choice in choices]
    if options.count(text) == 1:
        return options.index(text)
    if match := re.fullmatch(r"\(?([a-z])\)?(?:\s*[.:)]\s*(.*))?", text, re.DOTALL):
        index, rest = ord(match.group(1)) - ord("a"), match.group(2)
        if index < len(options) and rest in (None, "", options[index]):
            return index
    return None


def turns(trace: Trace, tools: Sequence[Tool], style: Style) -> list[Turn]:
    """The conversation so far. Its last turn is the assistant's and still open, unless the trace has ended."""
    asked: list[Segment] = []
    if style.frames_as == "video" and trace.frames:
        asked.append(Clip(trace.frames))
    else:
        for frame in trace.frames:
            asked.extend(_shown(frame))
    asked.append(Text(question_text(trace.question, trace.choices)))
    done = [Turn("system", (Text(system_prompt(tools)),)), Turn("user", tuple(asked))]
    current: list[Segment] = _opening(style)
    call = 0
    for piece in render(trace.steps):
        if isinstance(piece, str):
            current.extend(Text(words, own=True) for words in split_words(piece))
        elif style.rendering == "same_turn":
            current.extend(_observed(piece))
        else:
            role: Literal["tool", "user"] = "tool" if style.rendering == "tool_turn" else "user"
            done += [Turn("assistant", tuple(current), call), Turn(role, tuple(_observed(piece)), call)]
            current = _opening(style)
            call += 1
    return [*done, Turn("assistant", tuple(current))]


def opened(trace: Trace, opening: str) -> Trace:
    """The trace as a model with this opening would have written it: what its chat template writes (`<think>\\n`) is not among its own words.

    A trace of a model without an opening begins with `<think>`, one of a model with it does not. Where neither wrote one, nothing is added.
    """
    first = trace.steps[0] if trace.steps else None
    if not isinstance(first, Thought):
        return trace
    mark, text = opening.strip(), first.text
    if mark and text.lstrip().startswith(mark):
        text = text.lstrip().removeprefix(mark).removeprefix(opening.removeprefix(mark))
    elif not mark and "<think>" not in text and "</think>" in "".join(step.text for step in trace.steps if isinstance(step, Thought)):
        text = "<think>" + text
    return replace(trace, steps=[*([Thought(text)] if text else []), *trace.steps[1:]])


def tools_of(trace: Trace) -> tuple[Tool, ...]:
    """The tools that the model was told of when the trace was made; retrieve where the trace does not say."""
    known: tuple[Tool, ...] = get_args(Tool)
    said = trace.made_with.get("tools", "retrieve").split(",")
    return tuple(tool for tool in known if tool in said)


def split_words(text: str) -> list[str]:
    """The model's own words, cut after every closing tag: a byte-pair tokenizer would merge across (`><`, `>\\n`), and decoding stops there."""
    return [words for words in _AFTER_CLOSING_TAG.split(text) if words]


def _opening(style: Style) -> list[Segment]:
    return [Text(style.opening)] if style.opening else []


def _shown(frame: Frame) -> Iterator[Segment]:
    if frame.seconds is not None:
        yield Text(seconds_tag(frame.seconds))
    yield Picture(frame)


def _observed(observation: Observation) -> Iterator[Segment]:
    if observation.error is not None:
        # The message may quote a model's or a file's words: no tag of theirs may stand in the prompt.
        message = observation.error.replace("<", "(").replace(">", ")")
        yield Text(f"<frame>error: {message}</frame>")
        return
    yield Text("<frame>")
    for frame in observation.frames:
        yield from _shown(frame)
    yield Text("</frame>")


# Two ways to send a conversation


def segments(conversation: Sequence[Turn], *, ended: bool = False) -> list[Segment]:
    """The conversation in ChatML, as Qwen's models read it, for backends and trainers that feed token ids.

    `ended` closes the last turn: its end mark is then one of the model's own words, because a trained model must learn to stop.
    """
    flat: list[Segment] = []
    for number, turn in enumerate(conversation):
        last = number == len(conversation) - 1
        as_tool = turn.role == "tool"
        flat.append(Text("<|im_start|>", marks=True))
        flat.append(Text(("user" if as_tool else turn.role) + "\n" + ("<tool_response>\n" if as_tool else "")))
        flat.extend(turn.segments)
        if as_tool:
            flat.append(Text("\n</tool_response>"))
        if not last or ended:
            flat.append(Text("<|im_end|>", own=turn.role == "assistant", marks=True))
        if not last:
            flat.append(Text("\n"))
    return flat


def messages(conversation: Sequence[Turn], image_url: Callable[[Frame], str]) -> list[dict[str, Any]]:
    """The conversation as OpenAI chat messages; `image_url` turns a frame into a data URL.

    An open assistant's turn with nothing in it is left out: the server then begins it. One with words is the last message, to be continued.
    """
    result: list[dict[str, Any]] = []
    for number, turn in enumerate(conversation):
        parts = list(_parts(turn.segments, image_url))
        if turn.role == "assistant" and number == len(conversation) - 1 and not parts:
            continue
        only_text = all(part["type"] == "text" for part in parts)
        content: Any = "".join(part["text"] for part in parts) if only_text else parts
        message: dict[str, Any] = {"role": turn.role, "content": content}
        if turn.role == "tool":
            message["tool_call_id"] = f"look-{turn.call}"
        result.append(message)
    return result


def _parts(items: Sequence[Segment], image_url: Callable[[Frame], str]) -> Iterator[dict[str, Any]]:
    text = ""
    for item in items:
        match item:
            case Text():
                text += item.text
            case Picture(frame):
                if text:
                    yield {"type": "text", "text": text}
                text = ""
                yield {"type": "image_url", "image_url": {"url": image_url(frame)}}
            case Clip():
                raise ValueError("HTTP messages carry images, not native videos: use frames_as='images'")
            case _:
                assert_never(item)
    if text:
        yield {"type": "text", "text": text}
