"""A video of slides, a terminal and a filmed talk with subtitles, rendered here, and queries about it.

The queries were written before anything was scored.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = (1280, 720)
FPS = 4
PART_SECONDS = 200.0
SLIDES = (
    ("Coastal erosion in the bay", "forty years of aerial photographs", "three beaches, two cliffs", "a joint survey of 2024"),
    ("How we measured", "laser scans every spring", "drone flights after each storm", "tide gauges at the harbour"),
    ("Sediment budget", "rivers bring 12,000 tonnes a year", "dredging removes 9,500 tonnes", "the rest feeds the spit"),
    ("Cliff retreat", "average 34 cm per year", "maximum 2.1 m in one winter", "clay layers fail first"),
    ("The lighthouse", "built in 1861", "moved inland by 40 metres", "foundation monitored daily"),
    ("Sea level", "+3.4 mm per year since 1993", "spring tides reach the promenade", "flood barrier closed 17 times"),
    ("Vegetation", "marram grass holds the dunes", "fences against trampling", "seedlings planted by schools"),
    ("Costs", "nourishment: 4.2 million euros", "sea wall: 11 million euros", "managed retreat: 2.9 million euros"),
    ("Public opinion", "survey of 812 residents", "61 percent prefer nourishment", "fishermen oppose the barrier"),
    ("Model results", "two scenarios until 2080", "uncertainty doubles after 2050", "calibrated against photographs"),
    ("Recommendations", "keep the dunes", "relocate the campsite", "review every five years"),
    ("Questions?", "contact: shore@example.org", "slides under CC BY", "thank you"),
)
COMMANDS = (
    ("git clone /srv/mirror/tidepool.git", "Cloning into 'tidepool'... done."),
    ("cd tidepool && ls", "LICENSE  Makefile  README.rst  gauges  plots"),
    ("python -m venv .venv", ""),
    ("pip install -r requirements.txt", "Successfully installed numpy xarray netCDF4"),
    ("make data", "fetching gauge_017.nc\nfetching gauge_023.nc\n2 files, 48 MB"),
    ("pytest -q tests/test_harmonics.py", "FAILED test_harmonics.py::test_lunar - ZeroDivisionError\n1 failed, 11 passed"),
    ("vim gauges/harmonics.py", ""),
    ("pytest -q tests/test_harmonics.py", "12 passed in 0.41s"),
    ("git commit -am 'Guard against an empty constituent list'", "[main 4be1c02] 1 file changed"),
    ("docker build -t tidepool:latest .", "Step 4/9 : COPY gauges /app/gauges"),
    ("kubectl get pods", "tidepool-7c9f  CrashLoopBackOff  5 restarts"),
    ("kubectl logs tidepool-7c9f", "PermissionError: /var/lib/tides is read-only"),
    ("systemctl status chronyd", "Active: active (running); System clock synchronised"),
    ("df -h /var", "/dev/sdb1  50G  49G  1G  98% /var"),
    ("sudo journalctl --vacuum-size=500M", "Vacuuming done, freed 3.2G"),
    ("python plot_spectrum.py --window hann", "wrote plots/spectrum_hann.svg"),
    ("tar czf results.tar.gz plots", ""),
    ("rsync -av results.tar.gz archive:/incoming/", "sent 18,204,113 bytes  speedup is 1.00"),
)
SPOKEN = (
    "Thank you for having me here in the old library tonight",
    "I grew up two streets away from the harbour",
    "My grandmother repaired sails for the herring fleet",
    "When the cannery closed the town lost half of its jobs",
    "So I went away and studied geology in Bergen",
    "There I met Ingrid who knew everything about glaciers",
    "We spent one summer in a tent on Svalbard",
    "A polar bear ate our entire supply of chocolate",
    "That is when I learned to fix a diesel engine with fishing line",
    "Later the university offered me a position",
    "but I wanted to come back and count grains of sand",
    "The mayor laughed when I asked for a budget",
    "she said we have money for the brass band or for you",
    "In the end the brass band gave us their rehearsal room",
    "Our first drone was stolen by a seagull",
    "The second one fell into the font of the church during a wedding",
    "The insurance company did not believe a word of it",
    "Since then every pilot has to pass an exam",
    "Let me finish with a letter from a schoolgirl",
    "she asks whether the beach will still be there when she is old",
    "I told her that it depends on what we decide this year",
)
PRESENT: tuple[tuple[str, str], ...] = (
    ("how much sediment the rivers bring", "slide 2"),
    ("the lighthouse was moved inland", "slide 4"),
    ("how fast the cliffs retreat each year", "slide 3"),
    ("what the sea wall would cost", "slide 7"),
    ("where residents were surveyed", "slide 8"),
    ("uncertainty after 2050", "slide 9"),
    ("relocating the campsite", "slide 10"),
    ("drone flights after storms", "slide 1"),
    ("marram grass", "slide 6"),
    ("the flood barrier was closed seventeen times", "slide 5"),
    ("a test fails with a division by zero", "terminal 5"),
    ("the pod is in a crash loop", "terminal 10"),
    ("the disk is 98% full", "terminal 13"),
    ("committing with the message about an empty constituent list", "terminal 8"),
    ("building the docker image", "terminal 9"),
    ("cloning the repository", "terminal 0"),
    ("rsync to the archive", "terminal 17"),
    ("permission error on a read-only folder", "terminal 11"),
    ("she asks the mayor for a budget", "talk 11"),
    ("the polar bear that ate the chocolate", "talk 7"),
    ("studying geology in Bergen", "talk 4"),
    ("a seagull stole the drone", "talk 14"),
    ("the letter of a schoolgirl", "talk 18"),
    ("the brass band's rehearsal room", "talk 13"),
    ("her grandmother repaired sails", "talk 2"),
    ("fixing an engine with fishing line", "talk 8"),
)
ABSENT = (
    "a dog catching a ball",
    "the quarterly revenue of the company",
    "how to knead bread dough",
    "an elephant in the savannah",
    "the goalkeeper saves a penalty",
    "installing the dishwasher",
    "the capital of Mongolia",
    "a violin solo",
    "mixing paint for a portrait",
    "the election results in Ohio",
    "a recipe for lentil soup",
    "the rocket leaves the launch pad",
    "photosynthesis in algae",
    "the wedding dress is white",
    "compiling a Rust crate",
    "the server returned a 404",
    "the database migration",
    "stretching exercises for runners",
    "the history of the Ottoman empire",
    "her favourite novel by Tolstoy",
    "folding a paper crane",
    "a chess opening with the queen's pawn",
    "the temperature of the oven",
    "black holes and gravity",
    "how bees make honey",
    "the price of a train ticket",
    "learning to play the piano",
    "a cat asleep on a sofa",
    "the traffic jam on the motorway",
    "vaccination of children",
    "a tutorial about spreadsheets",
    "the president's speech about taxes",
    "knitting a pullover",
    "the dentist and the drill",
    "an interview with the drummer",
    "solving a quadratic equation",
    "tuning the guitar",
    "the museum's Egyptian mummies",
    "cleaning the windows",
    "a marathon in Tokyo",
)


def spans() -> dict[str, tuple[float, float]]:
    """When each slide, command and spoken line is there, in seconds."""
    found = {f"slide {n}": _span(n, len(SLIDES), 0) for n in range(len(SLIDES))}
    rest = PART_SECONDS / len(COMMANDS)
    # A command stays on the screen while others follow: it is right until it has scrolled off, ten commands later.
    for n in range(len(COMMANDS)):
        found[f"terminal {n}"] = (PART_SECONDS + n * rest, min(2 * PART_SECONDS, PART_SECONDS + (n + 10) * rest))
    return found | {f"talk {n}": _span(n, len(SPOKEN), 2) for n in range(len(SPOKEN))}


def _span(number: int, count: int, part: int) -> tuple[float, float]:
    each = PART_SECONDS / count
    return part * PART_SECONDS + number * each, part * PART_SECONDS + (number + 1) * each


def render(path: Path) -> Path:
    """Write ten minutes: slides, a terminal that is typed into, and a talk filmed by a hand that shakes, with subtitles."""
    subtitles = path.with_suffix(".srt")
    cues = [(spans()[f"talk {n}"], text) for n, text in enumerate(SPOKEN)]
    subtitles.write_text(
        "".join(f"{n}\n{_stamp(a + 0.2)} --> {_stamp(b - 0.2)}\n{text}\n\n" for n, ((a, b), text) in enumerate(cues, 1)), encoding="utf-8"
    )
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        stream.options = {"preset": "ultrafast", "crf": "23", "g": "40"}
        for number, picture in enumerate(_pictures()):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _stamp(seconds: float) -> str:
    whole = round(1000 * seconds)
    return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"


def _pictures() -> Iterator[Image.Image]:
    slides = [_slide(slide) for slide in SLIDES]
    count = round(PART_SECONDS * FPS)
    for number in range(count):
        yield slides[number * len(slides) // count]
    for number in range(count):
        yield _terminal(number / count)
    yield from _filmed(count)


def _slide(texts: Sequence[str]) -> Image.Image:
    picture = Image.new("RGB", SIZE, (250, 250, 244))
    draw = ImageDraw.Draw(picture)
    draw.text((90, 70), texts[0], (20, 40, 90), ImageFont.load_default(64))
    for row, text in enumerate(texts[1:]):
        draw.text((130, 230 + 110 * row), f"- {text}", (40, 40, 40), ImageFont.load_default(40))
    return picture


def _terminal(progress: float) -> Image.Image:
    """The last rows of everything typed and printed so far; the current command grows by the letter for half of its time."""
    at = progress * len(COMMANDS)
    rows: list[str] = []
    for number, (command, output) in enumerate(COMMANDS[: int(at) + 1]):
        if number < int(at):
            rows += [f"$ {command}", *output.split("\n"), ""]
        else:
            share = min(1.0, 2 * (at - int(at)))
            rows += [f"$ {command[: round(share * len(command))]}", *(output.split("\n") if share == 1 else [])]
    picture = Image.new("RGB", SIZE, (16, 18, 22))
    draw = ImageDraw.Draw(picture)
    for row, text in enumerate(rows[-26:]):
        draw.text((24, 14 + 27 * row), text, (210, 214, 220), ImageFont.load_default(22))
    return picture


def _filmed(count: int) -> Iterator[Image.Image]:
    """A room without text: soft shapes, moved by a hand that shakes, and grain."""
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 255, (12, 20, 3)).astype(np.uint8)).resize((SIZE[0] + 80, SIZE[1] + 80), Image.Resampling.BICUBIC)
    x = y = 40.0
    for _ in range(count):
        x, y = np.clip((x, y, *rng.normal(0, 3, 2)), 0, 80)
        room = np.asarray(rough.crop((int(x), int(y), int(x) + SIZE[0], int(y) + SIZE[1])), np.int16)
        grain = np.repeat(np.repeat(rng.integers(-9, 9, (SIZE[1] // 4, SIZE[0] // 4, 1)), 4, 0), 4, 1)
        yield Image.fromarray(np.clip(room + grain, 0, 255).astype(np.uint8))
