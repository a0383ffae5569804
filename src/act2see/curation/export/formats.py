"""One trace as one row of another trainer's data: the conversation that `chat` writes, with every picture in its place.

docs/export.md describes what each trainer reads from a row, which tokens it trains on, and what is lost.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from act2see.core import chat
from act2see.core.errors import ConfigError
from act2see.core.trace import Frame, Trace
from act2see.storage.runs import JSON

Format = Literal["trl", "llamafactory", "swift", "parquet"]

RENDERINGS: dict[Format, tuple[chat.Rendering, ...]] = {
    # TRL's collator accepts pictures in any turn but a tool's.
    "trl": ("same_turn", "user_turn"),
    # LLaMA-Factory trains on everything in an assistant's turn, pictures included: none may stand there.
    "llamafactory": ("user_turn", "tool_turn"),
    # ms-swift joins consecutive assistant turns, each with or without loss. How it writes a tool's turn depends on the template chosen.
    "swift": ("same_turn", "user_turn"),
    "parquet": (),
}
"""The renderings that each format can express, its default first. parquet keeps steps, not a rendering of them."""

LLAMAFACTORY_INFO: dict[str, JSON] = {
    "act2see": {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "observation_tag": "observation",
            "function_tag": "function_call",
            "system_tag": "system",
        },
    }
}
"""LLaMA-Factory's dataset_info.json."""

# Text that a trainer would not read as text: a special token, a picture's placeholder, or (ms-swift's <img>) a path to open.
_SPECIAL = r"<\|[^|<>]*\|>"
_TAKEN: dict[Format, re.Pattern[str]] = {
    "trl": re.compile(_SPECIAL),
    "llamafactory": re.compile(_SPECIAL + r"|<(?:image|video|audio)>"),
    "swift": re.compile(_SPECIAL + r"|<(?:image|video|audio|bbox|ref-object|cot-process)>|<(?:start-)?img>|<start-image>|\{\{[A-Z0-9]+\}\}"),
}

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # left by a tokenizer that split a character


class UnfitError(Exception):
    """Why a trace cannot be written in a format."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A span of a turn's text with or without loss, or one picture."""

    text: str
    own: bool
    picture: str | None = None


def rendering_of(form: Format, asked: Literal["auto"] | chat.Rendering) -> chat.Rendering | None:
    """The rendering to export in; None for parquet, which keeps the steps. Raises `ConfigError` where the format cannot express it."""
    allowed = RENDERINGS[form]
    if asked == "auto":
        return allowed[0] if allowed else None
    if asked not in allowed:
        known = f"allowed: {' or '.join(allowed)}" if allowed else "it stores steps, which are rendered on use; remove --rendering"
        raise ConfigError(f"format {form!r} cannot express the rendering {asked!r}: {known}")
    return asked


def row(trace: Trace, form: Format, style: chat.Style, place: Callable[[Frame], str]) -> dict[str, JSON]:
    """The trace as one line of the format's file; `place` gives a frame's path in the exported folder. Raises `UnfitError`."""
    turns = chat.turns(chat.opened(trace, style.opening), chat.tools_of(trace), style)
    written = [(turn.role, list(_runs(turn, place))) for turn in turns]
    for _, runs in written:
        for run in runs:
            if found := _TAKEN[form].search(run.text):
                raise UnfitError(f"its text holds {found.group()!r}, which {form} would not read as text")
            if _LONE_SURROGATE.search(run.text):
                raise UnfitError("its text holds half a character, which a file in UTF-8 cannot")
    pictures = [run.picture for _, runs in written for run in runs if run.picture is not None]
    match form:
        case "trl":
            return {"messages": [_trl(role, runs) for role, runs in written], "images_file_names": pictures}
        case "llamafactory":
            roles = {"tool": "observation"}
            return {"messages": [{"role": roles.get(role, role), "content": _tagged(runs)} for role, runs in written], "images": pictures}
        case "swift":
            return {"messages": [message for role, runs in written for message in _swift(role, runs)], "images": pictures}
        case "parquet":
            raise ValueError("a table's rows are made in export/parquet.py")
        case _:
            assert_never(form)


# As training does; see act2see.training.examples.


def _runs(turn: chat.Turn, place: Callable[[Frame], str]) -> Iterator[_Run]:
    text, own = "", False
    for segment in turn.segments:
        match segment:
            case chat.Text(words, is_own):
                if text and is_own != own:
                    yield _Run(text, own)
                    text = ""
                text, own = text + words, is_own
            case chat.Picture(frame):
                if text:
                    yield _Run(text, own)
                    text = ""
                yield _Run("", False, place(frame))
            case chat.Clip():
                raise ValueError("exports hold pictures, not native videos: use frames_as='images'")
            case _:
                assert_never(segment)
    if text:
        yield _Run(text, own)


def _trl(role: str, runs: Sequence[_Run]) -> dict[str, JSON]:
    """TRL passes parts on unchanged, and our chat template puts no loss on those with `masked`."""
    parts: list[dict[str, JSON]] = []
    for run in runs:
        if run.picture is not None:
            parts.append({"type": "image"})
        else:
            parts.append({"type": "text", "text": run.text} | ({"masked": True} if role == "assistant" and not run.own else {}))
    return {"role": role, "content": parts}


def _tagged(runs: Sequence[_Run]) -> str:
    return "".join(run.text if run.picture is None else "<image>" for run in runs)


def _swift(role: str, runs: Sequence[_Run]) -> Iterator[dict[str, JSON]]:
    if role != "assistant":
        yield {"role": role, "content": _tagged(runs)}
        return
    together: list[_Run] = []
    for run in runs:
        if together and run.own != together[-1].own:
            yield {"role": role, "content": _tagged(together), "loss": together[-1].own}
            together = []
        together.append(run)
    if together:
        yield {"role": role, "content": _tagged(together), "loss": together[-1].own}
