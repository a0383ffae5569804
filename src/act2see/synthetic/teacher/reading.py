"""What the scripted teacher sees in the frames of a look with a time or a place."""

import itertools
import random
from collections.abc import Sequence

from act2see.core.trace import Frame
from act2see.synthetic.hypothetical import seen
from act2see.synthetic.spot_questions import LEAST_FRAMES, OFTEN, SpotQuestion
from act2see.synthetic.teacher import words
from act2see.synthetic.world import FRAME_RATE, SIZE, Clip

LEGIBLE = 0.3
"""The widest part of a picture in which print can be read, as a fraction of the picture."""


def value_in(question: SpotQuestion, clip: Clip, frames: Sequence[Frame]) -> str | None:
    """The answer that these frames show, as the text of a choice; None if they do not show it."""
    if question.kind == "digit":
        return question.answer if any(_shows_print(question, frame) for frame in frames) else None
    times = _times(frames)
    start, stop = question.seconds
    if question.kind == "order":
        first = [next((t for t in times if actor.is_there(t)), None) for actor in question.actors]
        shapes = [actor.shape for actor, sight in zip(question.actors, first, strict=True) if sight is not None]
        return ", then ".join(shapes) if len(shapes) == len(question.actors) else None
    covered = [start, *(t for t in times if start <= t <= stop), stop]
    if not times or any(round((after - before) * FRAME_RATE) > LEAST_FRAMES for before, after in itertools.pairwise(covered)):
        return None
    runs = [is_there for is_there, _ in itertools.groupby(any(actor.is_there(t) for actor in question.actors) for t in times)]
    return OFTEN[sum(runs) - 1] if any(runs) else None


def said(rng: random.Random, clip: Clip, question: SpotQuestion, frames: Sequence[Frame]) -> str:
    """What the frames hold, in words."""
    if question.kind != "digit":
        return words.frames(rng, [(t, tuple(seen(clip, t))) for t in _times(frames)])
    if any(_shows_print(question, frame) for frame in frames):
        shape = question.actors[0].shape
        return rng.choice((" In the enlarged part the middle of the {} reads {}.", " Close up, the {} has the digit {} on it.")).format(
            shape, question.answer
        )
    return rng.choice((" The part that came back holds something else.", " There is no such print in what came back."))


def misread(rng: random.Random, question: SpotQuestion) -> str:
    """Words about frames that were not looked at with care."""
    if question.kind == "digit":
        return rng.choice((" The enlarged part is a little blurred, but can be read.", " The print in the enlarged part is clear enough."))
    return rng.choice((" I follow these frames one after the other.", " These frames show what happens."))


def bad_spot(question: SpotQuestion, clip: Clip, rng: random.Random) -> str:
    """A call for another second, or for a part of the picture without the print."""
    if question.kind == "digit":
        x, y = (side / SIZE for side in question.actors[0].centre(0.0))
        left, top = 0.02 if x > 0.5 else 0.8, 0.02 if y > 0.5 else 0.8
        return f"zoom {left:g} {top:g} {left + 0.16:g} {top + 0.16:g} at 0 s"
    return words.spot(question, rng.choice([start for start in range(int(clip.duration_seconds) - 1) if start != question.seconds[0]]))


def _times(frames: Sequence[Frame]) -> list[float]:
    """The frames' timestamps, snapped to the clip's frame rate, in order."""
    return sorted(round(frame.seconds * FRAME_RATE) / FRAME_RATE for frame in frames if frame.seconds is not None)


def _shows_print(question: SpotQuestion, frame: Frame) -> bool:
    if frame.seconds is None or frame.box is None:
        return False
    left, top, right, bottom = frame.box
    x, y = (side / SIZE for side in question.actors[0].centre(frame.seconds))
    return left < x < right and top < y < bottom and right - left <= LEGIBLE
