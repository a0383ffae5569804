"""The official rules over a whole run: what each scorer is given for our answers, what it says, and its own figures with its own denominators.

A scorer is given our strict answer in its own form, not what the model wrote on the way to it, where the scorers would read letters out of words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from act2see.benchmarks import choosing
from act2see.benchmarks.causalvqa import pair_of
from act2see.benchmarks.egonormia import listed
from act2see.benchmarks.official import causalvqa, egonormia, minerva, vcrbench, videoespresso, videomme, vitib
from act2see.benchmarks.official.verdict import Verdict, letter_verdict, mean_share
from act2see.benchmarks.vcrbench import form_of, list_in
from act2see.core.chat import chosen
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace

Answered: TypeAlias = tuple[Sample, Trace | None]
"""A question and the trace that answers it; None where there is none, as where the video could not be opened."""
Judged: TypeAlias = tuple[Sample, Verdict]

_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Rule:
    """One data set's official scorer.

    `said` is what it is given for a trace, `judge` its verdict on one question. `figures` are its own over a run: `n` is its denominator, `accuracy`
    its headline (0 to 1, None of nothing), `by` the same by group.
    """

    source: str
    said: Callable[[Sample, Trace | None], str]
    judge: Callable[[Sample, Trace | None], Verdict]
    figures: Callable[[Sequence[Answered]], dict[str, Any]]


# Verdicts


def _said_number(sample: Sample, trace: Trace | None) -> str:
    """A number from 1, or a list of them; an answer that names none for sure as it was written."""
    answer = None if trace is None else trace.answer
    if sample.kind == "sensible":
        numbers = listed(answer)
        return answer or "" if numbers is None else str(sorted(numbers))
    index = chosen(answer, sample.choices)
    return answer or "" if index is None else egonormia.FORM.format(index + 1)


def _judge_number(sample: Sample, trace: Trace | None) -> Verdict:
    """One question of an item's three. That an item without a number in one of two counts as neither shows in the figures alone."""
    said = _said_number(sample, trace)
    if sample.kind == "sensible":
        sensible = egonormia.pick_sensible(said, _right_numbers(sample))
        is_counted = sensible.is_saved and sensible.iou is not None
        return Verdict(sensible.results, "share" if is_counted else "excluded", sensible.iou if is_counted else None)
    number = egonormia.last_number(said)
    if number is None:
        return Verdict(None, "excluded", None)
    last = egonormia.OPTIONS - 1 if sample.kind == "behaviour" else -1
    index = number - 1 if 1 <= number <= egonormia.OPTIONS else last
    return Verdict((index,), "correct" if index == _right_index(sample) else "wrong", float(index == _right_index(sample)))


def _right_index(sample: Sample) -> int:
    return sample.choices.index(sample.answer)


def _right_numbers(sample: Sample) -> list[int]:
    return [number - 1 for number in sorted(listed(sample.answer) or ())]


def _said_answer(sample: Sample, trace: Trace | None) -> str:
    """A letter, or the one list that the answer holds; an answer that names none for sure as it was written."""
    form = form_of(sample)
    if form == "options":
        return choosing.said(sample, trace, vcrbench.FORM)
    answer = None if trace is None else trace.answer
    listed_in_it = list_in(answer, form) if form in {"interval", "box"} else None
    return listed_in_it or answer or ""


def _judge_answer(sample: Sample, trace: Trace | None) -> Verdict:
    """Without a judge: overlaps by the rule, options by their letter, the same words are right. What only a judge can compare is left out."""
    said, form = _said_answer(sample, trace), form_of(sample)
    if form == "options":
        return letter_verdict(said, said == choosing.letter_of(sample, trace))
    is_same = bool(said) and choosing.same_words(said, sample.answer)
    match = vcrbench.match_answer(said, sample.answer, lambda: "1" if is_same else None)
    if match.judge_called and said and not is_same:
        return Verdict(said, "excluded", None)
    return letter_verdict(said, match.is_right)


# Figures


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)


def _by_group(judged: Iterable[Judged], *, kinds_only: bool = False) -> dict[str, float | None]:
    groups: dict[str, list[Verdict]] = {}
    for sample, verdict in judged:
        for name in (sample.kind,) if kinds_only else (sample.kind, *sample.groups):
            groups.setdefault(name, []).append(verdict)
    return {name: mean_share(members) for name, members in sorted(groups.items())}


def _figures(count: int, left_out: int, accuracy: float | None, by: dict[str, float | None]) -> dict[str, Any]:
    return {"n": count, "left_out": left_out, "accuracy": _rounded(accuracy), "by": {name: _rounded(value) for name, value in by.items()}}


def _counted(judged: Sequence[Judged]) -> int:
    return sum(verdict.share is not None for _, verdict in judged)


def _left_out(judged: Sequence[Judged]) -> int:
    return len(judged) - _counted(judged)


def _mean_of_all(judged: Sequence[Judged]) -> dict[str, Any]:
    return _figures(_counted(judged), _left_out(judged), mean_share(verdict for _, verdict in judged), _by_group(judged))


def _mean_over_tasks(judged: Sequence[Judged]) -> dict[str, Any]:
    by = _by_group(judged, kinds_only=True)
    tasks = [accuracy for accuracy in by.values() if accuracy is not None]
    return _figures(_counted(judged), _left_out(judged), sum(tasks) / len(tasks) if tasks else None, by)


def _pairs(judged: Sequence[Judged]) -> dict[str, Any]:
    """Both figures overall and by type and difficulty, as the official tasks are cut."""
    strata: dict[str, list[dict[str, Any]]] = {}
    for sample, verdict in judged:
        if verdict.share is not None:
            result = {"qid": pair_of(sample), "score": int(verdict.share)}
            for name in ("all", *sample.groups):
                strata.setdefault(name, []).append(result)
    by: dict[str, float | None] = {}
    for name, results in sorted(strata.items()):
        accuracy = causalvqa.aggregate(results)
        by |= {f"{name}: single": accuracy.single / 100, f"{name}: paired": accuracy.paired / 100}
    count = len({result["qid"] for result in strata.get("all", ())})
    return _figures(count, _left_out(judged), by.get("all: paired"), by)


def items_of_three(answered: Iterable[Answered]) -> dict[str, tuple[egonormia.Best, egonormia.Sensible]]:
    """EgoNormia's items by name, each from its three questions. One that is not asked has no answer."""
    items: dict[str, dict[str, Answered]] = {}
    for sample, trace in answered:
        items.setdefault(sample.id.rpartition("/")[0], {})[sample.kind] = (sample, trace)
    return {name: _item_of_three(questions) for name, questions in items.items()}


def _item_of_three(questions: Mapping[str, Answered]) -> tuple[egonormia.Best, egonormia.Sensible]:
    said = {kind: _said_number(*one) for kind, one in questions.items()}
    best = egonormia.pick_best(said.get("behaviour"), said.get("justification"), -1)
    best = replace(best, correct=_right_places(questions))
    sensible = _right_numbers(questions["sensible"][0]) if "sensible" in questions else []
    return best, egonormia.pick_sensible(said.get("sensible"), sensible)


def _right_places(questions: Mapping[str, Answered]) -> tuple[int, int]:
    """The right index of behaviour and of justification. In the data it is the same: where two options say the same, the one that both share counts.

    In a run with shuffled options each has its own.
    """
    places = [
        {at for at, choice in enumerate(questions[kind][0].choices) if choice == questions[kind][0].answer} if kind in questions else set()
        for kind in ("behaviour", "justification")
    ]
    behaviour, justification = (min((places[0] & places[1]) or own, default=-1) for own in places)
    return behaviour, justification


def _threes(answered: Sequence[Answered]) -> dict[str, Any]:
    items = items_of_three(answered)
    saved = [(best, sensible) for best, sensible in items.values() if best.is_saved and sensible.is_saved]
    overlaps = [sensible.iou for _, sensible in saved if sensible.iou is not None]
    count = len(overlaps)  # the original counts an item after its overlap, which fails where both lists are empty
    sums = [sum(points) for points in zip(*(best.points for best, _ in saved), strict=True)] or [0, 0, 0]
    by = dict(zip(("behaviour", "justification", "both", "sensible"), (*sums, sum(overlaps)), strict=True))
    rates = {name: total / count if count else None for name, total in by.items()}
    return _figures(count, len(items) - count, rates["both"], rates)


# All of them


def _judged_one_by_one(
    source: str,
    said: Callable[[Sample, Trace | None], str],
    judge: Callable[[Sample, Trace | None], Verdict],
    figures: Callable[[Sequence[Judged]], dict[str, Any]] = _mean_of_all,
) -> Rule:
    return Rule(source, said, judge, lambda answered: figures([(sample, judge(sample, trace)) for sample, trace in answered]))


def _by_letter(
    source: str,
    form: str,
    verdict: Callable[[str, str], Verdict],
    *,
    gold_form: str = "{}",
    figures: Callable[[Sequence[Judged]], dict[str, Any]] = _mean_of_all,
) -> Rule:
    """Of a scorer that reads one letter; `gold_form` is how its file writes the right one."""

    def said(sample: Sample, trace: Trace | None) -> str:
        return choosing.said(sample, trace, form)

    def judge(sample: Sample, trace: Trace | None) -> Verdict:
        if not sample.answer:  # kept by the data set's makers: there is nothing to compare with
            return Verdict(None, "excluded", None)
        return verdict(said(sample, trace), gold_form.format(choosing.letter_of(sample, trace)))

    return _judged_one_by_one(source, said, judge, figures)


RULES: dict[str, Rule] = {
    "video-mme": _by_letter(videomme.SOURCE, videomme.FORM, videomme.verdict),
    "videoespresso": _by_letter(videoespresso.SOURCE, videoespresso.FORM, videoespresso.verdict, gold_form="({})"),
    "vitib": _by_letter(vitib.SOURCE, vitib.FORM, vitib.verdict, gold_form="({})", figures=_mean_over_tasks),
    "causalvqa": _by_letter(causalvqa.SOURCE, causalvqa.FORM, causalvqa.verdict, figures=_pairs),
    "minerva": _by_letter(minerva.SOURCE, minerva.FORM, minerva.verdict),
    "egonormia": Rule(egonormia.SOURCE, _said_number, _judge_number, _threes),
    "vcr-bench": _judged_one_by_one(vcrbench.SOURCE, _said_answer, _judge_answer),
}
"""By the benchmark's name."""
