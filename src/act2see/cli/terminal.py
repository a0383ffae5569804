"""Shows a trace in a terminal while it is generated: the reasoning as plain text, calls and frames set apart, pictures where they are supported.

No control character of a model's text reaches the terminal, and no picture is sent to a terminal that does not declare support for it.
"""

import base64
import re
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Literal, TextIO, assert_never

from act2see.cli.output import send
from act2see.core import chat
from act2see.core.errors import ConfigError
from act2see.core.flops import in_units
from act2see.core.plaintext import plain
from act2see.core.spots import box_text
from act2see.core.trace import Answer, Cost, Frame, Observation, Step, Trace
from act2see.report import why_no_answer

if TYPE_CHECKING:
    from PIL import Image

Protocol = Literal["kitty", "iterm", "sixel"]
"""Protocol for pictures: kitty's graphics protocol, iTerm2's inline images (OSC 1337), or DEC's sixels."""

PICTURE_COLUMNS = 32
"""Width of a frame in columns of text. Our choice: readable, and several fit on a screen."""

# Detection of the picture protocol

_BY_TERM: tuple[tuple[str, Protocol], ...] = (
    (r"xterm-kitty", "kitty"),
    (r"xterm-ghostty", "kitty"),
    (r"wezterm", "iterm"),
    (r"(foot|mlterm|contour|yaft)(-.+)?", "sixel"),
    (r"(.+-)?sixel(-.+)?", "sixel"),
)
_BY_PROGRAM: Mapping[str, Protocol] = {"ghostty": "kitty", "WezTerm": "iterm", "iTerm.app": "iterm"}
_OTHER_TERMINALS = ("VTE_VERSION", "KONSOLE_VERSION", "XTERM_VERSION", "ALACRITTY_WINDOW_ID", "WT_SESSION", "TERMINAL_EMULATOR")
_MULTIPLEXERS = ("TMUX", "STY", "ZELLIJ")
_OVERRIDES: Mapping[str, Protocol | None] = {"kitty": "kitty", "iterm": "iterm", "sixel": "sixel", "off": None}


def detect(environ: Mapping[str, str], stream: TextIO) -> Protocol | None:
    """The picture protocol of the terminal behind `stream`; None unless it is certain.

    `ACT2SEE_PICTURES` (kitty, iterm, sixel or off) overrides the detection; a stream that is not a terminal never gets a picture. Raises
    `ConfigError` for any other value of it.
    """
    wish = environ.get("ACT2SEE_PICTURES")
    if wish and wish not in _OVERRIDES:
        raise ConfigError(f"ACT2SEE_PICTURES is {wish!r}; set it to one of {', '.join(_OVERRIDES)}, or unset it")
    if not stream.isatty():
        return None
    if wish:
        return _OVERRIDES[wish]
    term = environ.get("TERM", "")
    if not _may_colour(environ) or any(environ.get(name) for name in _MULTIPLEXERS) or term.startswith(("tmux", "screen")):
        return None
    for pattern, protocol in _BY_TERM:
        if re.fullmatch(pattern, term):
            return protocol
    if program := environ.get("TERM_PROGRAM"):
        return _BY_PROGRAM.get(program)
    # A terminal started from within kitty inherits kitty's variable: any sign of another terminal overrides it.
    if environ.get("KITTY_WINDOW_ID") and not any(environ.get(name) for name in _OTHER_TERMINALS):
        return "kitty"
    return None


def _may_colour(environ: Mapping[str, str]) -> bool:
    return not environ.get("NO_COLOR") and environ.get("TERM", "") not in ("", "dumb")


# Pictures as escape sequences

_KITTY_CHUNK = 4096  # the protocol's largest payload of one escape sequence
_PIXELS_PER_COLUMN = 12  # slightly more than a cell's width; kitty and iTerm2 scale to the requested columns, and little data is sent
_SIXEL_PIXELS_PER_COLUMN = 10  # the VT340's cell; sixels are not scaled
_SIXEL_COLOURS = 256


def picture(image: "Image.Image", *, columns: int, protocol: Protocol) -> str:
    """The escape sequence that shows an image in a square box `columns` wide, at its aspect ratio; the cursor ends below or beside it."""
    if columns < 1:
        raise ValueError(f"a picture {columns} columns wide: give 1 or more")
    small = image.convert("RGB")
    side = columns * (_SIXEL_PIXELS_PER_COLUMN if protocol == "sixel" else _PIXELS_PER_COLUMN)
    small.thumbnail((side, side))
    # A cell is about twice as high as wide, so a tall picture of the full width would fill the screen.
    wide = max(1, round(columns * min(1.0, small.width / small.height)))
    match protocol:
        case "kitty":
            return _kitty(_png(small), wide)
        case "iterm":
            png = _png(small)
            data = base64.b64encode(png).decode("ascii")
            return f"\x1b]1337;File=inline=1;size={len(png)};width={wide};height=auto;preserveAspectRatio=1:{data}\x07"
        case "sixel":
            return _sixel(small)
        case _:
            assert_never(protocol)


def _png(image: "Image.Image") -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _kitty(png: bytes, columns: int) -> str:
    data = base64.b64encode(png).decode("ascii")
    chunks = [data[start : start + _KITTY_CHUNK] for start in range(0, len(data), _KITTY_CHUNK)]
    # q=2: kitty must not reply, because the reply would arrive as keyboard input.
    keys = [f"a=T,f=100,c={columns},q=2"] + ["q=2"] * (len(chunks) - 1)
    last = len(chunks) - 1
    return "".join(f"\x1b_G{key},m={int(number < last)};{chunk}\x1b\\" for number, (key, chunk) in enumerate(zip(keys, chunks, strict=True)))


def _sixel(image: "Image.Image") -> str:
    indexed = image.quantize(_SIXEL_COLOURS)
    width, height = indexed.size
    pixels = indexed.tobytes()
    palette = indexed.getpalette() or []
    colours = [
        f"#{index};2;" + ";".join(str(round(part * 100 / 255)) for part in palette[3 * index : 3 * index + 3]) for index in sorted(set(pixels))
    ]
    bands = [_sixel_band(pixels[top * width : (top + 6) * width], width) for top in range(0, height, 6)]
    return f'\x1bP0;1q"1;1;{width};{height}' + "".join(colours) + "-".join(bands) + "\x1b\\"


def _sixel_band(pixels: bytes, width: int) -> str:
    """Up to six rows of pixels: for every colour one line of characters, each a bit mask of the pixels of a column with that colour."""
    masks: dict[int, bytearray] = {}
    for place, colour in enumerate(pixels):
        row, column = divmod(place, width)
        if colour not in masks:
            masks[colour] = bytearray(b"?" * width)
        masks[colour][column] += 1 << row
    lines = (re.sub(r"(.)\1{3,}", _repeat, mask.decode("ascii")) for mask in masks.values())
    return "$".join(f"#{colour}{line}" for colour, line in zip(masks, lines, strict=True))


def _repeat(run: re.Match[str]) -> str:
    return f"!{len(run.group())}{run.group(1)}"


# Streaming of the reasoning

_TAG = re.compile(r"<(/?)(think|retrieve|generate|frame|answer)>")
_TAGS = tuple(f"<{slash}{name}>" for slash in ("", "/") for name in ("think", "retrieve", "generate", "frame", "answer"))
_CALL, _SEEN, _IMAGINED, _ERROR, _DIM = "1;36", "36", "35", "31", "2"


class Printer:
    """Writes a trace to a stream while it is generated: pass it every `Delta`'s text, every step, and the finished trace.

    A step whose text came as deltas is not written again; any other is written in full, so a saved trace can be shown by its steps alone.
    The answer is not written: it belongs on stdout.
    """

    def __init__(self, stream: TextIO, *, colour: bool = False, protocol: Protocol | None = None) -> None:
        self._stream = stream
        self._colour = colour
        self._protocol = protocol
        self._encoding = stream.encoding or "utf-8"
        self._call_arrow, self._frame_arrow = ("⟶", "⟵") if _can_encode("⟶⟵", self._encoding) else ("-->", "<--")
        self._streamed = ""  # deltas whose step has not come yet
        self._stepped = False  # a step has come since the last delta
        self._tail = ""  # possibly the beginning of a tag
        self._inside: str | None = None  # the call or answer that is open
        self._answer: str | None = None  # held back until its step comes
        self._space = ""  # white space, written only when a word follows
        self._fresh = True  # nothing of the current block is written
        self._at_line_start = True

    @classmethod
    def for_stream(cls, stream: TextIO, environ: Mapping[str, str]) -> "Printer":
        """A printer with the colours and pictures that the stream supports. Raises `ConfigError` for a bad `ACT2SEE_PICTURES`."""
        return cls(stream, colour=stream.isatty() and _may_colour(environ), protocol=detect(environ, stream))

    def delta(self, text: str) -> None:
        """Write a chunk of streamed text; it may be split anywhere, even inside a tag."""
        if self._stepped:
            self._streamed, self._stepped = "", False
        self._streamed += text
        self._feed(text)

    def step(self, step: Step) -> None:
        """Write the part of a step that is not written yet."""
        if isinstance(step, Observation):
            self._close()
            self._observation(step)
            self._streamed = ""
        else:
            words = "".join(piece for piece in chat.render([step]) if isinstance(piece, str))
            if self._streamed.startswith(words):
                self._streamed = self._streamed[len(words) :]
            else:
                written = self._streamed if words.startswith(self._streamed) else ""
                self._streamed = ""
                self._feed(words[len(written) :])
            if not self._streamed:  # otherwise the tail begins the next step
                self._flush_tail()
            if isinstance(step, Answer):
                self._answer = None
        self._stepped = True

    def finish(self, trace: Trace) -> None:
        """End the open line; write the trace's cost and, without an answer, the reason."""
        self._close()
        if trace.answer is None:
            self._write(f"  no answer: {why_no_answer(trace.finish)}\n", _ERROR)
        self._write(f"  {cost_line(trace.cost, trace.looks)}\n", _DIM)

    def _feed(self, text: str) -> None:
        text = self._tail + text
        self._tail = ""
        position = 0
        for tag in _TAG.finditer(text):
            self._words(text[position : tag.start()])
            self._tag(tag.group(2), closing=bool(tag.group(1)))
            position = tag.end()
        rest = text[position:]
        cut = rest.rfind("<")
        if cut >= 0 and any(tag_text.startswith(rest[cut:]) for tag_text in _TAGS):
            rest, self._tail = rest[:cut], rest[cut:]
        self._words(rest)

    def _flush_tail(self) -> None:
        tail, self._tail = self._tail, ""
        self._words(tail)

    def _tag(self, name: str, *, closing: bool) -> None:
        if self._inside == "answer":
            self._inside = None
            if closing and name == "answer":
                return
            self._broken_answer()
        elif self._inside is not None:
            self._end_block()
        if name == "think":
            self._space += "\n" if closing else ""
        elif name == "answer" and not closing:
            self._broken_answer()
            self._inside, self._answer = "answer", ""
        elif name in ("retrieve", "generate") and not closing:
            self._end_block()
            self._inside = name
            self._write(f"  {self._call_arrow} {name}:", _CALL)
            self._fresh, self._space = False, " "

    def _words(self, text: str) -> None:
        if self._inside == "answer":
            self._answer = (self._answer or "") + text
            return
        text = plain(text)
        body = text.strip()
        if not body:
            self._space += text
            return
        start = text.index(body)
        gap = "" if self._fresh else self._spacing(self._space + text[:start])
        self._write(gap + re.sub(r"\s+", lambda run: self._spacing(run.group()), body), _CALL if self._inside else "")
        self._fresh, self._space = False, text[start + len(body) :]

    def _spacing(self, space: str) -> str:
        if self._inside is not None:
            return " " if space else ""
        lines = space.count("\n")
        return "\n" * min(lines, 2) + space.rpartition("\n")[2]

    def _end_block(self) -> None:
        if not self._at_line_start:
            self._write("\n")
        self._fresh, self._space, self._inside = True, "", None

    def _close(self) -> None:
        self._flush_tail()
        self._broken_answer()
        self._end_block()

    def _broken_answer(self) -> None:
        """Show an answer that no `Answer` step confirmed: it was not closed, or contained tags."""
        if self._answer is None:
            return
        text, self._answer, self._inside = _one_line(self._answer), None, None
        self._end_block()
        self._write(f"  {self._call_arrow} not a valid answer: {text}\n", _ERROR)

    def _observation(self, observation: Observation) -> None:
        if observation.error is not None:
            self._write(f"  {self._frame_arrow} error: {_one_line(observation.error)}\n", _ERROR)
        for frame in observation.frames:
            self._write(f"  {self._frame_arrow} {frame_line(frame)}\n", _IMAGINED if frame.seconds is None else _SEEN)
            if self._protocol is not None:
                send(self._stream, "    " + picture(frame.image, columns=PICTURE_COLUMNS, protocol=self._protocol) + "\n")

    def _write(self, text: str, colour: str = "") -> None:
        # Lone surrogates, and letters that the encoding lacks, become "?": a model's text must not raise an error.
        text = text.encode(self._encoding, "replace").decode(self._encoding)
        if not text:
            return
        self._at_line_start = text.endswith("\n")
        send(self._stream, f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text)


def frame_line(frame: Frame) -> str:
    """One line that describes an inserted frame."""
    if frame.seconds is not None:
        score = "" if frame.score is None else f" (score {frame.score:.2f})"
        part = "" if frame.box is None else f"part {box_text(frame.box)} of the "
        line = frame.match.line if frame.match is not None else None
        evidence = "" if line is None else f": {_one_line(line.text)} [{_one_line(line.source)}]"
        return f"{part}frame at {frame.seconds:.1f} s{score}{evidence}"
    made = frame.provenance
    if made is None:
        return "imagined (not in the video)"
    anchor = "" if made.anchor_seconds is None else f"from {made.anchor_seconds:.2f} s, "
    strength = "" if made.strength is None else f", strength {made.strength:g}"
    unverified = f"; not verified: {_one_line(made.unverified)}" if made.unverified else ""
    return f"imagined (not in the video): {anchor}seed {made.seed}{strength}, by {_one_line(made.model)}{unverified}"


def cost_line(cost: Cost, looks: int) -> str:
    """One line with the cost of a trace."""
    reused = f" ({cost.tokens_reused:,} reused)" if cost.tokens_reused else ""
    dollars = "" if cost.dollars is None else f", ${cost.dollars:.4f}"
    computed = "" if cost.total_flops is None else f", {in_units(cost.total_flops)}"
    spent = f"{cost.total_seconds:.1f} s, {cost.tokens_in:,} tokens in{reused}, {cost.tokens_out:,} out{computed}{dollars}"
    return f"{looks} look{'' if looks == 1 else 's'}, {spent}"


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
