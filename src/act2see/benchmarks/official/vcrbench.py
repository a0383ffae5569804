"""VCR-Bench: overlaps of times and boxes are computed, the rest is a judge's word; steps of reasoning are counted as a judge has sorted them.

Nothing of the judge's wording is here: see `act2see.benchmarks.judge_prompts`.
Source: zhishuifeiqian/VCR-Bench, 4e564b7, eval_code/eval.py, cau_acc.py and cau_total.py.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from act2see.benchmarks.official.literals import literal
from act2see.storage.codec import shown

SOURCE = "zhishuifeiqian/VCR-Bench@4e564b7 eval_code/eval.py, cau_acc.py, cau_total.py"
FORM = "{}"
"""How our own answer is printed: the letter alone, `[75, 90]` or `[10, 20, 110, 220]`; other answers as they are."""
TIME_IOU, BOX_IOU = 0.7, 0.5
"""An overlap must be above these: exactly as much is wrong."""
DURATIONS = {"0-60": 60.0, "60-300": 300.0, "300+": float("inf")}
"""Names of the groups by length, and the longest video in each, in seconds."""

Ratio: TypeAlias = float | Literal[""]
"""A share, or the empty text that the official files hold where there is nothing to divide by."""

_TYPES = {"Video": "Video Description Steps", "logic": "Logical Inference Steps", "background": "Background Review Steps"}
_FENCED = re.compile(r"```json\n(.*?)```", re.DOTALL)


# Answers


@dataclass(frozen=True, slots=True)
class Match:
    """The official `answer_scoring`: "1", "0", 0 after a fault, or whatever a judge wrote."""

    scoring: str | int | None
    judge_called: bool

    @property
    def is_right(self) -> bool:
        """Only the text "1" is; a judge's "1" with a line end is not."""
        return self.scoring == "1"


def match_answer(extracted: Any, gold: Any, compare: Callable[[], str | None]) -> Match:
    """The official comparison of an extracted answer with the right one. `compare` asks the judge; it is called only where neither overlap applies.

    What the original fails on (a box without an area, a right answer that is no text) it counts as wrong, and so does this.
    """
    try:
        if _is_interval(gold) and _is_interval(extracted):
            return Match("1" if time_iou(literal(gold), literal(extracted)) > TIME_IOU else "0", judge_called=False)
        if _is_box(gold) and _is_box(extracted):
            return Match("1" if box_iou(_box(gold), _box(extracted)) > BOX_IOU else "0", judge_called=False)
    except (AttributeError, TypeError, ArithmeticError, MemoryError, RecursionError):
        return Match(0, judge_called=False)
    return Match(compare(), judge_called=True)


def time_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """The overlap of two stretches of time over what both span together; 0 where that is nothing."""
    shared = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    together = max(one[1], other[1]) - min(one[0], other[0])
    return 0.0 if together == 0 else shared / together


def box_iou(one: Sequence[int], other: Sequence[int]) -> float:
    """The overlap of two boxes (left, top, right, bottom) over what both cover. Raises `ZeroDivisionError` where that is nothing."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    if right < left or bottom < top:
        return 0.0
    shared = (right - left) * (bottom - top)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def _is_interval(text: Any) -> bool:
    """Whether it is a list of two numbers; True and False are numbers here."""
    try:
        read = literal(text) if isinstance(text, str) else None
    except (ValueError, SyntaxError):
        return False
    return isinstance(read, list) and len(read) == 2 and all(isinstance(one, int | float) for one in read)


def _is_box(text: Any) -> bool:
    """Whether it is a list of four whole numbers, with nothing around its brackets."""
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
    """Which share of the right solution's steps the judge found, by their type, in the official fields. Background does not count in the overall one.

    Raises `ValueError` for a reply that cannot be read: the judge is asked again.
    """
    counts = _counted(reply, ("Matched", "Unmatched"))
    found: dict[str, Ratio] = {f"{name}_recall": _ratio(one["Matched"], one["Unmatched"]) for name, one in counts.items()}
    return found | {"overall_recall": _overall(counts, "Unmatched")}


def precision(reply: str) -> dict[str, Ratio]:
    """Which share of the model's steps the judge found right, by their type, and which share was of use (`efficiency`), as `recall`.

    Redundant steps count in the efficiency alone. Of a reply without any step the efficiency is empty: there the original divides by zero, and
    the item vanishes from its results.
    """
    counts = _counted(reply, ("Matched", "Wrong", "Redundant"))
    found: dict[str, Ratio] = {f"{name}_precision": _ratio(one["Matched"], one["Wrong"]) for name, one in counts.items()}
    redundant = sum(one["Redundant"] for one in counts.values())
    useful = sum(sum(one.values()) for one in counts.values()) - redundant
    return found | {"overall_precision": _overall(counts, "Wrong"), "efficiency": _ratio(useful, redundant)}


def _counted(reply: str, judgments: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """How many steps of each type got each judgment, in the first list between the marks."""
    match = _FENCED.search(reply) if isinstance(reply, str) else None
    if match is None:
        raise ValueError("the judge wrote no list between ```json and ```")
    counts = {kind: dict.fromkeys(judgments, 0) for kind in _TYPES.values()}
    try:
        for step in json.loads(match.group(1).strip()):
            counts[step["step_type"]][step["judgment"]] += 1
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"the judge's list holds something else than steps with a known step_type and judgment: {shown(repr(error))}") from error
    return {name: counts[kind] for name, kind in _TYPES.items()}


def _ratio(part: int, rest: int) -> Ratio:
    return part / (part + rest) if part + rest else ""


def _overall(counts: Mapping[str, Mapping[str, int]], bad: str) -> Ratio:
    told = [counts[name] for name in ("Video", "logic")]
    return _ratio(sum(one["Matched"] for one in told), sum(one[bad] for one in told))


# A whole run


def cot_figures(items: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Precision, recall and their F1 of items in the official fields: F1 of the two means, each over the items that have a number there."""
    numbers: dict[str, dict[str, list[float]]] = {}
    for item in items:
        for kind in ("Video", "logic", "overall"):
            for name in ("precision", "recall"):
                value = item.get(f"{kind}_{name}", "")
                if value != "":
                    numbers.setdefault(kind, {"precision": [], "recall": []})[name].append(value)
    return {kind: _with_f1(_mean(lists["precision"]), _mean(lists["recall"])) for kind, lists in numbers.items()}


def _with_f1(precision_mean: float, recall_mean: float) -> dict[str, float]:
    total = precision_mean + recall_mean
    return {"precision": precision_mean, "recall": recall_mean, "f1": 2 * precision_mean * recall_mean / total if total > 0 else 0.0}


def accuracy_figures(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracy of items in the official fields: overall, by dimension where an item names one, and by length (a video without one has 0 s)."""
    is_right = [item.get("answer_scoring") == "1" for item in items]
    dimensions: dict[Any, list[bool]] = {}
    durations: dict[str, list[bool]] = {name: [] for name in DURATIONS}
    for item, right in zip(items, is_right, strict=True):
        if dimension := item.get("dimension"):
            dimensions.setdefault(dimension, []).append(right)
        durations[duration_group(item.get("duration", 0))].append(right)
    return {
        "overall_accuracy": _mean(is_right),
        "dimension_accuracy": {name: _mean(members) for name, members in dimensions.items()},
        "duration_accuracy": {name: _mean(members) for name, members in durations.items()},
    }


def duration_group(seconds: float) -> str:
    """The group of a video's length; 60 and 300 seconds belong to the lower one."""
    return next((name for name, longest in DURATIONS.items() if seconds <= longest), "300+")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
