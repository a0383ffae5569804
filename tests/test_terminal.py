"""The terminal: pictures decode back, terminals are detected or left alone, and streamed text is the same however it was cut."""

import base64
import itertools
import random
import re
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from act2see.cli.terminal import PICTURE_COLUMNS, Printer, Protocol, detect, frame_line, picture
from act2see.core import chat
from act2see.core.errors import ConfigError
from act2see.core.trace import Answer, Cost, Finish, Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace


def drawn(width: int, height: int) -> Image.Image:
    """A picture with four differently coloured quarters."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 255, 0), (width // 2, 0, width, height // 2))
    image.paste((0, 0, 255), (0, height // 2, width // 2, height))
    image.paste((255, 255, 255), (width // 2, height // 2, width, height))
    return image


# Pictures


def test_kitty_carries_the_picture_in_chunks() -> None:
    noisy = Image.effect_noise((120, 60), 90).convert("RGB")
    sequence = picture(noisy, columns=10, protocol="kitty")
    chunks = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", sequence)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in chunks) == sequence
    assert len(chunks) > 2
    assert all(len(data) == 4096 for _, data in chunks[:-1])
    assert chunks[0][0] == "a=T,f=100,c=10,q=2,m=1"
    assert [keys for keys, _ in chunks[1:]] == ["q=2,m=1"] * (len(chunks) - 2) + ["q=2,m=0"]
    decoded = Image.open(BytesIO(base64.b64decode("".join(data for _, data in chunks), validate=True)))
    assert decoded.format == "PNG"
    assert decoded.tobytes() == noisy.tobytes()


def test_a_small_kitty_picture_is_one_last_chunk() -> None:
    (keys,) = re.findall("\x1b_G([^;]*);", picture(drawn(8, 8), columns=10, protocol="kitty"))
    assert keys == "a=T,f=100,c=10,q=2,m=0"


def test_iterm_carries_the_picture() -> None:
    sequence = picture(drawn(60, 40), columns=30, protocol="iterm")
    match = re.fullmatch("\x1b]1337;File=([^:]*):([^\x07]*)\x07", sequence)
    assert match is not None
    keys = dict(part.split("=") for part in match.group(1).split(";"))
    png = base64.b64decode(match.group(2), validate=True)
    assert keys == {"inline": "1", "size": str(len(png)), "width": "30", "height": "auto", "preserveAspectRatio": "1"}
    assert Image.open(BytesIO(png)).tobytes() == drawn(60, 40).tobytes()


def sixels(sequence: str) -> Image.Image:
    """A small sixel decoder, after DEC's manual: colour definitions, repeats, `$` and `-`."""
    match = re.fullmatch('\x1bP0;1q"1;1;(\\d+);(\\d+)([\x20-\x7e]*)\x1b\\\\', sequence)
    assert match is not None
    width, height = int(match.group(1)), int(match.group(2))
    image = Image.new("RGB", (width, height), (1, 2, 3))
    colours: dict[int, tuple[int, int, int]] = {}
    column = top = colour = 0
    tokens = re.findall(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|(?:!(\d+))?([?-~])|([$-])", match.group(3))
    for index, red, green, blue, chosen, count, mask, move in tokens:
        if index:
            assert all(0 <= int(part) <= 100 for part in (red, green, blue))
            colours[int(index)] = (round(int(red) * 2.55), round(int(green) * 2.55), round(int(blue) * 2.55))
        elif chosen:
            colour = int(chosen)
        elif move:
            column, top = 0, top + 6 * (move == "-")
        else:
            for _ in range(int(count or 1)):
                for row in range(6):
                    if (ord(mask) - 63) >> row & 1:
                        image.putpixel((column, top + row), colours[colour])
                column += 1
            assert column <= width
    return image


@pytest.mark.parametrize("size", [(60, 40), (7, 13), (1, 1), (50, 6)])
def test_sixel_shows_every_pixel_in_its_colour(size: tuple[int, int]) -> None:
    assert sixels(picture(drawn(*size), columns=30, protocol="sixel")).tobytes() == drawn(*size).tobytes()


def test_sixel_comes_near_to_a_picture_of_many_colours() -> None:
    gradients = [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L").rotate(90)]
    image = Image.merge("RGB", gradients).resize((80, 60))
    decoded = sixels(picture(image, columns=26, protocol="sixel"))
    assert decoded.size == image.size
    far = sum(abs(a - b) for a, b in zip(decoded.tobytes(), image.tobytes(), strict=True)) / len(image.tobytes())
    assert far < 12


@pytest.mark.parametrize("protocol", ["kitty", "iterm", "sixel"])
def test_big_pictures_are_scaled_into_the_box_and_tall_ones_get_fewer_columns(protocol: Protocol) -> None:
    tall = picture(drawn(1000, 2000), columns=20, protocol=protocol)
    if protocol == "sixel":
        assert sixels(tall).size == (100, 200)
    else:
        assert re.search("c=10," if protocol == "kitty" else "width=10;", tall)
    assert len(tall) < 50_000


def test_a_picture_without_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="0 columns"):
        picture(drawn(4, 4), columns=0, protocol="kitty")


# Detection


class Terminal(StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-kitty", "VTE_VERSION": "7002"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1", "VTE_VERSION": "7002"}, None),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1", "TERM_PROGRAM": "vscode"}, None),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "mlterm-256color"}, "sixel"),
        ({"TERM": "contour"}, "sixel"),
        ({"TERM": "xterm-sixel"}, "sixel"),
        ({"TERM": "footer"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "dumb", "KITTY_WINDOW_ID": "1"}, None),
        ({}, None),
        ({"KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": ""}, "kitty"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0/default,1,0"}, None),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "screen.xterm-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "foot", "STY": "1.pts-0"}, None),
        ({"TERM": "xterm-kitty", "ZELLIJ": "0"}, None),
        ({"TERM": "xterm-kitty", "ACT2SEE_PICTURES": "off"}, None),
        ({"TERM": "tmux-256color", "TMUX": "x", "ACT2SEE_PICTURES": "sixel"}, "sixel"),
        ({"TERM": "dumb", "NO_COLOR": "1", "ACT2SEE_PICTURES": "iterm"}, "iterm"),
        ({"TERM": "xterm-kitty", "ACT2SEE_PICTURES": ""}, "kitty"),
    ],
)
def test_detection(environ: dict[str, str], protocol: Protocol | None) -> None:
    assert detect(environ, Terminal()) == protocol
    assert detect(environ, StringIO()) is None


def test_an_unknown_wish_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="ACT2SEE_PICTURES is 'jpeg'; set it to one of kitty, iterm, sixel, off"):
        detect({"ACT2SEE_PICTURES": "jpeg"}, StringIO())


# The printer

REAL = Frame(drawn(8, 8), 4.3, score=0.912)
IMAGINED = Frame(drawn(8, 8), None, provenance=Provenance("green", 3.0, "some-model", 7))
CHUNKS: list[tuple[list[Step], Observation | None]] = [
    ([Thought("<think>\nNo star  yet, 1 < 2 and <b>.\n\n\n\n  Look again.\n"), Retrieve(" the\nstar ")], Observation(frames=(REAL,))),
    ([Thought("\nNow<think> what if"), Generate("a green  square")], Observation(frames=(IMAGINED,))),
    ([Retrieve("x")], Observation(error="no look\nis left")),
    ([Thought(" So it is yellow.\n</think>\nDone."), Answer(" C ")], None),
]
EXPECTED = """\
No star  yet, 1 < 2 and <b>.

  Look again.
  ⟶ retrieve: the star
  ⟵ frame at 4.3 s (score 0.91)
Now what if
  ⟶ generate: a green square
  ⟵ imagined (not in the video): from 3.00 s, seed 7, by some-model
  ⟶ retrieve: x
  ⟵ error: no look is left
So it is yellow.

Done.
  2 looks, 2.5 s, 1,200 tokens in (800 reused), 34 out
"""


def text_of(steps: list[Step]) -> str:
    return "".join(piece for piece in chat.render(steps) if isinstance(piece, str))


def finished(steps: list[Step], finish: Finish | None = "answer") -> Trace:
    return Trace("t", "v.mp4", "q", (), steps=steps, finish=finish, cost=Cost(1200, 34, 800, {"decode": 2.0, "retrieve": 0.5}))


def printed(pieces: list[list[str]], *, colour: bool = False, protocol: Protocol | None = None) -> str:
    """What the printer writes for CHUNKS when each chunk's text has come in these pieces."""
    stream = StringIO()
    printer = Printer(stream, colour=colour, protocol=protocol)
    steps: list[Step] = []
    for deltas, (words, observation) in zip(pieces, CHUNKS, strict=True):
        for delta in deltas:
            printer.delta(delta)
        for step in [*words, *([observation] if observation else [])]:
            steps.append(step)
            printer.step(step)
    printer.finish(finished(steps))
    return stream.getvalue()


TEXTS = [text_of(words) for words, _ in CHUNKS]


def test_the_printer_without_deltas_writes_the_steps() -> None:
    assert printed([[] for _ in TEXTS]) == EXPECTED


def test_the_printer_writes_the_same_at_every_cut() -> None:
    for number, text in enumerate(TEXTS):
        for cut in range(len(text) + 1):
            pieces = [[other] for other in TEXTS]
            pieces[number] = [text[:cut], text[cut:]]
            assert printed(pieces) == EXPECTED
            # A backend that streams only a part, for example because it holds back what may be a stop string.
            pieces[number] = [text[:cut]]
            assert printed(pieces) == EXPECTED


def test_the_printer_writes_the_same_letter_by_letter_and_in_colour() -> None:
    letters = [list(text) for text in TEXTS]
    assert printed(letters) == EXPECTED
    coloured = printed(letters, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == EXPECTED
    assert "\x1b[1;36mstar" not in EXPECTED
    # Every colour that is switched on is switched off within the same write, so an interrupt leaves the terminal plain.
    assert re.findall(r"\x1b\[([0-9;]*)m", coloured)[1::2] == ["0"] * coloured.count("\x1b[0m")


@settings(max_examples=30, deadline=None)
@given(st.integers(min_value=0, max_value=2**32), st.integers(min_value=1, max_value=9))
def test_the_printer_writes_the_same_in_random_pieces(seed: int, longest: int) -> None:
    chance = random.Random(seed)
    pieces = []
    for text in TEXTS:
        cuts = [0]
        while cuts[-1] < len(text):
            cuts.append(min(len(text), cuts[-1] + chance.randint(1, longest)))
        pieces.append([text[start:stop] for start, stop in itertools.pairwise(cuts)])
    assert printed(pieces) == EXPECTED


def test_text_streams_before_its_step_comes() -> None:
    stream = StringIO()
    printer = Printer(stream)
    printer.delta("<think>I see a red squ")
    assert stream.getvalue() == "I see a red squ"
    printer.delta("are <retr")
    printer.delta("ieve> the sta")
    assert stream.getvalue() == "I see a red square\n  ⟶ retrieve: the sta"


def test_the_answer_is_left_to_standard_output() -> None:
    stream = StringIO()
    printer = Printer(stream)
    printer.delta("<answer> SECRET </answer>")
    printer.step(Answer(" SECRET "))
    printer.finish(finished([Answer(" SECRET ")]))
    assert "SECRET" not in stream.getvalue()
    assert "no answer" not in stream.getvalue()


@pytest.mark.parametrize("words", ["<answer> B <retrieve> x </retrieve>", "<answer>", "<answer> B", "B </answer>", "<answer></answer>"])
def test_a_broken_answer_is_shown_as_one(words: str) -> None:
    stream = StringIO()
    printer = Printer(stream)
    printer.delta(words)
    printer.step(Thought(words))
    printer.step(Observation(error="write it again"))
    assert stream.getvalue().endswith("  ⟵ error: write it again\n")
    assert ("B" in words) == ("B" in stream.getvalue())
    assert ("not a valid answer" in stream.getvalue()) == ("<answer>" in words)


@pytest.mark.parametrize("words", ["<retrieve> a <generate> b </generate>", "<retrieve> a </generate> b", "a </retrieve> b", "<frame> a </frame> b"])
def test_a_malformed_call_shows_its_words_once_and_no_tag(words: str) -> None:
    stream = StringIO()
    printer = Printer(stream)
    for letter in words:
        printer.delta(letter)
    printer.step(Thought(words))
    printer.step(Observation(error="no"))
    shown = stream.getvalue().removesuffix("  ⟵ error: no\n")
    assert re.findall(r"\b[ab]\b", shown) == ["a", "b"]
    assert not re.search(r"[<>]", shown)


def test_what_looks_like_the_beginning_of_a_tag_is_written_at_the_end() -> None:
    stream = StringIO()
    printer = Printer(stream)
    printer.delta("1 <")
    printer.step(Thought("1 <"))
    printer.finish(finished([Thought("1 <")], "end"))
    assert stream.getvalue().startswith("1 <\n  no answer: the model ended its turn without one\n  0 looks,")


def test_a_second_run_on_the_same_printer_is_not_taken_for_the_first() -> None:
    stream = StringIO()
    printer = Printer(stream)
    for _ in range(2):
        printer.delta("Hm. ")
        printer.step(Thought("Hm. "))
    assert stream.getvalue() == "Hm. Hm."


@pytest.mark.parametrize("protocol", ["kitty", "iterm", "sixel"])
def test_frames_come_with_their_picture(protocol: Protocol) -> None:
    shown = picture(drawn(8, 8), columns=PICTURE_COLUMNS, protocol=protocol)
    out = printed([[text] for text in TEXTS], protocol=protocol)
    assert out.count(shown) == 2
    assert out.replace(f"    {shown}\n", "") == EXPECTED


HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\x00\x08\re\x7ff\x85\u202eg\ttab\nline"


def test_no_control_character_of_a_model_reaches_the_terminal() -> None:
    stream = StringIO()
    printer = Printer(stream)
    printer.delta(HOSTILE + "<retr\x1bieve> x")
    printer.delta(f"<retrieve>{HOSTILE}</retrieve>")
    printer.step(Observation(error=HOSTILE))
    made = Provenance(HOSTILE, 1.0, HOSTILE, 1)
    printer.step(Observation(frames=(Frame(drawn(4, 4), None, provenance=made),)))
    printer.delta(f"<answer>{HOSTILE}")
    printer.finish(finished([], "length"))
    assert set(re.findall("[^ -~⟶⟵]", stream.getvalue())) == {"\n", "\t"}
    assert "retrieve: a[2Jb]0;titlec31mdefg tab line" in stream.getvalue()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text()))
def test_any_text_is_written_without_control_characters(deltas: list[str]) -> None:
    stream = StringIO()
    printer = Printer(stream)
    for delta in deltas:
        printer.delta(delta)
    printer.finish(finished([], None))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", stream.getvalue())


def test_a_stream_that_is_not_utf_8_gets_plain_arrows_and_no_error() -> None:
    raw = BytesIO()
    printer = Printer(TextIOWrapper(raw, encoding="ascii", errors="strict"))
    printer.delta("Größe ★ \ud800 <retrieve>é</retrieve>")
    printer.step(Observation(frames=(REAL,)))
    printer.finish(finished([]))
    assert raw.getvalue().decode("ascii").startswith("Gr??e ? \\ud800\n  --> retrieve: ?\n  <-- frame at 4.3 s (score 0.91)\n")


def test_a_printer_for_a_stream_colours_terminals_only() -> None:
    for stream, environ, coloured in (
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (StringIO(), {"TERM": "xterm"}, False),
    ):
        Printer.for_stream(stream, environ).step(Observation(error="no"))
        assert ("\x1b[" in stream.getvalue()) == coloured


def test_a_price_is_told_when_it_is_known() -> None:
    stream = StringIO()
    trace = finished([Answer("A")])
    trace.cost.dollars = 0.01234
    Printer(stream).finish(trace)
    assert stream.getvalue() == "  0 looks, 2.5 s, 1,200 tokens in (800 reused), 34 out, $0.0123\n"


def test_a_part_of_a_frame_is_told_as_one() -> None:
    part = Frame(drawn(8, 8), 12.5, box=(0.2, 0.1, 0.6, 0.5))
    assert frame_line(part) == "part 0.2 0.1 0.6 0.5 of the frame at 12.5 s"
