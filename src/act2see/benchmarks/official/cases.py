"""Checks our rules against recorded verdicts of the official code.

A case is one line of JSON: an output (`model_output`), what is right (`gold`), and what the official code read and said of it.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from act2see.benchmarks.official import causalvqa, egonormia, minerva, vcrbench, videoespresso, videomme, vitib
from act2see.benchmarks.official.verdict import Verdict
from act2see.core.errors import ConfigError
from act2see.storage.codec import shown

Case: TypeAlias = Mapping[str, Any]
Found: TypeAlias = dict[str, Any]
"""What our rule says, under the names that a case has for what the official code said."""

_FAULTS = (AttributeError, TypeError, KeyError, IndexError, ValueError, ArithmeticError)
"""What the official code, and a rule that follows it, raises for an output or a right answer that it was not made for."""
_SHOWN_CHARACTERS = 200
_TOO_LARGE = 1e300  # keeps integers beyond a float out

# Two cases name a file of VCR-Bench's repository in place of the items in it. These are the numbers and labels of its four items that are counted.
_SHIPPED: Mapping[str, Sequence[Case]] = {
    "VCR-Bench/eval_code/output.json": [
        dict(zip(("duration", "dimension", "answer_scoring", "Video_recall", "logic_recall", "overall_recall"), first, strict=True))
        | dict(zip(("Video_precision", "logic_precision", "overall_precision"), last, strict=True))
        for first, last in (
            ((56, "Video Plot Analysis", "1", 1 / 3, 1.0, 0.5), ("", 1.0, 1.0)),
            ((179, "Temporal Spatial Reasoning", "1", 0.5, "", 0.5), ("", 1.0, 1.0)),
            ((179, "Temporal Spatial Reasoning", "0", 2 / 3, "", 2 / 3), ("", 0.0, 0.0)),
            ((300, "Temporal Spatial Reasoning", "1", 0.0, 1.0, 1 / 3), (1.0, 1.0, 1.0)),
        )
    ]
}


@dataclass(frozen=True, slots=True)
class Result:
    """One line of a file of cases. `problem` says in one line how ours differs, or why the line is no case; None where we agree."""

    id: str
    problem: str | None


def run_cases(path: Path) -> Iterator[Result]:
    """Each line's result, in the file's order. A line that is no case counts as one that differs, named by its place.

    Raises `ConfigError` for a file that cannot be read or holds no line.
    """
    try:
        lines = Path(os.path.expanduser(path)).read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot read the cases {path}: {error.strerror or error}") from error
    if not any(line.strip() for line in lines):
        raise ConfigError(f"{path} holds no cases: one JSON object a line is expected")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _run_line(line, f"{path.name}:{number}")


def _run_line(line: bytes, where: str) -> Result:
    try:
        case = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Result(where, f"{where}: no JSON: {error}")
    if not isinstance(case, dict):
        return Result(where, f"{where}: {shown(case)} where an object is expected")
    name = case.get("id")
    id = name if isinstance(name, str) and name else where
    try:
        found = run_case(case)
    except ConfigError as error:
        return Result(id, f"{where}: {id}: {error}")
    for field, ours in found.items():
        if field in case and not agrees(ours, case[field]):
            return Result(id, f"{where}: {id}: {field} is {_short(case[field])}, ours is {_short(ours)}")
    return Result(id, None)


def run_case(case: Case) -> Found:
    """What our rule says of a case. Raises `ConfigError` for one that names no rule, or lacks a field."""
    for field in ("benchmark", "kind", "model_output", "gold", "official_verdict"):
        if field not in case:
            raise ConfigError(f"the field {field!r} is missing")
    benchmark, kind = case["benchmark"], case["kind"]
    rules = {kind: rule for (name, kind), rule in _RULES.items() if name == benchmark}
    if not rules:
        raise ConfigError(f"no official rule for the benchmark {shown(benchmark)}; there are {', '.join(dict.fromkeys(name for name, _ in _RULES))}")
    if not isinstance(kind, str) or kind not in rules:
        raise ConfigError(f"{benchmark} has no cases of the kind {shown(kind)}; there are {', '.join(rules)}")
    try:
        return rules[kind](case)
    except _FAULTS as error:
        return {"official_verdict": {"error": f"{type(error).__name__}: {error}"}}


def agrees(ours: Any, official: object) -> bool:
    """Whether two values say the same: numbers but for rounding, faults by their type, however a case words them."""
    if isinstance(ours, Mapping) and "error" in ours and isinstance(official, str):
        return _fault(ours["error"]) in official
    if isinstance(official, Mapping) and "error" in official:
        return isinstance(ours, Mapping) and "error" in ours and _fault(ours["error"]) == _fault(official["error"])
    if isinstance(official, Mapping):
        return isinstance(ours, Mapping) and ours.keys() == official.keys() and all(agrees(ours[name], official[name]) for name in official)
    if isinstance(official, list | tuple):
        same_length = isinstance(ours, list | tuple) and len(ours) == len(official)
        return same_length and all(agrees(one, other) for one, other in zip(ours, official, strict=True))
    if isinstance(official, float) and isinstance(ours, int | float) and abs(ours) < _TOO_LARGE:
        return math.isclose(ours, official, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(official, str) and isinstance(ours, str) and ours.endswith("Error"):
        return _fault(official) == ours
    return bool(ours == official)


def _fault(text: object) -> str:
    return str(text).partition(":")[0].partition(" ")[0]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


# The rules, by benchmark and kind of case


def _choice(rule: Callable[[Any, Any], Verdict]) -> Callable[[Case], Found]:
    def run(case: Case) -> Found:
        verdict = rule(case["model_output"], case["gold"])
        return {"official_extracted": verdict.extracted, "official_verdict": verdict.outcome}

    return run


def _gold_letter(case: Case) -> Found:
    letter = minerva.gold_letter(case["gold"])
    return {"official_extracted": letter, "official_verdict": letter}


def _pairs(case: Case) -> Found:
    accuracy = causalvqa.aggregate(_items(case))
    return {"official_verdict": {"single_accuracy": accuracy.single, "paired_accuracy": accuracy.paired}}


def _choices(case: Case) -> Found:
    return {"official_verdict": causalvqa.format_choices(case["model_output"], case["gold"])}


def _best(case: Case) -> Found:
    output = case["model_output"]
    order = output.get("order", egonormia.IN_ORDER)
    best = egonormia.pick_best(output["behavior_response"], output["justification_response"], case["gold"], order)
    points = dict(zip(("a", "j", "both"), best.points, strict=True))
    return {"official_extracted": best.results, "official_verdict": {"results": best.results, "correct": best.correct, **points}}


def _sensible(case: Case) -> Found:
    sensible = egonormia.pick_sensible(case["model_output"], case["gold"])
    iou = "ZeroDivisionError" if sensible.iou is None else sensible.iou
    verdict = {"results": sensible.results, "correct": sensible.correct, "iou": iou}
    return {"official_extracted": sensible.results, "official_verdict": verdict}


def _match(case: Case) -> Found:
    match = vcrbench.match_answer(case["model_output"], case["gold"], lambda: case.get("judge_output"))
    verdict = "correct" if match.is_right else "wrong"
    return {"official_verdict": verdict, "judge_called": match.judge_called, "answer_scoring": match.scoring}


def _steps(read: Callable[[str], dict[str, vcrbench.Ratio]]) -> Callable[[Case], Found]:
    """Of judges' replies, the first that can be read counts. The original asks for ever; a case ends."""

    def run(case: Case) -> Found:
        for calls, reply in enumerate(case["model_output"], start=1):
            try:
                fields = read(reply)
            except ValueError:
                continue
            if fields.get("efficiency") == "":
                return {"official_verdict": {"error": "ZeroDivisionError: there is no step"}, "judge_calls": calls}
            return {"official_verdict": fields, "judge_calls": calls}
        return {"official_verdict": {"error": "JudgeError: no reply can be read"}}

    return run


def _items(case: Case) -> Sequence[Case]:
    """The items of a whole run; a case may name a file for them, of which only those that are known here are read."""
    output = case["model_output"]
    if not isinstance(output, str):
        items: Sequence[Case] = output
        return items
    named = output.removeprefix("file: ").partition(" (")[0]
    if named not in _SHIPPED:
        raise ConfigError(f"the items are {shown(output)}: no file that a case names is opened; write the items themselves")
    return _SHIPPED[named]


_RULES: dict[tuple[str, str], Callable[[Case], Found]] = {
    ("video-mme", "mcq"): _choice(videomme.verdict),
    ("videoespresso", "mcq"): _choice(videoespresso.verdict),
    ("vitib", "mcq"): _choice(vitib.verdict),
    ("causalvqa", "mcq"): _choice(causalvqa.verdict),
    ("causalvqa", "aggregate"): _pairs,
    ("causalvqa", "format_choices"): _choices,
    ("minerva", "mcq"): _choice(minerva.verdict),
    ("minerva", "gold_letter"): _gold_letter,
    ("egonormia", "pick_best"): _best,
    ("egonormia", "pick_sensible"): _sensible,
    ("vcr-bench", "match_answer"): _match,
    ("vcr-bench", "recall"): _steps(vcrbench.recall),
    ("vcr-bench", "precision"): _steps(vcrbench.precision),
    ("vcr-bench", "aggregate_cot"): lambda case: {"official_verdict": vcrbench.cot_figures(_items(case))},
    ("vcr-bench", "aggregate_acc"): lambda case: {"official_verdict": vcrbench.accuracy_figures(_items(case))},
}
