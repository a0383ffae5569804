"""Scores that others have published on these benchmarks, with the settings that they say they used; and where a run's settings differ from these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PAPER = "arXiv 2605.01657"
_ASKED_WITH: Mapping[str, Any] = {"fps": 1.0, "retrieve_fps": 3.0, "max_looks": 1, "tools": "both"}
"""The paper's: initial frames at 1 fps, retrieval at 3 fps, at most one inserted frame."""
_WITHOUT_LOOKING: Mapping[str, Any] = {"fps": 1.0, "max_looks": 0}


@dataclass(frozen=True, slots=True)
class Published:
    """One number in a table. `settings` are those that are known, under the names of `act2see eval`'s; `unknown` what the source does not tell."""

    model: str
    accuracy: float
    source: str
    settings: Mapping[str, Any]
    unknown: tuple[str, ...]


def _of_the_paper(base: float, act2see: float, *unknown: str) -> tuple[Published, ...]:
    left_open = ("how many frames at most", "pixels", "decoding", "prompt", *unknown)
    return (
        Published("Qwen3-VL-8B-Thinking", base, PAPER, _WITHOUT_LOOKING, left_open),
        Published("Act2See (Qwen3-VL-8B-Thinking, fine-tuned)", act2see, PAPER, _ASKED_WITH, left_open),
    )


PUBLISHED: Mapping[str, tuple[Published, ...]] = {
    "video-mme": _of_the_paper(0.718, 0.742, "with or without subtitles"),
    "videoespresso": _of_the_paper(0.415, 0.468),
    "egonormia": _of_the_paper(0.489, 0.513, "which of its figures"),
    "vcr-bench": _of_the_paper(0.382, 0.471, "accuracy or F1 of the reasoning", "which judge"),
    "vitib": _of_the_paper(0.602, 0.633),
}


def beside(benchmark: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The published numbers of a benchmark, each with what a run's settings have otherwise: `name: [theirs, here]`. Empty where none are known."""
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
