"""Published scores on these benchmarks with their reported settings, and how a run's settings differ from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

from act2see.storage.runs import JSON

PAPER = "arXiv 2605.01657"
_WITH_LOOKING: Mapping[str, JSON] = {"fps": 1.0, "retrieve_fps": 3.0, "max_looks": 1, "tools": "both"}
"""The paper's settings: initial frames at 1 fps, retrieval at 3 fps, at most one inserted frame."""
_WITHOUT_LOOKING: Mapping[str, JSON] = {"fps": 1.0, "max_looks": 0}


@dataclass(frozen=True, slots=True)
class Published:
    """One published score. `settings` are the reported ones, under the names of `act2see eval`; `unknown` lists what the source does not state."""

    model: str
    accuracy: float
    source: str
    settings: Mapping[str, JSON]
    unknown: tuple[str, ...]


def _of_the_paper(base: float, act2see: float, *unknown: str) -> tuple[Published, ...]:
    left_open = ("how many frames at most", "pixels", "decoding", "prompt", *unknown)
    return (
        Published("Qwen3-VL-8B-Thinking", base, PAPER, _WITHOUT_LOOKING, left_open),
        Published("Act2See (Qwen3-VL-8B-Thinking, fine-tuned)", act2see, PAPER, _WITH_LOOKING, left_open),
    )


PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "video-mme": _of_the_paper(0.718, 0.742, "with or without subtitles"),
    "videoespresso": _of_the_paper(0.415, 0.468),
    "egonormia": _of_the_paper(0.489, 0.513, "which of its figures"),
    "vcr-bench": _of_the_paper(0.382, 0.471, "accuracy or F1 of the reasoning", "which judge"),
    "vitib": _of_the_paper(0.602, 0.633),
}


class PublishedRow(TypedDict):
    """A published score beside a run's, as summary.json stores it."""

    model: str
    accuracy: float
    source: str
    differs: dict[str, list[JSON]]
    """The settings that differ: `name: [theirs, here]`."""
    unknown: list[str]


def beside(benchmark: str, settings: Mapping[str, JSON]) -> list[PublishedRow]:
    """The published scores of a benchmark, each with the settings that differ from a run's as `name: [theirs, here]`. May be empty."""
    return [
        {
            "model": one.model,
            "accuracy": one.accuracy,
            "source": one.source,
            "differs": {name: [value, settings[name]] for name, value in one.settings.items() if name in settings and settings[name] != value},
            "unknown": list(one.unknown),
        }
        for one in PUBLISHED.get(benchmark, ())
    ]
