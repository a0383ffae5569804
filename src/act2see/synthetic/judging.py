"""What a picture of the synthetic world shows, read from its pixels by drawing all that could be there: the referee of edits."""

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
    """What became of an edit."""

    done: bool
    """All shapes that it is about are as they should be, and where they should be; of a removal, that there is nothing where the shape was."""
    cleared: bool
    """Where one of them was and should not be, there is nothing."""
    kept: int
    """How many of the other shapes are still what they were."""
    others: int


def judge(edit: Edit, before: Clip, after: Clip, seconds: float, picture: Image.Image) -> Judged:
    """Compare a picture with the edited clip `after`; `before` is the clip as it was. Pictures of another size are scaled to the world's."""
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
    """The shape and colour whose drawing at the actor's place and size is nearest to the picture there, or None if the bare ground is."""
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
    """Slightly blurred: a generator may be a pixel off at an edge."""
    return np.asarray(image.filter(ImageFilter.GaussianBlur(2)), np.float32)


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.square(one - other).mean())
