"""What the embedded models may be asked: questions with choices, about videos of the synthetic world. All else is refused, or asked with a notice."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from act2see.core.trace import Frame, Trace
from act2see.synthetic.recognition import SAMPLED, is_of_the_world
from act2see.video import Video

_SETTINGS_FILE = "act2see.json"
"""A model's folder may say in it what it was trained on alone: `"knows": "synthetic"`."""
_OF_FOLDERS = ("huggingface", "diffusers", "siglip", "clip", "blip2", "embedding")
SYNTHETIC = "synthetic"
NOTICE = "notice"
"""The name under which a trace's `made_with` warns of what must not be relied on."""
FORCED = (
    "asked with --force: the embedded model knows only the synthetic world, and questions with choices about it; "
    "what it says of anything else is not to be relied on"
)
_UNVERIFIED = "its judge knows only the synthetic world, and the frame that it was made from is not of it"

_WAYS = (
    "name a local model (--backend huggingface:Qwen/Qwen3-VL-8B-Thinking), or one on vLLM or hosted (--backend openai:MODEL --base-url URL); "
    "--force asks all the same"
)
_SHORT_SIDE = 96
"""Frames are looked at in this size where none has been decoded yet."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which of the models that a config names know the synthetic world alone."""

    backend: bool = False
    retriever: bool = False
    generator: bool = False
    force: bool = False
    """Ask all the same, with a notice in the trace."""
    choices_in_text: bool = False
    """The question's own text may hold its choices, so that a question without any is not taken for an open one."""

    @property
    def is_limited(self) -> bool:
        """Whether anything has to be looked at."""
        return self.backend or self.retriever or self.generator

    def refusal(self, trace: Trace) -> str | None:
        """Why the embedded model must not be asked; None where it may be, where another model is asked, and with `force`."""
        if self.force or not self.backend:
            return None
        if not is_of_the_world([frame.image for frame in trace.frames]):
            return f"{_not_of_it(trace.video)} and the embedded model knows nothing else: {_WAYS}"
        if not trace.choices and not self.choices_in_text:
            return f"the embedded model answers no open questions: give it --choices, or {_WAYS}"
        return None

    def notice(self, trace: Trace) -> str | None:
        """What must not be relied on in a trace that is about to begin; None where all that is used knows the video."""
        if self.backend and self.force and not trace.choices and not self.choices_in_text:
            return FORCED
        if not self.is_limited or is_of_the_world([frame.image for frame in trace.frames]):
            return None
        if self.backend:
            return FORCED
        named = "retriever and generator know" if self.retriever and self.generator else "retriever knows" if self.retriever else "generator knows"
        return f"{_not_of_it(trace.video)} and the embedded {named} nothing else: what comes of it is not to be relied on"


NO_LIMITS = Scope()
"""Of models that may be asked anything."""


def glance(video: Video, choices: Sequence[str]) -> Trace:
    """A trace that only says what a video looks like and whether there are choices, for `Scope`: a few small frames are decoded for it."""
    return Trace("", str(video.path), "", tuple(Frame(image, None) for image in _some_pictures(video)), tuple(choices))


def refusal_to_search(video: Video) -> str | None:
    """Why the embedded retriever and generator must not be used on a video; None where they may be. Decodes a few small frames."""
    if is_of_the_world(_some_pictures(video)):
        return None
    return (
        f"{_not_of_it(str(video.path))} and the embedded models know nothing else: name a real retriever "
        "(--retriever siglip:google/siglip2-so400m-patch14-384) and generator (--generator diffusers:MODEL); --force goes on all the same"
    )


def not_judged(anchor: Image.Image) -> str | None:
    """Why the embedded judge cannot check a picture that is made from this frame; None where it can."""
    return None if is_of_the_world([anchor]) else _UNVERIFIED


def is_of_the_world_alone(spec: str) -> bool:
    """Whether a model's name on the command line means one that knows nothing else: an embedded one, or one whose folder says so.

    A folder that cannot be read says nothing: it is refused where the model is loaded.
    """
    name, _, rest = spec.partition(":")
    if name == "micro" or name not in _OF_FOLDERS:
        return spec == "micro"
    try:
        said = json.loads((Path(os.path.expanduser(rest)) / _SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("knows") == SYNTHETIC


def _not_of_it(video: str) -> str:
    return f"{Path(video).name} is not of the synthetic world of coloured shapes,"


def _some_pictures(video: Video) -> Sequence[Image.Image]:
    duration = video.duration_seconds
    return [frame.image for frame in video.frames_at([(place + 0.5) * duration / SAMPLED for place in range(SAMPLED)], _SHORT_SIDE)]
