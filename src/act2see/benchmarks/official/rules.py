"""Applies the official rules to a whole run: the output passed to each scorer, its verdict, and its figures with their own denominators.

A scorer gets our strictly parsed answer in its own format rather than the model's full text, in which the scorers read letters out of words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

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
"""A question and its trace; None if there is none, for example because the video could not be opened."""
Judged: TypeAlias = tuple[Sample, Verdict]

_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of an official scorer over a run."""

    n: int
    """Its denominator."""
    left_out: int
    """Questions that it excludes."""
    accuracy: float | None
    """Its headline figure, 0 to 1; None if `n` is 0."""
    by: dict[str, float | None]
    """The same by group."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One data set's official scorer.

    `output` is the text passed to it for a trace, `judge` its verdict on one question, `figures` its figures over a run.
    """

    source: str
    output: Callable[[Sample, Trace | None], str]
    judge: Callable[[Sample, Trace | None], Verdict]
    figures: Callable[[Sequence[Answered]], Figures]


# Verdicts


def _number_output(sample: Sample, trace: Trace | None) -> str:
    """A number from 1, or a list of them; the raw answer if it is ambiguous."""
    answer = None if trace is None else trace.answer
    if sample.kind == "sensible":
        numbers = listed(answer)
        return answer or "" if numbers is None else str(sorted(numbers))
    index = chosen(answer, sample.choices)
    return answer or "" if index is None else egonormia.FORM.format(index + 1)


def _judge_number(sample: Sample, trace: Trace | None) -> Verdict:
    """One of an item's three questions. An item with a missing number counts as neither, which only `_figures_per_item` applies."""
    output = _number_output(sample, trace)
    if sample.kind == "sensible":
        sensible = egonormia.pick_sensible(output, _right_numbers(sample))
        is_counted = sensible.is_saved and sensible.iou is not None
        return Verdict(sensible.results, "share" if is_counted else "excluded", sensible.iou if is_counted else None)
    number = egonormia.last_number(output)
    if number is None:
        return Verdict(None, "excluded", None)
    last = egonormia.OPTIONS - 1 if sample.kind == "behaviour" else -1
    index = number - 1 if 1 <= number <= egonormia.OPTIONS else last
    return Verdict((index,), "correct" if index == _right_index(sample) else "wrong", float(index == _right_index(sample)))


def _right_index(sample: Sample) -> int:
    return sample.choices.index(sample.answer)


def _right_numbers(sample: Sample) -> list[int]:
    return [number - 1 for number in sorted(listed(sample.answer) or ())]


def _answer_output(sample: Sample, trace: Trace | None) -> str:
    """A letter, or the single list in the answer; the raw answer if it is ambiguous."""
    form = form_of(sample)
    if form == "options":
        return choosing.scorer_output(sample, trace, vcrbench.FORM)
    answer = None if trace is None else trace.answer
    listed_in_it = list_in(answer, form) if form in {"interval", "box"} else None
    return listed_in_it or answer or ""


def _judge_answer(sample: Sample, trace: Trace | None) -> Verdict:
    """Without a judge: overlaps by the rule, options by letter, and verbatim answers are right. Answers that need a judge are excluded."""
    output, form = _answer_output(sample, trace), form_of(sample)
    if form == "options":
        return letter_verdict(output, output == choosing.letter_of(sample, trace))
    is_same = bool(output) and choosing.same_words(output, sample.answer)
    match = vcrbench.match_answer(output, sample.answer, lambda: "1" if is_same else None)
    if match.judge_called and output and not is_same:
        return Verdict(output, "excluded", None)
    return letter_verdict(output, match.is_right)


# Figures


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DECIMALS)


def _by_group(judged: Iterable[Judged], *, kinds_only: bool = False) -> dict[str, float | None]:
    groups: dict[str, list[Verdict]] = {}
    for sample, verdict in judged:
        for name in (sample.kind,) if kinds_only else (sample.kind, *sample.groups):
            groups.setdefault(name, []).append(verdict)
    return {name: mean_share(members) for name, members in sorted(groups.items())}


def _figures(count: int, left_out: int, accuracy: float | None, by: dict[str, float | None]) -> Figures:
    return Figures(count, left_out, _rounded(accuracy), {name: _rounded(value) for name, value in by.items()})


def _counted(judged: Sequence[Judged]) -> int:
    return sum(verdict.share is not None for _, verdict in judged)


def _left_out(judged: Sequence[Judged]) -> int:
    return len(judged) - _counted(judged)


def _mean_of_all(judged: Sequence[Judged]) -> Figures:
    return _figures(_counted(judged), _left_out(judged), mean_share(verdict for _, verdict in judged), _by_group(judged))


def _mean_over_tasks(judged: Sequence[Judged]) -> Figures:
    by = _by_group(judged, kinds_only=True)
    tasks = [accuracy for accuracy in by.values() if accuracy is not None]
    return _figures(_counted(judged), _left_out(judged), sum(tasks) / len(tasks) if tasks else None, by)


def _figures_per_pair(judged: Sequence[Judged]) -> Figures:
    """Both accuracies overall and by type and difficulty, like the official tasks."""
    strata: dict[str, list[dict[str, str | int]]] = {}
    for sample, verdict in judged:
        if verdict.share is not None:
            result: dict[str, str | int] = {"qid": pair_of(sample), "score": int(verdict.share)}
            for name in ("all", *sample.groups):
                strata.setdefault(name, []).append(result)
    by: dict[str, float | None] = {}
    for name, results in sorted(strata.items()):
        accuracy = causalvqa.aggregate(results)
        by |= {f"{name}: single": accuracy.single / 100, f"{name}: paired": accuracy.paired / 100}
    count = len({result["qid"] for result in strata.get("all", ())})
    return _figures(count, _left_out(judged), by.get("all: paired"), by)


def items_of_three(answered: Iterable[Answered]) -> dict[str, tuple[egonormia.Best, egonormia.Sensible]]:
    """EgoNormia's items by name, each from its three questions. A question that was not asked counts as unanswered."""
    items: dict[str, dict[str, Answered]] = {}
    for sample, trace in answered:
        items.setdefault(sample.id.rpartition("/")[0], {})[sample.kind] = (sample, trace)
    return {name: _item_of_three(questions) for name, questions in items.items()}


def _item_of_three(questions: Mapping[str, Answered]) -> tuple[egonormia.Best, egonormia.Sensible]:
    output = {kind: _number_output(*one) for kind, one in questions.items()}
    best = egonormia.pick_best(output.get("behaviour"), output.get("justification"), -1)
    best = replace(best, correct=_right_places(questions))
    sensible = _right_numbers(questions["sensible"][0]) if "sensible" in questions else []
    return best, egonormia.pick_sensible(output.get("sensible"), sensible)


def _right_places(questions: Mapping[str, Answered]) -> tuple[int, int]:
    """The right index of behaviour and of justification. They are equal in the data: with duplicate options, the index that both share is used.

    In a run with shuffled options they differ.
    """
    places = [
        {at for at, choice in enumerate(questions[kind][0].choices) if choice == questions[kind][0].answer} if kind in questions else set()
        for kind in ("behaviour", "justification")
    ]
    behaviour, justification = (min((places[0] & places[1]) or own, default=-1) for own in places)
    return behaviour, justification


def _figures_per_item(answered: Sequence[Answered]) -> Figures:
    items = items_of_three(answered)
    saved = [(best, sensible) for best, sensible in items.values() if best.is_saved and sensible.is_saved]
    overlaps = [sensible.iou for _, sensible in saved if sensible.iou is not None]
    count = len(overlaps)  # the original counts an item after computing its overlap, which fails if both lists are empty
    sums = [sum(points) for points in zip(*(best.points for best, _ in saved), strict=True)] or [0, 0, 0]
    by = dict(zip(("behaviour", "justification", "both", "sensible"), (*sums, sum(overlaps)), strict=True))
    rates = {name: total / count if count else None for name, total in by.items()}
    return _figures(count, len(items) - count, rates["both"], rates)


# All of them


def _per_question(
    source: str,
    output: Callable[[Sample, Trace | None], str],
    judge: Callable[[Sample, Trace | None], Verdict],
    figures: Callable[[Sequence[Judged]], Figures] = _mean_of_all,
) -> Rule:
    return Rule(source, output, judge, lambda answered: figures([(sample, judge(sample, trace)) for sample, trace in answered]))


def _by_letter(
    source: str,
    form: str,
    verdict: Callable[[str, str], Verdict],
    *,
    gold_form: str = "{}",
    figures: Callable[[Sequence[Judged]], Figures] = _mean_of_all,
) -> Rule:
    """A scorer that reads one letter; `gold_form` is the gold answer's format in its file."""

    def output(sample: Sample, trace: Trace | None) -> str:
        return choosing.scorer_output(sample, trace, form)

    def judge(sample: Sample, trace: Trace | None) -> Verdict:
        if not sample.answer:  # not published
            return Verdict(None, "excluded", None)
        return verdict(output(sample, trace), gold_form.format(choosing.letter_of(sample, trace)))

    return _per_question(source, output, judge, figures)


RULES: dict[str, Rule] = {
    "video-mme": _by_letter(videomme.SOURCE, videomme.FORM, videomme.verdict),
    "videoespresso": _by_letter(videoespresso.SOURCE, videoespresso.FORM, videoespresso.verdict, gold_form="({})"),
    "vitib": _by_letter(vitib.SOURCE, vitib.FORM, vitib.verdict, gold_form="({})", figures=_mean_over_tasks),
    "causalvqa": _by_letter(causalvqa.SOURCE, causalvqa.FORM, causalvqa.verdict, figures=_figures_per_pair),
    "minerva": _by_letter(minerva.SOURCE, minerva.FORM, minerva.verdict),
    "egonormia": Rule(egonormia.SOURCE, _number_output, _judge_number, _figures_per_item),
    "vcr-bench": _per_question(vcrbench.SOURCE, _answer_output, _judge_answer),
}
"""Official rules by benchmark name."""
