"""Questions that need a look with a time or a place: what happens within one second, and print too small to read in the whole frame.

- *order*: two shapes flash between two of the 1 fps frames. Which, and in which order?
- *flashes*: one shape flashes once to three times there. How often?
- *digit*: every shape of a 512 x 512 clip bears a digit of 4 x 6 pixels. Which does the one asked about bear?
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from PIL import Image, ImageDraw

from act2see.core.trace import Box
from act2see.synthetic.questions import CHOICES
from act2see.synthetic.world import COLOURS, FRAME_RATE, PLACE_WORDS, PLACES, SHAPES, SIZE, Actor, Clip, colour_for

SpotKind = Literal["order", "flashes", "digit"]
SPOT_KINDS: tuple[SpotKind, ...] = ("order", "flashes", "digit")
OFTEN = ("once", "twice", "three times")
LEAST_FRAMES = 4
"""Minimum length of a flash, and of the pause between two flashes of one shape: eight frames spread over a second miss none of either."""
PRINTED_SIZE = 2 * SIZE
GLYPHS = (
    " ## /#  #/#  #/#  #/#  #/ ## ",
    "  # / ## /  # /  # /  # / ###",
    " ## /#  #/   #/ ## /#   /####",
    "### /   #/ ## /   #/   #/### ",
    "#  #/#  #/#  #/####/   #/   #",
    "####/#   /### /   #/   #/### ",
    " ## /#   /### /#  #/#  #/ ## ",
    "####/   #/  # /  # / #  / #  ",
    " ## /#  #/ ## /#  #/#  #/ ## ",
    " ## /#  #/#  #/ ###/   #/ ## ",
)
"""The digits 0 to 9, each as 6 rows of 4 pixels."""
GLYPH_SIZE = (4, 6)
_REACH = 0.08
"""Half the side of the part of the picture that is worth looking at around a print, as a fraction of the picture."""


@dataclass(frozen=True)
class PrintedClip(Clip):
    """A clip of twice the size, whose lasting shapes bear one digit each."""

    digits: tuple[int, ...] = ()
    """One for each actor."""

    @property
    def size(self) -> int:
        """Width and height in pixels."""
        return PRINTED_SIZE

    def draw(self, seconds: float) -> Image.Image:
        """The picture at a time: RGB, 512 × 512."""
        image = Clip.draw(self, seconds).resize((PRINTED_SIZE, PRINTED_SIZE), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(image)
        for actor, digit in zip(self.actors, self.digits, strict=True):
            if actor.is_there(seconds):
                bright = sum(COLOURS[actor.colour]) > 330
                pen.point(glyph_pixels(digit, *print_corner(actor, seconds)), fill=(0, 0, 0) if bright else (255, 255, 255))
        return image


def print_corner(actor: Actor, seconds: float) -> tuple[int, int]:
    """The left upper pixel of the digit that an actor bears."""
    x, y = (PRINTED_SIZE / SIZE * side for side in actor.centre(seconds))
    return round(x) - GLYPH_SIZE[0] // 2, round(y) - GLYPH_SIZE[1] // 2


def glyph_pixels(digit: int, left: int, top: int) -> list[tuple[int, int]]:
    """The pixels of a digit."""
    rows = GLYPHS[digit].split("/")
    return [(left + column, top + row) for row, marks in enumerate(rows) for column, mark in enumerate(marks) if mark == "#"]


@dataclass(frozen=True, slots=True)
class SpotQuestion:
    """A multiple-choice question of one of these kinds: four choices, three of them where it asks how often."""

    kind: SpotKind
    text: str
    choices: tuple[str, ...]
    answer: str
    seconds: tuple[float, float]
    """When its answer is to be seen, from the first up to the second."""
    actors: tuple[Actor, ...]
    """The flashes in order of time; the bearer of the digit."""

    @property
    def asked(self) -> SpotKind:
        """As the kind: each asks for one thing."""
        return self.kind

    def box_at(self, seconds: float) -> Box:
        """The part of the picture around the print at a time, in hundredths."""
        x, y = (side / SIZE for side in self.actors[0].centre(seconds))
        return round(x - _REACH, 2), round(y - _REACH, 2), round(x + _REACH, 2), round(y + _REACH, 2)


def ask_spot(rng: random.Random, kind: SpotKind, *, unseen: bool = False) -> tuple[Clip, SpotQuestion]:
    """A clip of 4 to 8 s, with print of 2 to 4 s, and a question about it. `unseen` allows `UNSEEN_PAIRS`."""
    match kind:
        case "order":
            return _order(rng, unseen=unseen)
        case "flashes":
            return _flashes(rng, unseen=unseen)
        case "digit":
            return _digit(rng, unseen=unseen)
        case _:
            assert_never(kind)


def _order(rng: random.Random, *, unseen: bool) -> tuple[Clip, SpotQuestion]:
    first, second, *others = rng.sample(SHAPES, len(SHAPES))
    duration, start = _second(rng)
    one, two = _flash_frames(rng, 2, pause=1)
    places = rng.sample(list(PLACES), 4)
    flashes = tuple(
        _flash(rng, shape, place, start, frames, unseen=unseen) for shape, place, frames in zip((first, second), places, (one, two), strict=False)
    )
    lasting = _lasting(rng, others[:2], places[2:], duration, unseen=unseen)
    # One of the two is in every choice, as often first as second, so that comparing the choices does not give the answer away.
    common = rng.choice((first, second))
    pairs = [(first, second), (second, first), (common, others[2]), (others[2], common)]
    choices = [f"{before}, then {after}" for before, after in pairs]
    text = rng.choice(
        (
            "Two shapes flash between {0:g} and {1:g} seconds. In which order?",
            "Which two shapes flash between {0:g} and {1:g} seconds, the first one first?",
            "What flashes between {0:g} and {1:g} seconds, in order of time?",
        )
    ).format(start, start + 1)
    return _asked(rng, "order", text, choices, _clip(rng, duration, (*lasting, *flashes)), (start, start + 1.0), flashes)


def _flashes(rng: random.Random, *, unseen: bool) -> tuple[Clip, SpotQuestion]:
    shape, *others = rng.sample(SHAPES, len(SHAPES))
    count = rng.randint(1, 3)
    duration, start = _second(rng)
    places = rng.sample(list(PLACES), 3)
    model = _flash(rng, shape, places[0], start, (0, 0), unseen=unseen)
    flashes = tuple(
        replace(model, start=start + begin / FRAME_RATE, stop=start + end / FRAME_RATE)
        for begin, end in _flash_frames(rng, count, pause=LEAST_FRAMES)
    )
    lasting = _lasting(rng, others[:2], places[1:], duration, unseen=unseen)
    text = rng.choice(
        (
            "How often does the {0} flash between {1:g} and {2:g} seconds?",
            "How many times does the {0} appear between {1:g} and {2:g} seconds?",
            "Between {1:g} and {2:g} seconds the {0} comes and goes. How often?",
        )
    ).format(shape, start, start + 1)
    choices = [OFTEN[count - 1], *(word for word in OFTEN if word != OFTEN[count - 1])]
    return _asked(rng, "flashes", text, choices, _clip(rng, duration, (*lasting, *flashes)), (start, start + 1.0), flashes)


def _digit(rng: random.Random, *, unseen: bool) -> tuple[Clip, SpotQuestion]:
    shapes = rng.sample([shape for shape in SHAPES if shape != "ring"], 3)  # a ring has no middle to print on
    duration = rng.randint(2 * FRAME_RATE, 4 * FRAME_RATE) / FRAME_RATE
    actors = _lasting(rng, shapes, rng.sample(list(PLACES), 3), duration, unseen=unseen)
    digits = rng.sample(range(10), CHOICES)
    clip = _clip(rng, duration, actors)
    printed = PrintedClip(clip.duration_seconds, clip.actors, clip.background, clip.noise_seed, tuple(digits[: len(actors)]))
    text = rng.choice(
        ("Which digit is printed on the {0}?", "What number does the {0} bear?", "Which digit can be read in the middle of the {0}?")
    ).format(shapes[0])
    return _asked(rng, "digit", text, [str(digit) for digit in digits], printed, (0.0, duration), actors[:1])


def _asked(
    rng: random.Random, kind: SpotKind, text: str, choices: Sequence[str], clip: Clip, seconds: tuple[float, float], actors: tuple[Actor, ...]
) -> tuple[Clip, SpotQuestion]:
    """The question with its choices mixed; the right one is the first of those given."""
    mixed = list(choices)
    rng.shuffle(mixed)
    return clip, SpotQuestion(kind, text, tuple(mixed), choices[0], seconds, actors)


def _second(rng: random.Random) -> tuple[float, int]:
    """A clip's duration, and the whole second after which something happens in it."""
    duration = rng.randint(4 * FRAME_RATE, 8 * FRAME_RATE) / FRAME_RATE
    return duration, rng.randint(0, int(duration) - 2)


def _flash_frames(rng: random.Random, count: int, *, pause: int) -> list[tuple[int, int]]:
    """The first frame and the one after the last of each flash, counted from the second's own frame, which shows none; nor does the next second's."""
    lengths = [LEAST_FRAMES + (rng.randint(0, 3) if count < 3 else 0) for _ in range(count)]
    pauses = [pause + (rng.randint(0, 2) if count < 3 else 0) for _ in range(count - 1)]
    begin = rng.randint(1, FRAME_RATE - sum(lengths) - sum(pauses))
    found = []
    for length, gap in zip(lengths, [*pauses, 0], strict=True):
        found.append((begin, begin + length))
        begin += length + gap
    return found


def _flash(rng: random.Random, shape: str, place: str, start: int, frames: tuple[int, int], *, unseen: bool) -> Actor:
    begin, end = (start + frame / FRAME_RATE for frame in frames)
    return Actor(shape, colour_for(rng, shape, unseen=unseen), place, rng.uniform(22, 28), begin, end, phase=rng.uniform(0, 6.3), sway=3.0)


def _lasting(rng: random.Random, shapes: Sequence[str], places: Sequence[str], duration: float, *, unseen: bool) -> tuple[Actor, ...]:
    """One shape that stays at each of these places."""
    return tuple(
        Actor(shape, colour_for(rng, shape, unseen=unseen), place, rng.uniform(22, 28), 0.0, duration + 1, phase=rng.uniform(0, 6.3), sway=3.0)
        for shape, place in zip(shapes, places, strict=True)
    )


def _clip(rng: random.Random, duration: float, actors: tuple[Actor, ...]) -> Clip:
    return Clip(duration, actors, (rng.randint(20, 70), rng.randint(20, 70), rng.randint(20, 70)), rng.randrange(2**31))


def explain_spot(rng: random.Random, question: SpotQuestion) -> str:
    """What a person might write who looked closer."""
    start, stop = question.seconds
    if question.kind == "digit":
        actor = question.actors[0]
        said = rng.choice(("The {0} is {1}, and its print is tiny, so I enlarge that part", "Close up, in the middle of the {0} {1}"))
        text = f"{said.format(actor.shape, PLACE_WORDS[actor.place])}: it says {question.answer}."
    else:
        text = f"I go through the frames from {start:g} to {stop:g} seconds one by one:"
        for number, actor in enumerate(question.actors):
            begin = "first" if number == 0 else "then"
            text += f" {begin} the {actor.colour} {actor.shape} lights up {PLACE_WORDS[actor.place]} at {actor.start:.1f} seconds,"
        text = text.removesuffix(",") + "."
    return f"{text} {rng.choice(('So the answer is {}.', 'That makes it {}.', 'The answer is {}.')).format(question.answer)}"
