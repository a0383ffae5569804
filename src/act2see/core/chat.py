"""The only place where steps become text, turns or tokens' segments, and where text becomes steps again.

A model's turn alternates its own words with observations. `render` and `parse` go between steps and these pieces, `turns` puts them into a
conversation in one of three renderings, `segments` flattens a conversation for a backend that feeds token ids, `messages` for one that speaks HTTP.
Decoding and training build token ids from the same segments, so that a training example holds the ids that decoding would have produced.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NotRequired, TypedDict, assert_never, get_args

from act2see.core.errors import NoFrameError, ToolError
from act2see.core.protocol import PLACEHOLDERS, STOPS, first_use, parse_chunk
from act2see.core.trace import Answer, Frame, Generate, Observation, Retrieve, Step, Thought, Trace

Rendering = Literal["same_turn", "tool_turn", "user_turn"]
"""Where an inserted frame stands: inside the assistant's turn (the paper's), in a turn of the tool, or in a turn of the user."""
FramesAs = Literal["images", "video"]
"""How the initial frames go in: each as an image after its time, or all as the model's native video (two frames a temporal patch)."""
Tool = Literal["retrieve", "generate"]

_AFTER_CLOSING_TAG = re.compile("(?<=</think>)|(?<=" + ")|(?<=".join(STOPS) + ")")


_LATEX = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\{([^{}]*)\}")
_EMPHASIS = re.compile(r"(?<![^\W_])[*`$]+|[*`$]+(?![^\W_])|<\|(?:begin|end)_of_box\|>")
"""Also GLM's box around an answer. A sign between letters or digits is none: `2*3` is not `23`."""
_BRACKETS = {("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("“", "”"), ("'", "'")}
_LETTERED = re.compile(r"[(\[]?([a-z])[)\]]?(?:\s*(?:[.:)\]、。,]|[–—-](?=\s*\S))\s*(.*))?", re.DOTALL)
"""A choice's letter, and perhaps its text behind it. A dash with nothing behind it is a part of the answer: a mark of `B-`."""

_MARKS = re.compile(r"<(?=[|｜]|/?(?:tool_call|tool_response|start_of_turn|end_of_turn|image|img|video|bos|eos|s|pad|unk)>)|\[(?=/?INST\])")
"""Where a mark of a chat format begins: Qwen's and many others' `<|…|>`, DeepSeek's, Gemma's, Llama's, Mistral's."""


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
    """Steps from the pieces of a turn that has ended. Whatever is no use of the protocol stays a `Thought`, exactly as written."""
    listed = list(pieces)
    steps: list[Step] = []
    before = ""
    for number, piece in enumerate(listed, start=1):
        if isinstance(piece, Observation):
            steps.append(piece)
            continue
        rest = piece
        while (found := first_use(rest, before)) is not None:
            steps.extend(parse_chunk(rest[: found.end], before)[0])
            before, rest = before + rest[: found.end], rest[found.end :]
        steps.extend(parse_chunk(rest, before, ended=number == len(listed))[0])
        before += rest
    return steps


# Conversations


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is tokenised on its own. `own` marks the model's own words: the only ones that are trained on."""

    text: str
    own: bool = False
    marks: bool = False
    """True for the chat format's own marks (`<|im_start|>` …): only these may become special tokens, never a user's or a model's text."""
    wraps: bool = False
    """True for what the chat format puts around a tool's turn: a tokenizer may have `<tool_response>` as one token, for these words alone."""


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
    told = {name: f"<{name}> {words} </{name}>" for name, words in PLACEHOLDERS.items()}
    if "retrieve" in tools:
        lines.append(f"If you need a frame of the video that you have not seen, write {told['retrieve']}: it comes back inside {told['frame']}.")
    if "generate" in tools:
        lines.append(f"If you need a picture of something that never happened, write {told['generate']}: it comes back in the same way.")
    return " ".join([*lines, f"End with {told['answer']}."])


def error_for_model(error: ToolError) -> str:
    """What the model reads in place of a frame: the reason, with advice where no frame can be shown."""
    return f"{error}: answer from what you have seen" if isinstance(error, NoFrameError) else str(error)


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
    """The index of the choice that an answer names, by its letter or by its text; None when that is not sure.

    A letter may be decorated (`(b)`, `**B**`, `\\boxed{B}`, full-width), and the choice's own text may follow it (`B. red`, `B - red`). An answer
    that is the letter of one choice and the text of another names neither.
    """
    if answer is None:
        return None
    options, text = [_bare(choice) for choice in choices], _bare(answer)
    as_written = [choice.strip().rstrip(".").casefold() for choice in choices]
    named: set[int] = set()
    for texts, wanted in ((as_written, answer.strip().rstrip(".").casefold()), (options, text)):
        if not named and wanted and texts.count(wanted) == 1:
            named.add(texts.index(wanted))
    if (match := _LETTERED.fullmatch(text)) and (index := ord(match[1]) - ord("a")) < len(options):
        rest = match[2] and _bare(match[2])
        if not rest or (rest == options[index] and options.count(rest) == 1):
            named.add(index)
    return named.pop() if len(named) == 1 else None


def _bare(text: str) -> str:
    """Text without what decorates it: letter case, full-width forms, emphasis, LaTeX boxes, brackets around all of it, a full stop at its end."""
    letters_of = unicodedata.normalize("NFC", text)
    bare = unicodedata.normalize("NFC", "".join(one if _is_raised(one) else unicodedata.normalize("NFKC", one) for one in letters_of))
    while (inner := _LATEX.sub(r"\1", bare)) != bare:
        bare = inner
    bare = _EMPHASIS.sub("", bare).strip().rstrip(".。").strip().casefold()
    while len(bare) > 2 and (bare[0], bare[-1]) in _BRACKETS:
        bare = bare[1:-1].strip()
    return bare


def _is_raised(letter: str) -> bool:
    """Whether it is a superscript or a subscript, which says something else than the letter or digit itself: `10²` is not `102`."""
    return unicodedata.decomposition(letter).startswith(("<super>", "<sub>"))


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


def style_of(made_with: Mapping[str, str]) -> Style:
    """How a backend (or a trace of it) says that it writes conversations: rendering and opening; the paper's rendering where it does not say."""
    rendering = made_with.get("rendering")
    known: tuple[Rendering, ...] = get_args(Rendering)
    return Style(next((name for name in known if name == rendering), "same_turn"), opening=made_with.get("opening", ""))


def words_of_turn(trace: Trace, style: Style) -> str:
    """The model's words so far in the turn that is open, after what its template opens the turn with."""
    pieces = render(trace.steps)
    if style.rendering != "same_turn":
        last = max((number for number, piece in enumerate(pieces) if isinstance(piece, Observation)), default=-1)
        pieces = pieces[last + 1 :]
    return style.opening + "".join(piece for piece in pieces if isinstance(piece, str))


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
        flat.append(Text("user\n<tool_response>\n", wraps=True) if as_tool else Text(turn.role + "\n"))
        flat.extend(turn.segments)
        if as_tool:
            flat.append(Text("\n</tool_response>", wraps=True))
        if not last or ended:
            flat.append(Text("<|im_end|>", own=turn.role == "assistant", marks=True))
        if not last:
            flat.append(Text("\n"))
    return flat


class TextPart(TypedDict):
    """A text in an OpenAI chat message."""

    type: Literal["text"]
    text: str


class ImageURL(TypedDict):
    """Where a picture is: a data URL."""

    url: str


class ImagePart(TypedDict):
    """A picture in an OpenAI chat message."""

    type: Literal["image_url"]
    image_url: ImageURL


class Message(TypedDict):
    """An OpenAI chat message. Its content is one text, or parts where it holds pictures."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[TextPart | ImagePart]
    tool_call_id: NotRequired[str]


def messages(conversation: Sequence[Turn], image_url: Callable[[Frame], str]) -> list[Message]:
    """The conversation as OpenAI chat messages; `image_url` turns a frame into a data URL.

    An open assistant's turn with nothing in it is left out: the server then begins it. One with words is the last message, to be continued.
    A server makes tokens of the text as it stands, so a space breaks whatever looks like a mark of a chat format: nobody's words may be one.
    """
    result: list[Message] = []
    for number, turn in enumerate(conversation):
        parts = list(_parts(turn.segments, image_url))
        if turn.role == "assistant" and number == len(conversation) - 1 and not parts:
            continue
        texts = [part["text"] for part in parts if part["type"] == "text"]
        message: Message = {"role": turn.role, "content": "".join(texts) if len(texts) == len(parts) else parts}
        if turn.role == "tool":
            message["tool_call_id"] = f"look-{turn.call}"
        result.append(message)
    return result


def _parts(items: Sequence[Segment], image_url: Callable[[Frame], str]) -> Iterator[TextPart | ImagePart]:
    text = ""
    for item in items:
        match item:
            case Text():
                text += item.text
            case Picture(frame):
                if text:
                    yield {"type": "text", "text": without_marks(text)}
                text = ""
                yield {"type": "image_url", "image_url": {"url": image_url(frame)}}
            case Clip():
                raise ValueError("HTTP messages carry images, not native videos: use frames_as='images'")
            case _:
                assert_never(item)
    if text:
        yield {"type": "text", "text": without_marks(text)}


def without_marks(text: str) -> str:
    """Text in which no mark of a chat format is left: `<|im_end|>` becomes `< |im_end|>`."""
    return _MARKS.sub(r"\g<0> ", text)
