"""Scope of the embedded models: multiple-choice questions about synthetic videos. Anything else is rejected, or runs with a notice."""

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
"""A model's folder may declare its training domain in it: `"knows": "synthetic"`."""
_OF_FOLDERS = ("huggingface", "vllm", "diffusers", "siglip", "clip", "blip2", "embedding")
SYNTHETIC = "synthetic"
NOTICE = "notice"
"""Key of the warning in a trace's `made_with`."""
FORCED = (
    "asked with --force: the embedded model knows only the synthetic world, and questions with choices about it; "
    "what it says of anything else is not to be relied on"
)
_UNVERIFIED = "its judge knows only the synthetic world, and the frame that it was made from is not of it"

_WAYS = (
    "use a local model (--backend huggingface:Qwen/Qwen3-VL-8B-Thinking), or a vLLM server or hosted model (--backend openai:MODEL --base-url URL); "
    "--force runs it anyway"
)
_SHORT_SIDE = 96
"""Size at which frames are decoded for the test."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which of a config's models are limited to the synthetic world."""

    backend: bool = False
    retriever: bool = False
    generator: bool = False
    force: bool = False
    """Run anyway, with a notice in the trace."""
    choices_in_text: bool = False
    """The question's text may contain the choices, so a question without a list of choices does not count as open."""

    @property
    def is_limited(self) -> bool:
        """Whether any model is limited."""
        return self.backend or self.retriever or self.generator

    def refusal(self, trace: Trace) -> str | None:
        """Why the embedded model rejects the question; None if it accepts it, for other models, and with `force`."""
        if self.force or not self.backend:
            return None
        if not is_of_the_world([frame.image for frame in trace.frames]):
            return f"{_not_synthetic(trace.video)}, and the embedded model is trained on nothing else: {_WAYS}"
        if not trace.choices and not self.choices_in_text:
            return f"the embedded model does not support open questions: add choices (ask: --choices), or {_WAYS}"
        return None

    def notice(self, trace: Trace) -> str | None:
        """A warning for a new trace that uses a model outside its scope; None if there is none."""
        if self.backend and self.force and not trace.choices and not self.choices_in_text:
            return FORCED
        if not self.is_limited or is_of_the_world([frame.image for frame in trace.frames]):
            return None
        if self.backend:
            return FORCED
        named = "retriever and generator know" if self.retriever and self.generator else "retriever knows" if self.retriever else "generator knows"
        return f"{_not_synthetic(trace.video)}, and the embedded {named} nothing else: what comes of it is not to be relied on"


NO_LIMITS = Scope()
"""The scope of models without limits."""


def glance(video: Video, choices: Sequence[str]) -> Trace:
    """A trace with a few small frames of a video and the choices, as input for `Scope`."""
    return Trace("", str(video.path), "", tuple(Frame(image, None) for image in _some_pictures(video)), tuple(choices))


def refusal_to_search(video: Video, scope: Scope = Scope(retriever=True)) -> str | None:
    """Why the embedded retriever, the embedded generator, or both, reject a video; None if they accept it. Decodes a few small frames."""
    if is_of_the_world(_some_pictures(video)):
        return None
    generator = "--generator diffusers:MODEL" if scope.generator else None
    retriever = "--retriever siglip:google/siglip2-so400m-patch14-384" if scope.retriever else None
    both = scope.retriever and scope.generator
    named = "retriever and generator know" if both else "generator knows" if scope.generator else "retriever knows"
    ways = " and ".join(way for way in (retriever, generator) if way)
    at = ", or --at SECONDS in the retriever's place" if both else ""
    return f"{_not_synthetic(str(video.path))}, and the embedded {named} nothing else: use {ways}{at}; --force runs {'them' if both else 'it'} anyway"


def not_judged(anchor: Image.Image) -> str | None:
    """Why the embedded judge cannot verify pictures generated from this frame; None if it can."""
    return None if is_of_the_world([anchor]) else _UNVERIFIED


def is_of_the_world_alone(spec: str) -> bool:
    """Whether a model spec names a model limited to the synthetic world: an embedded one, or one whose folder declares it.

    Returns False for an unreadable folder, which is rejected when the model is loaded.
    """
    spec = spec.removeprefix("words+")  # what is said and written is read in any video
    name, _, rest = spec.partition(":")
    if name == "micro" or name not in _OF_FOLDERS:
        return spec == "micro"
    try:
        declared = json.loads((Path(os.path.expanduser(rest)) / _SETTINGS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(declared, dict) and declared.get("knows") == SYNTHETIC


def _not_synthetic(video: str) -> str:
    return f"{Path(video).name} is not of the synthetic world of coloured shapes"


def _some_pictures(video: Video) -> Sequence[Image.Image]:
    duration = video.duration_seconds
    return [frame.image for frame in video.frames_at([(place + 0.5) * duration / SAMPLED for place in range(SAMPLED)], _SHORT_SIDE)]
