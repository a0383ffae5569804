"""VCR-Bench: 1,034 questions of seven dimensions about 859 videos, answered by options, time intervals, boxes or free text."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypedDict

from act2see.benchmarks import choosing
from act2see.benchmarks.official import vcrbench as official
from act2see.benchmarks.reading import Findings, Record, collect, find_files, locate, select
from act2see.benchmarks.vcrbench_judge import Judge, response_of
from act2see.core.chat import letters
from act2see.core.errors import ConfigError, JudgeError
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.storage.codec import shown

FILES = ("meta_info_video.json", "*.json", "*.jsonl", "*.parquet")
FOLDERS = ("", "videos")
Form = Literal["options", "interval", "box", "open"]
"""Form of an answer: a letter, [start, stop] in seconds, [left, top, right, bottom], or free text that only a judge can compare."""
_INSTRUCTION: dict[Form, str] = {
    "options": "",
    "interval": "\nAnswer with its start and its end in seconds, such as [75, 90].",
    "box": "\nAnswer with the box's left, top, right and bottom as whole numbers, such as [10, 20, 110, 220].",
    "open": "",
}

_INTERVAL = re.compile(r"\[\s*\d{1,9}(?:\.\d{1,9})?\s*,\s*\d{1,9}(?:\.\d{1,9})?\s*\]")
_BOX = re.compile(r"\[\s*-?\d{1,9}\s*(?:,\s*-?\d{1,9}\s*){3}\]")


def form_of(sample: Sample) -> Form:
    """The form of this question's answer."""
    if sample.choices:
        return "options"
    return "interval" if _INTERVAL.fullmatch(sample.answer) else "box" if _BOX.fullmatch(sample.answer) else "open"


def list_in(answer: str | None, form: Form) -> str | None:
    """The single interval or box in an answer, verbatim; None if there is none or more than one."""
    found = (_INTERVAL if form == "interval" else _BOX).findall(answer or "")
    return found[0] if len(found) == 1 else None


def sample_of(record: Record, root: Path) -> Sample:
    """The question in one record. Raises `ConfigError`."""
    answer, question = record.text("answer"), record.text("question")
    options = _options(record.values.get("choices"))
    is_choice = record.value("multiple-choice", "multiple_choice")
    if not isinstance(is_choice, bool):
        raise ConfigError(f"multiple-choice is {shown(is_choice)}, expected true or false")
    if is_choice:
        choosing.check_option_count(options, *range(2, 10))
        answer = options[choosing.right_index(answer, len(options))]
        question = _without_options(question, options)
    seconds = record.value("duration")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise ConfigError(f"duration is {shown(seconds)}, expected a number of seconds")
    made = Sample(
        id=record.text("id"),
        video=locate(root, record.text("video_path"), folders=FOLDERS),
        question=question,
        choices=options if is_choice else (),
        answer=answer,
        kind=record.text("dimension"),
        groups=(f"duration: {official.duration_group(seconds)} s",),
        reasoning="\n".join(record.texts("reasoning")),
    )
    form = form_of(made)
    return replace(made, question=question + ("" if "[" in question else _INSTRUCTION[form]), groups=(*made.groups, f"answer: {form}"))


def _options(choices: object) -> tuple[str, ...]:
    """The options in order of their letters, up to the last non-empty one."""
    if choices is None:
        return ()
    if not isinstance(choices, dict) or not all(value is None or isinstance(value, str) for value in choices.values()):
        raise ConfigError(f"choices is {shown(choices)}, expected an object of texts")
    options = [(choices.get(letter) or "").strip() for letter in letters(26)]
    count = max((number for number, option in enumerate(options, start=1) if option), default=0)
    return tuple(options[:count])


def _without_options(question: str, options: tuple[str, ...]) -> str:
    """The question without the options that the official file appends to it."""
    parts = [rf"{letter}\s*[.:)]\s*{re.escape(option)}" for letter, option in zip(letters(len(options)), options, strict=True)]
    match = re.search(r"\s*".join(["", *parts, r"\Z"]), question)
    return question[: match.start()].rstrip() if match and match.start() else question


@dataclass(frozen=True, slots=True)
class Judged:
    """Results of the four judge calls about one answer, in the official fields; missing ones are left out."""

    fields: Mapping[str, official.Field]
    error: str | None = None
    """Why a result is missing, in one line that starts with `judge error`; None if complete."""


class JudgedFigures(TypedDict):
    """The official figures with a judge, as summary.json stores them."""

    n: int
    """Answers that the judge could score."""
    judge: str | None
    judge_errors: int
    accuracy: official.AccuracyFigures
    reasoning: dict[str, dict[str, float]]
    """Precision, recall and F1 by type of step."""


@dataclass(frozen=True, slots=True)
class VCRBench:
    """Reads `meta_info_video.json` and its videos.

    With a judge, it compares open answers, and `figures` returns the official accuracy and reasoning scores. Without one, an open answer is right if
    it equals the file's up to case and whitespace, and otherwise undecided.
    """

    data: Path
    count: int | None = None
    judge: Judge | None = None
    name: str = "vcr-bench"

    def samples(self) -> Iterator[Sample]:
        """The questions in the file's order, or `count` evenly spaced ones. Raises `ConfigError` for invalid data."""
        return select(self, self.count)

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right option, overlaps enough, or equals the gold answer; None if it is ambiguous or undecided."""
        form = form_of(sample)
        if form == "options" or trace.answer is None:
            return choosing.is_right(sample, trace)
        if form == "open":
            return self._equals_gold(sample, trace.answer)
        match = official.match_answer(list_in(trace.answer, form) or "", sample.answer, lambda: None)
        return None if match.judge_called else match.is_right

    def read(self, found: Findings) -> list[Sample]:
        """All valid questions; problems with other records are added to `found`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [sample_of(record, root)], found)

    def judged(self, sample: Sample, trace: Trace) -> Judged:
        """The judge's verdicts on one answer and its reasoning, from four judge calls. Raises `ConfigError` without a judge."""
        if self.judge is None:
            raise ConfigError("no judge configured: pass one with --answer-judge")
        found: dict[str, official.Field] = {"dimension": sample.kind, "duration": _duration_bound(sample)}
        question, response, gold = plain_question(sample), response_of(trace), _official_answer(sample)
        steps = self.judge.steps_as_text(sample.reasoning or "")
        try:
            found["extract_answer"] = extracted = self.judge.extract(question, response)
            compare = partial(self.judge.compare, question, extracted, gold)
            found["answer_scoring"] = official.match_answer(extracted, gold, compare).scoring
            found |= self.judge.recall(question, gold, response, steps, official.recall)
            found |= self.judge.precision(question, response, steps, official.precision)
        except JudgeError as error:
            return Judged(found, str(error))
        return Judged(found)

    def figures(self, answered: Iterable[tuple[Sample, Trace | None]]) -> JudgedFigures:
        """The official figures by this judge: accuracy, and precision, recall and F1 of the reasoning.

        As in the official scripts, answers that the judge failed on are excluded and counted in `judge_errors`; a question without a trace is wrong.
        """
        judged = [Judged(_unanswered(sample)) if trace is None else self.judged(sample, trace) for sample, trace in answered]
        counted = [one.fields for one in judged if one.error is None]
        return {
            "n": len(counted),
            "judge": self.judge.name if self.judge else None,
            "judge_errors": len(judged) - len(counted),
            "accuracy": official.accuracy_figures(counted),
            "reasoning": official.cot_figures(counted),
        }

    def _equals_gold(self, sample: Sample, answer: str) -> bool | None:
        if choosing.same_words(answer, sample.answer):
            return True
        if self.judge is None or not answer:
            return None
        return self.judge.agrees(sample.question, answer, sample.answer)


def plain_question(sample: Sample) -> str:
    """The question as in the data set: with its options, without our instruction on the answer's form."""
    question = sample.question.removesuffix(_INSTRUCTION[form_of(sample)])
    options = [f"{letter}. {choice}" for letter, choice in zip(letters(len(sample.choices)), sample.choices, strict=True)]
    return "\n".join([question, *options])


def _official_answer(sample: Sample) -> str:
    return choosing.letter_of(sample) if sample.choices else sample.answer


def _duration_bound(sample: Sample) -> float:
    """Upper bound of the sample's duration group: the official figures use a video's length only for its group."""
    return official.DURATIONS[sample.groups[0].removeprefix("duration: ").removesuffix(" s")]


def _unanswered(sample: Sample) -> dict[str, official.Field]:
    return {"dimension": sample.kind, "duration": _duration_bound(sample), "answer_scoring": "0"}
