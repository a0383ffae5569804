"""A backend and an encoder that are no models, and see what really is in a picture: its mean colour."""

import math
import re
from collections.abc import Generator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from act2see.config import IndexedConfig, ModelConfig
from act2see.core.chat import Tool
from act2see.core.interfaces import Continuation
from act2see.core.trace import Cost, Frame, Generate, Observation, Provenance, Trace

Colour = tuple[int, int, int]


def mean_colour(image: Image.Image) -> Colour:
    """The mean of an RGB picture, each part from 0 to 255."""
    red, green, blue = np.asarray(image, np.float64).reshape(-1, 3).mean(axis=0).round().astype(int).tolist()
    return red, green, blue


def as_text(colour: Colour) -> str:
    """A colour as a query: `200 40 40`."""
    return " ".join(map(str, colour))


class Colours:
    """An encoder of mean colours: the query is a colour, and the frame that is nearest to it scores best."""

    name, fingerprint, side, threshold = "colours", "colours-1", 64, 0.0

    def __init__(self, config: IndexedConfig) -> None:
        pass

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors of shape (images, 1, 4)."""
        return np.stack([_on_the_sphere(mean_colour(image)) for image in images])[:, None]

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """The unit vector of the three numbers in a text; of another text, that of black."""
        return _on_the_sphere(_colour_in(text))

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines."""
        found: NDArray[np.float32] = (np.asarray(frames, np.float32) @ text).max(axis=1)
        return found


def _colour_in(text: str) -> Sequence[float]:
    """The first three numbers of a text; black where there are fewer."""
    numbers = [int(number) for number in re.findall(r"\d{1,3}", text)[:3]]
    return numbers if len(numbers) == 3 else (0, 0, 0)


def _on_the_sphere(colour: Sequence[float]) -> NDArray[np.float32]:
    """A colour as a unit vector from which it can be told: the fourth part is what is left."""
    parts = np.array(colour, np.float64) / (255 * math.sqrt(3))
    return np.array([*parts, math.sqrt(max(0.0, 1 - float(parts @ parts)))], np.float32)


class Witness:
    """Looks for what the question says and answers with what it saw: `2 frames, 2.00 s, then 201 40 38`."""

    def __init__(self, config: ModelConfig) -> None:
        self.made_with: Mapping[str, str] = {"backend": "witness"}

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        """A look, a picture where there is a generator, then the answer."""
        seen = [frame for step in trace.steps if isinstance(step, Observation) for frame in step.frames]
        if tools and not any(isinstance(step, Observation) for step in trace.steps):
            text = f"<think>It is not here.<retrieve>{trace.question}</retrieve>"
        elif "generate" in tools and not any(isinstance(step, Generate) for step in trace.steps):
            text = "And if it were another colour?<generate>the negative</generate>"
        else:
            text = self._answer(trace, seen)
        yield text
        return Continuation(text, "tag", Cost(tokens_in=1, tokens_out=1))

    def _answer(self, trace: Trace, seen: Sequence[Frame]) -> str:
        if trace.choices:
            return "</think><answer>A</answer>"
        wanted = _on_the_sphere(_colour_in(trace.question))
        colours = [mean_colour(frame.image) for frame in (*trace.frames, *seen)]
        nearest = max(colours, key=lambda colour: float(_on_the_sphere(colour) @ wanted))
        return f"</think><answer>{len(trace.frames)} frames, {trace.duration_seconds or 0:.2f} s, then {as_text(nearest)}</answer>"


class Negative:
    """Generates the anchor's negative."""

    name = "negative"

    def __init__(self, config: ModelConfig) -> None:
        pass

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """The negative, with its provenance."""
        made = Provenance(prompt, anchor.seconds, self.name, seed, 0.5, {"likeness": 0.5})
        return Frame(ImageOps.invert(anchor.image), None, provenance=made)
