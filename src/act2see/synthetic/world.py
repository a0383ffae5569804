"""The synthetic world: clips of coloured shapes that stay, drift, cross, change colour and flash; drawn at any time, written as mp4 files."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = 256
"""Width and height of a clip in pixels."""
FRAME_RATE = 24
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (225, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (245, 230, 50),
    "green": (45, 175, 60),
    "cyan": (60, 220, 225),
    "blue": (45, 75, 230),
    "purple": (155, 50, 205),
    "white": (245, 245, 245),
}
NAMELESS = "nameless"
"""The colour of a shape with a `tint` outside `COLOURS`: for training only, never the subject of a question."""
PLACES = {"top": (128, 48), "left": (48, 128), "middle": (128, 128), "right": (208, 128), "bottom": (128, 208)}
"""The places of shapes, with their centres in pixels, in reading order."""
UNSEEN_PAIRS = frozenset({("red", "ring"), ("yellow", "circle"), ("green", "star"), ("blue", "triangle"), ("purple", "square"), ("white", "cross")})
"""Colour-shape pairs that never occur in training, to test generalisation with held-out questions."""

PLACE_WORDS = {"top": "at the top", "left": "on the left", "middle": "in the middle", "right": "on the right", "bottom": "at the bottom"}
ROOM = 62.0
"""Minimum distance between two centres in pixels; shapes are at most 58 pixels wide."""


@dataclass(frozen=True, slots=True)
class Actor:
    """One shape, on screen during [start, stop) seconds."""

    shape: str
    colour: str
    place: str
    radius: float
    start: float
    stop: float
    target: str | None = None
    """The place that it moves to over its lifetime; None: it only drifts around its own place."""
    phase: float = 0.0
    later_colour: str | None = None
    change_seconds: float = math.inf
    tint: tuple[int, int, int] | None = None
    """RGB of a `NAMELESS` colour."""
    sway: float = 8.0
    """Amplitude of the drift in pixels."""

    def is_there(self, seconds: float) -> bool:
        """Whether it is on screen."""
        return self.start <= seconds < self.stop

    def colour_at(self, seconds: float) -> str:
        """Its colour, which may change once."""
        return self.later_colour if self.later_colour and seconds >= self.change_seconds else self.colour

    def centre(self, seconds: float) -> tuple[float, float]:
        """Its centre in pixels."""
        x: float
        y: float
        x, y = PLACES[self.place]
        if self.target is not None:
            share = min(1.0, max(0.0, (seconds - self.start) / (self.stop - self.start)))
            to_x, to_y = PLACES[self.target]
            x, y = x + share * (to_x - x), y + share * (to_y - y)
        return x + self.sway * math.sin(1.3 * seconds + self.phase), y + self.sway * math.cos(1.7 * seconds + 2 * self.phase)


@dataclass(frozen=True)
class Clip:
    """A clip that can be drawn at any time, deterministically."""

    duration_seconds: float
    actors: tuple[Actor, ...]
    background: tuple[int, int, int] = (40, 40, 40)
    noise_seed: int = field(default=0)

    @property
    def size(self) -> int:
        """Width and height in pixels."""
        return SIZE

    def visible(self, seconds: float) -> list[Actor]:
        """The actors on screen at a time, in reading order of their places."""
        order = list(PLACES)
        there = (actor for actor in self.actors if actor.is_there(seconds))
        return sorted(there, key=lambda actor: order.index(actor.place))

    @cached_property
    def _backdrop(self) -> Image.Image:
        noise = np.random.default_rng(self.noise_seed)
        slope = np.linspace(-12, 12, SIZE, dtype=np.float32)
        tilt = noise.uniform(0, 2 * math.pi)
        light = math.cos(tilt) * slope[None, :] + math.sin(tilt) * slope[:, None] + 2 * noise.standard_normal((SIZE, SIZE), np.float32)
        pixels = np.empty((SIZE, SIZE, 3), np.uint8)
        for channel, base in enumerate(self.background):  # channel by channel: twice as fast as all three at once
            pixels[..., channel] = (light + np.float32(base)).clip(0, 255)
        return Image.fromarray(pixels)

    def draw(self, seconds: float) -> Image.Image:
        """The picture at a time: RGB, 256 × 256."""
        image = self._backdrop.copy()
        pen = ImageDraw.Draw(image)
        for actor in self.visible(seconds):
            draw_shape(pen, actor.shape, *actor.centre(seconds), actor.radius, actor.tint or COLOURS[actor.colour_at(seconds)])
        return image

    def times(self, fps: float) -> list[float]:
        """Timestamps in seconds of the frames sampled at `fps`: those on screen at 0, 1/fps, 2/fps, …"""
        frames = round(self.duration_seconds * FRAME_RATE)
        indices = (math.floor(k * FRAME_RATE / fps + 1e-9) for k in range(math.ceil(frames * fps / FRAME_RATE - 1e-9)))
        return [index / FRAME_RATE for index in dict.fromkeys(indices)]

    def write(self, path: Path) -> None:
        """Write the clip as H.264 in mp4, at 24 frames per second."""
        import av  # imported here: drawing for training does not need a codec

        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "18", "preset": "veryfast", "threads": "1"})
            stream.width = stream.height = self.size
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, FRAME_RATE)
            for number in range(round(self.duration_seconds * FRAME_RATE)):
                container.mux(stream.encode(av.VideoFrame.from_image(self.draw(number / FRAME_RATE))))
            container.mux(stream.encode())


def draw_shape(pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    """Draw one shape around a centre, in pixels."""
    r = radius
    match shape:
        case "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        case "ring":
            pen.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=round(r * 0.36))
        case "square":
            s = r * 0.88
            pen.rectangle((x - s, y - s, x + s, y + s), fill=colour)
        case "triangle":
            pen.polygon(_around(x, y, [(-90, 1.1), (30, 1.1), (150, 1.1)], r), fill=colour)
        case "star":
            points = [(-90 + 36 * k, 1.15 if k % 2 == 0 else 0.48) for k in range(10)]
            pen.polygon(_around(x, y, points, r), fill=colour)
        case "cross":
            s, w = r, r * 0.36
            pen.rectangle((x - s, y - w, x + s, y + w), fill=colour)
            pen.rectangle((x - w, y - s, x + w, y + s), fill=colour)
        case _:
            raise ValueError(f"unknown shape {shape!r}; allowed: {', '.join(SHAPES)}")


def _around(x: float, y: float, points: Iterable[tuple[float, float]], radius: float) -> list[tuple[float, float]]:
    return [(x + radius * f * math.cos(math.radians(a)), y + radius * f * math.sin(math.radians(a))) for a, f in points]


def place_at(actor: Actor, seconds: float) -> str:
    """The place nearest to a shape at a time in seconds."""
    return min(PLACES, key=lambda place: math.dist(PLACES[place], actor.centre(seconds)))


# Random clips


def colour_for(rng: random.Random, shape: str, *, unseen: bool, avoid: Sequence[str] = ()) -> str:
    """A random colour for a shape. `unseen` allows `UNSEEN_PAIRS`."""
    allowed = [c for c in COLOURS if c not in avoid and (unseen or (c, shape) not in UNSEEN_PAIRS)]
    return rng.choice(allowed)


def make_clip(rng: random.Random, *, unseen: bool = False, seconds: tuple[float, float] = (4.0, 12.0), busy: bool = False) -> Clip:
    """A random clip: up to three lasting shapes and one to two that flash for 0.2-0.6 s.

    `seconds` bounds the duration; `unseen` allows `UNSEEN_PAIRS`. Shapes and colours may repeat within a clip: if all differed, questions could be
    answered by elimination. `busy` produces many short-lived shapes instead, mostly without answerable questions: for training the model to
    distinguish the frames of a clip.
    """
    duration = math.floor(rng.uniform(*seconds) * FRAME_RATE) / FRAME_RATE
    actors: list[Actor] = []
    for _ in range(0 if busy else rng.choice((0, 1, 1, 2, 2, 3))):
        _place(rng, actors, *_lasting(rng, duration), unseen=unseen, moves=True)
    for _ in range(round(1.4 * duration) if busy else 0):
        start = rng.uniform(-0.5, duration)
        _place(rng, actors, start, start + rng.uniform(0.5, 2.0), unseen=unseen, moves=False)
    for _ in range(rng.choice((1, 1, 2, 2))):
        length = rng.uniform(0.2, 0.6)
        start = rng.uniform(0.0, max(0.05, duration - length))
        _place(rng, actors, start, min(duration, start + length), unseen=unseen, moves=False)
    background = (rng.randint(20, 70), rng.randint(20, 70), rng.randint(20, 70))
    return Clip(duration, tuple(actors), background, rng.randrange(2**31))


def make_scene(rng: random.Random, *, unseen: bool = False, seconds: tuple[float, float] = (4.0, 12.0)) -> Clip:
    """A random clip for counterfactual questions: three or four static shapes in few colours, most of them visible throughout.

    At most one more shape flashes. For the parameters see `make_clip`.
    """
    duration = math.floor(rng.uniform(*seconds) * FRAME_RATE) / FRAME_RATE
    actors: list[Actor] = []
    palette = rng.sample(list(COLOURS), rng.choice((2, 3, 4, 8)))
    for _ in range(rng.choice((3, 4))):
        start, stop = (0.0, duration + 1) if rng.random() < 0.85 else _lasting(rng, duration)
        _place(rng, actors, start, stop, unseen=unseen, moves=False, palette=palette)
    if rng.random() < 0.4:
        start = rng.uniform(0.0, duration - 0.6)
        _place(rng, actors, start, start + rng.uniform(0.2, 0.6), unseen=unseen, moves=False)
    background = (rng.randint(20, 70), rng.randint(20, 70), rng.randint(20, 70))
    return Clip(duration, tuple(actors), background, rng.randrange(2**31))


def _lasting(rng: random.Random, duration: float) -> tuple[float, float]:
    """Start and stop of a lasting shape: the whole clip or a part of it."""
    if rng.random() < 0.45:
        return 0.0, duration + 1
    length = rng.uniform(0.7, max(0.8, 0.7 * duration))
    start = rng.uniform(0.0, max(0.05, duration - length))
    return start, start + length


def _place(rng: random.Random, actors: list[Actor], start: float, stop: float, *, unseen: bool, moves: bool, palette: Sequence[str] = ()) -> None:
    """Add a shape without collisions, preferably in a colour of the palette; skip it if twenty tries find no room."""
    for _ in range(20):
        shape = rng.choice(SHAPES)
        among = [colour for colour in palette if unseen or (colour, shape) not in UNSEEN_PAIRS]
        colour = rng.choice(among) if among else colour_for(rng, shape, unseen=unseen)
        place = rng.choice(list(PLACES))
        target = rng.choice([p for p in PLACES if p != place]) if moves and rng.random() < 0.25 else None
        later = colour_for(rng, shape, unseen=unseen, avoid=(colour,)) if moves and rng.random() < 0.2 else None
        change = rng.uniform(start, stop) if later else math.inf
        actor = Actor(shape, colour, place, rng.uniform(22, 28), start, stop, target, rng.uniform(0, 6.3), later, change)
        if all(_apart(actor, other) for other in actors):
            actors.append(actor)
            return


def _apart(one: Actor, other: Actor) -> bool:
    first, last = max(one.start, other.start), min(one.stop, other.stop)
    if first >= last:
        return True
    steps = max(2, round((last - first) * 4))
    times = (first + (last - first) * k / steps for k in range(steps + 1))
    return all(math.dist(one.centre(t), other.centre(t)) >= ROOM for t in times)
