"""Evaluation of edited pictures: reads a synthetic picture's contents by template matching against all shapes and colours."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from act2see.synthetic.edits import Edit, shapes_of
from act2see.synthetic.world import COLOURS, SHAPES, SIZE, Actor, Clip, draw_shape

_HALF = 36
"""Half the side of the window about a shape's centre, in pixels."""
Label = tuple[str, str] | None
"""Shape and colour; None where there is nothing."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The result of evaluating an edit."""

    done: bool
    """All edited shapes have the right shape, colour and place; for a removal, the shape's former place is empty."""
    cleared: bool
    """The former places of edited shapes are empty."""
    kept: int
    """Number of other shapes that are unchanged."""
    others: int


def judge(edit: Edit, before: Clip, after: Clip, seconds: float, picture: Image.Image) -> Judged:
    """Compare a picture with the edited clip `after`; `before` is the original clip. Pictures of other sizes are resized."""
    image = picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    about = shapes_of(edit)
    wanted = after.visible(seconds)
    right = {id(actor): label_at(image, after, actor, seconds) == (actor.shape, actor.colour_at(seconds)) for actor in wanted}
    changed = [actor for actor in wanted if actor.shape in about]
    others = [actor for actor in wanted if actor.shape not in about]
    left = [actor for actor in before.visible(seconds) if actor.shape in about and not _is_near(actor, wanted, seconds)]
    cleared = all(label_at(image, after, actor, seconds) is None for actor in left)
    return Judged(
        done=all(right[id(actor)] for actor in changed) if changed else cleared,
        cleared=cleared,
        kept=sum(right[id(actor)] for actor in others),
        others=len(others),
    )


def _is_near(actor: Actor, others: list[Actor], seconds: float) -> bool:
    x, y = actor.centre(seconds)
    return any(abs(x - other.centre(seconds)[0]) + abs(y - other.centre(seconds)[1]) < _HALF for other in others)


def label_at(image: Image.Image, clip: Clip, actor: Actor, seconds: float) -> Label:
    """The shape and colour whose drawing at the actor's place and size is closest to the picture, or None if the background is."""
    x, y = actor.centre(seconds)
    box = (round(x) - _HALF, round(y) - _HALF, round(x) + _HALF, round(y) + _HALF)
    seen = _pixels(image.crop(box))
    ground = replace(clip, actors=()).draw(seconds)
    best: tuple[float, Label] = (_distance(seen, _pixels(ground.crop(box))), None)
    for shape in SHAPES:
        for colour, rgb in COLOURS.items():
            drawn = ground.copy()
            draw_shape(ImageDraw.Draw(drawn), shape, x, y, actor.radius, rgb)
            best = min(best, (_distance(seen, _pixels(drawn.crop(box))), (shape, colour)), key=lambda pair: pair[0])
    return best[1]


def _pixels(image: Image.Image) -> NDArray[np.float32]:
    """Slightly blurred, to tolerate edges that are off by a pixel."""
    return np.asarray(image.filter(ImageFilter.GaussianBlur(2)), np.float32)


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.square(one - other).mean())
