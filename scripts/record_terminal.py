"""Records a real run of `act2see ask` on a bundled clip in a terminal, as an animated SVG for the README.

    python scripts/record_terminal.py --out docs/img/terminal.svg

The animation plays the run once in real time and stops at its last state. Longer waits are cut to `LONGEST_WAIT_SECONDS`. It needs no script
and no font. A reader whose system asks for less motion, or whose viewer plays no animation, sees the last state at once.
"""

import argparse
import codecs
import fcntl
import os
import pty
import re
import shlex
import shutil
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

from act2see.cli import DEMO

CLIP, QUESTION = DEMO / "clip-3.mp4", ["Where can the cross be seen?", "--choices", "middle", "bottom", "left", "right"]
COLUMNS, ROWS = 92, 30
LONGEST_WAIT_SECONDS = 1.2
TYPING_SECONDS = 0.03
CELL_WIDTH, LINE_HEIGHT, MARGIN, BAR = 8.4, 20.0, 16.0, 30.0
COLOURS = {"31": "#f38ba8", "32": "#a6e3a1", "33": "#f9e2af", "34": "#89b4fa", "35": "#cba6f7", "36": "#94e2d5"}
_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text at one place of the terminal, from one moment until another; None where it stays."""

    seconds: float
    row: int
    column: int
    text: str
    style: str
    until: float | None = None


def record(arguments: Sequence[str], folder: Path) -> list[tuple[float, str]]:
    """What `act2see` with these arguments writes to a terminal, with the seconds since its start. Raises `RuntimeError` when it fails."""
    started = time.monotonic()
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        environment = {**os.environ, "TERM": "xterm-256color", "XDG_CONFIG_HOME": str(folder / "no-config")}
        os.execve(sys.executable, [sys.executable, "-m", "act2see", *arguments], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    decoder = codecs.getincrementaldecoder("utf-8")()
    written: list[tuple[float, str]] = []
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux says so when the program has ended
            break
        if not data:
            break
        written.append((time.monotonic() - started, decoder.decode(data)))
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"act2see ended with exit code {os.waitstatus_to_exitcode(status)}: " + "".join(text for _, text in written)[-500:])
    return written


def pieces_of(written: Sequence[tuple[float, str]], row: int = 0) -> list[Piece]:
    """The texts that were written, at their places; of a line that was written again and again, the first until the line was last erased."""
    found: list[Piece] = []
    column, style = 0, ""
    for seconds, text in written:
        end = 0
        for control in _CONTROL.finditer(text):
            column, row = _write(found, seconds, text[end : control.start()], column, row, style)
            end = control.end()
            match control[0], control[2]:
                case "\r", _:
                    column = 0
                case "\n", _:
                    row += 1
                case _, "m":
                    style = _style(control[1])
                case _, "A":
                    row -= int(control[1] or 1)
                case _, "K":
                    found = [replace(one, until=seconds) if one.row == row and one.until is None else one for one in found]
        column, row = _write(found, seconds, text[end:], column, row, style)
    return list(_without_spinner(found))


def _write(found: list[Piece], seconds: float, text: str, column: int, row: int, style: str) -> tuple[int, int]:
    while text:
        if column == COLUMNS:
            column, row = 0, row + 1
        line, text = text[: COLUMNS - column], text[COLUMNS - column :]
        found.append(Piece(seconds, row, column, line, style))
        column += len(line)
    return column, row


def _style(codes: str) -> str:
    said = codes.split(";")
    parts = ["font-weight:bold"] if "1" in said else []
    parts += ["fill:#7f849c"] if "2" in said else []
    return ";".join([*parts, *(f"fill:{COLOURS[code]}" for code in said if code in COLOURS)])


def _without_spinner(found: Sequence[Piece]) -> Iterator[Piece]:
    """What stays; and of what is erased on each row the first texts, until the last erasing."""
    gone = [one for one in found if one.until is not None]
    for row in {one.row for one in gone}:
        here = [one for one in gone if one.row == row]
        last = max(one.until or 0 for one in here)
        yield from (replace(one, until=last) for one in here if one.seconds == here[0].seconds)
    yield from (one for one in found if one.until is None)


def paced(pieces: Sequence[Piece], start: float) -> list[Piece]:
    """The same from `start` on, with no wait above the longest."""
    moments = sorted({0.0, *(one.seconds for one in pieces), *(one.until for one in pieces if one.until is not None)})
    at, now = {0.0: start}, start
    for before, after in pairwise(moments):
        now += min(after - before, LONGEST_WAIT_SECONDS)
        at[after] = now
    return [replace(one, seconds=at[one.seconds], until=None if one.until is None else at[one.until]) for one in pieces]


def typed(command: str) -> list[Piece]:
    """A prompt and a command that is typed behind it."""
    prompt = Piece(0.0, 0, 0, "$ ", "fill:#a6e3a1")
    letters = [Piece(0.5 + number * TYPING_SECONDS, 0, 2 + number, letter, "") for number, letter in enumerate(command)]
    return [prompt, *(replace(one, row=one.column // COLUMNS, column=one.column % COLUMNS) for one in letters)]


def svg(pieces: Sequence[Piece], title: str) -> str:
    """The animation."""
    rows = max(one.row for one in pieces) + 1
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, rows * LINE_HEIGHT + BAR + MARGIN
    dots = "".join(
        f'<circle cx="{20 + 20 * number}" cy="17" r="6" fill="{colour}"/>' for number, colour in enumerate(("#f38ba8", "#f9e2af", "#a6e3a1"))
    )
    texts = "\n".join(_text(one) for one in pieces if one.text.strip())
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img">
<title>{escape(title)}</title>
<style>
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#cdd6f4;white-space:pre}}
.i{{animation:i 1ms both}}.o{{animation:i 1ms both,o 1ms forwards;opacity:0}}
@keyframes i{{from{{opacity:0}}to{{opacity:1}}}}
@keyframes o{{from{{opacity:1}}to{{opacity:0}}}}
@media (prefers-reduced-motion:reduce){{.i,.o{{animation:none}}}}
</style>
<rect width="100%" height="100%" rx="8" fill="#1e1e2e"/>{dots}
{texts}
</svg>
"""


def _text(one: Piece) -> str:
    x, y = MARGIN + one.column * CELL_WIDTH, BAR + (one.row + 1) * LINE_HEIGHT - 5
    delays = f"{one.seconds:.2f}s" + (f",{one.until:.2f}s" if one.until is not None else "")
    style = f"animation-delay:{delays}" + (f";{one.style}" if one.style else "")
    length = f' textLength="{len(one.text) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f'<text class="{"i" if one.until is None else "o"}" x="{x:.1f}" y="{y:.1f}" style="{style}"{length}>{escape(one.text)}</text>'


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(CLIP, Path(folder) / "clip.mp4")
        written = record(["ask", "clip.mp4", *QUESTION], Path(folder))
    command = "act2see ask clip.mp4 " + " ".join(f'"{word}"' if " " in word else shlex.quote(word) for word in QUESTION)
    before = typed(command)
    after = paced(pieces_of(written, row=before[-1].row + 1), before[-1].seconds + 0.4)
    out.write_text(svg([*before, *after], f"A recorded run of: {command}"), encoding="utf-8")
    print(f"{out}: {out.stat().st_size:,} bytes, {max(one.seconds for one in after):.1f} s")


if __name__ == "__main__":
    main()
