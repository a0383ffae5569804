"""VCR-Bench: computed overlaps for time intervals and boxes, a judge's verdict for the rest; reasoning steps are counted as the judge labels them.

The judge's prompts are in `act2see.benchmarks.judge_prompts`.
Source: zhishuifeiqian/VCR-Bench, 4e564b7, eval_code/eval.py, cau_acc.py and cau_total.py.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict, cast

from act2see.benchmarks.official.literals import literal
from act2see.storage.codec import shown

SOURCE = "zhishuifeiqian/VCR-Bench@4e564b7 eval_code/eval.py, cau_acc.py, cau_total.py"
FORM = "{}"
"""Format of our answer: the letter alone, `[75, 90]` or `[10, 20, 110, 220]`; other answers verbatim."""
TIME_IOU, BOX_IOU = 0.7, 0.5
"""An overlap must exceed these thresholds; equality is wrong."""
DURATIONS = {"0-60": 60.0, "60-300": 300.0, "300+": float("inf")}
"""Duration groups, and the longest video of each in seconds."""

Ratio: TypeAlias = float | Literal[""]
"""A share, or an empty text if the denominator is 0, as in the official files."""

Field: TypeAlias = str | float | None
"""A value in an item of the official results."""


class AccuracyFigures(TypedDict):
    """The official accuracies, 0 to 1."""

    overall_accuracy: float
    dimension_accuracy: dict[str, float]
    duration_accuracy: dict[str, float]


_TYPES = {"Video": "Video Description Steps", "logic": "Logical Inference Steps", "background": "Background Review Steps"}
_FENCED = re.compile(r"```json\n(.*?)```", re.DOTALL)


# Answers


@dataclass(frozen=True, slots=True)
class Match:
    """The official `answer_scoring`: "1", "0", 0 after an error, or the judge's raw reply."""

    scoring: str | int | None
    judge_called: bool

    @property
    def is_right(self) -> bool:
        """Whether the scoring is exactly "1"; a judge's "1" with a newline is not."""
        return self.scoring == "1"


def match_answer(extracted: object, gold: object, compare: Callable[[], str | None]) -> Match:
    """The official comparison of an extracted answer with the gold answer. `compare` calls the judge; it is used only if no overlap applies.

    Like the original, this counts answers on which the comparison fails (a box without area, a gold answer that is not a text) as wrong.
    """
    try:
        if (one := _interval(gold)) is not None and (other := _interval(extracted)) is not None:
            return Match("1" if time_iou(one, other) > TIME_IOU else "0", judge_called=False)
        first, second = cast("str", gold), cast("str", extracted)  # anything else raises here, as in the original
        if _is_box(first) and _is_box(second):
            return Match("1" if box_iou(_box(first), _box(second)) > BOX_IOU else "0", judge_called=False)
    except (AttributeError, TypeError, ArithmeticError, MemoryError, RecursionError):
        return Match(0, judge_called=False)
    return Match(compare(), judge_called=True)


def time_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over the joint span of two time intervals; 0 if the span is empty."""
    shared = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    together = max(one[1], other[1]) - min(one[0], other[0])
    return 0.0 if together == 0 else shared / together


def box_iou(one: Sequence[int], other: Sequence[int]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom). Raises `ZeroDivisionError` if the union is empty."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    if right < left or bottom < top:
        return 0.0
    shared = (right - left) * (bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def _interval(text: object) -> list[float] | None:
    """The numbers of a list of two, True and False included; None for anything else."""
    try:
        read = literal(text) if isinstance(text, str) else None
    except (ValueError, SyntaxError):
        return None
    is_interval = isinstance(read, list) and len(read) == 2 and all(isinstance(one, int | float) for one in read)
    return cast("list[float]", read) if is_interval else None


def _is_box(text: str) -> bool:
    """Whether the text is exactly a list of four integers."""
    if not (text.startswith("[") and text.endswith("]")):
        return False
    try:
        return len(_box(text)) == 4
    except ValueError:
        return False


def _box(text: str) -> list[int]:
    return [int(part) for part in text[1:-1].split(",")]


# Steps of the reasoning


def recall(reply: str) -> dict[str, Ratio]:
    """Share of the reference steps that the judge found, by type, in the official fields. The overall recall ignores background steps.

    Raises `ValueError` for an unreadable reply, so that the judge is asked again.
    """
    counts = _counted(reply, ("Matched", "Unmatched"))
    found: dict[str, Ratio] = {f"{name}_recall": _ratio(one["Matched"], one["Unmatched"]) for name, one in counts.items()}
    return found | {"overall_recall": _overall(counts, "Unmatched")}


def precision(reply: str) -> dict[str, Ratio]:
    """Share of the model's steps that the judge labelled right, by type, and of useful steps (`efficiency`). Raises like `recall`.

    Redundant steps count in the efficiency only. For a reply without steps the efficiency is empty: there the original divides by zero, and drops the
    item from its results.
    """
    counts = _counted(reply, ("Matched", "Wrong", "Redundant"))
    found: dict[str, Ratio] = {f"{name}_precision": _ratio(one["Matched"], one["Wrong"]) for name, one in counts.items()}
    redundant = sum(one["Redundant"] for one in counts.values())
    useful = sum(sum(one.values()) for one in counts.values()) - redundant
    return found | {"overall_precision": _overall(counts, "Wrong"), "efficiency": _ratio(useful, redundant)}


def _counted(reply: str, judgments: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Number of steps by type and judgment, in the reply's first fenced list."""
    match = _FENCED.search(reply) if isinstance(reply, str) else None
    if match is None:
        raise ValueError("the judge's reply has no list between ```json and ```")
    counts = {kind: dict.fromkeys(judgments, 0) for kind in _TYPES.values()}
    try:
        for step in json.loads(match.group(1).strip()):
            counts[step["step_type"]][step["judgment"]] += 1
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"the judge's list has an entry without a known step_type and judgment: {shown(repr(error))}") from error
    return {name: counts[kind] for name, kind in _TYPES.items()}


def _ratio(part: int, rest: int) -> Ratio:
    return part / (part + rest) if part + rest else ""


def _overall(counts: Mapping[str, Mapping[str, int]], bad: str) -> Ratio:
    scored = [counts[name] for name in ("Video", "logic")]
    return _ratio(sum(one["Matched"] for one in scored), sum(one[bad] for one in scored))


# A whole run


def cot_figures(items: Iterable[Mapping[str, Field]]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 of items in the official fields: F1 of the two means, each over the items with a value."""
    numbers: dict[str, dict[str, list[float]]] = {}
    for item in items:
        for kind in ("Video", "logic", "overall"):
            for name in ("precision", "recall"):
                value = item.get(f"{kind}_{name}", "")
                if value != "":
                    numbers.setdefault(kind, {"precision": [], "recall": []})[name].append(cast("float", value))
    return {kind: _with_f1(_mean(lists["precision"]), _mean(lists["recall"])) for kind, lists in numbers.items()}


def _with_f1(precision_mean: float, recall_mean: float) -> dict[str, float]:
    total = precision_mean + recall_mean
    return {"precision": precision_mean, "recall": recall_mean, "f1": 2 * precision_mean * recall_mean / total if total > 0 else 0.0}


def accuracy_figures(items: Sequence[Mapping[str, Field]]) -> AccuracyFigures:
    """Accuracy of items in the official fields: overall, by dimension if an item has one, and by duration (0 s if missing)."""
    is_right = [item.get("answer_scoring") == "1" for item in items]
    dimensions: dict[str, list[bool]] = {}
    durations: dict[str, list[bool]] = {name: [] for name in DURATIONS}
    for item, right in zip(items, is_right, strict=True):
        if dimension := item.get("dimension"):
            dimensions.setdefault(cast("str", dimension), []).append(right)
        durations[duration_group(cast("float", item.get("duration", 0)))].append(right)
    return {
        "overall_accuracy": _mean(is_right),
        "dimension_accuracy": {name: _mean(members) for name, members in dimensions.items()},
        "duration_accuracy": {name: _mean(members) for name, members in durations.items()},
    }


def duration_group(seconds: float) -> str:
    """The duration group of a video; 60 and 300 seconds belong to the lower group."""
    return next((name for name, longest in DURATIONS.items() if seconds <= longest), "300+")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
