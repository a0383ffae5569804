"""Parts of a trace's component as HTML fragments, for a page that shows a trace while it is generated: every text escaped, no script."""

import re

from act2see.core import chat
from act2see.core.trace import Trace
from act2see.report import view
from act2see.report.page import template
from act2see.report.pictures import Album, Sizes

_SIZES = Sizes(inserted_pixels=480, initial_pixels=160)
_TAG = re.compile(r"</?(?:think|retrieve|generate|frame|answer)>")
_TAGS = tuple(f"<{slash}{name}>" for slash in ("", "/") for name in ("think", "retrieve", "generate", "frame", "answer"))


def styles(scope: str, dark: str) -> str:
    """The styles of all fragments, for elements inside the selector `scope`; `dark` is the selector under which they are dark."""
    return template("fragments.css.j2").render(scope=scope, dark=dark)


def timeline_html(trace: Trace) -> str:
    """The timeline: initial frames as ticks, retrieved ones as links with `data-seconds`, imagined ones marked below it. Empty without a time."""
    album = Album(_SIZES)
    line = view.timeline(trace, album)
    imagined = [shown for block in view.seen_and_said(trace, album, 0)[1] for shown in block.frames if shown.imagined]
    pictures = album.embedded()
    return "" if line is None else template("timeline.html.j2").render(line=line, imagined=imagined, pictures=pictures)


def reasoning_html(trace: Trace, heading: str = "") -> str:
    """The steps so far with their frames."""
    album = Album(_SIZES)
    _, blocks = view.seen_and_said(trace, album, 0)
    kept = [block for block in blocks if block.kind != "answer"]
    return template("reasoning.html.j2").render(blocks=kept, prefix=f"t{trace.id[:8]}-", pictures=album.embedded(), heading=heading)


def words_html(text: str) -> str:
    """Streamed text whose step has not come yet, without tags, also one that is only begun; empty for none."""
    words = _TAG.sub(" ", text)
    cut = words.rfind("<")
    if cut >= 0 and any(tag.startswith(words[cut:]) for tag in _TAGS):
        words = words[:cut]
    return template("words.html.j2").render(words=words.strip()) if words.strip() else ""


def answer_html(trace: Trace, heading: str = "") -> str:
    """The answer, or why there is none, with the cost; a warning where the model does not know such videos."""
    choice = chat.chosen(trace.answer, trace.choices) if trace.choices else None
    lettered = None if choice is None else view.lettered(trace.choices, choice)[choice]
    why = view.why_no_answer(trace.finish)
    imagined = any(frame.seconds is None for frame in trace.brought_frames)
    return template("answer.html.j2").render(
        trace=trace,
        lettered=lettered,
        why=why[:1].upper() + why[1:],
        heading=heading,
        imagined=imagined,
        seconds=view.seconds_text,
        computed=view.computed_text(trace.cost),
    )
