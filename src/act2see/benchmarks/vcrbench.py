"""VCR-Bench: 1,034 questions of seven dimensions about 859 videos: options, stretches of time, boxes in the picture, and open ones."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from act2see.benchmarks import choosing
from act2see.benchmarks.official import vcrbench as official
from act2see.benchmarks.reading import Findings, Record, asked, collect, find_files, locate
from act2see.benchmarks.vcrbench_judge import Judge, response_of
from act2see.core.chat import letters
from act2see.core.errors import ConfigError, JudgeError
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.storage.codec import shown

FILES = ("meta_info_video.json", "*.json", "*.jsonl", "*.parquet")
FOLDERS = ("", "videos")
Form = Literal["options", "interval", "box", "open"]
"""What an answer to a question is: a letter, [start, stop] in seconds, [left, top, right, bottom], or words that only a judge can compare."""
_ASKED: dict[Form, str] = {
    "options": "",
    "interval": "\nAnswer with its start and its end in seconds, such as [75, 90].",
    "box": "\nAnswer with the box's left, top, right and bottom as whole numbers, such as [10, 20, 110, 220].",
    "open": "",
}

_INTERVAL = re.compile(r"\[\s*\d{1,9}(?:\.\d{1,9})?\s*,\s*\d{1,9}(?:\.\d{1,9})?\s*\]")
_BOX = re.compile(r"\[\s*-?\d{1,9}\s*(?:,\s*-?\d{1,9}\s*){3}\]")


def form_of(sample: Sample) -> Form:
    """What an answer to this question is."""
    if sample.choices:
        return "options"
    return "interval" if _INTERVAL.fullmatch(sample.answer) else "box" if _BOX.fullmatch(sample.answer) else "open"


def list_in(answer: str | None, form: Form) -> str | None:
    """The one list of the form's kind that an answer holds, as it is written; None where there is none, or more than one."""
    found = (_INTERVAL if form == "interval" else _BOX).findall(answer or "")
    return found[0] if len(found) == 1 else None


def sample_of(record: Record, root: Path) -> Sample:
    """The question in one record. Raises `ConfigError`."""
    answer, question = record.text("answer"), record.text("question")
    options = _options(record.values.get("choices"))
    is_choice = record.value("multiple-choice", "multiple_choice")
    if not isinstance(is_choice, bool):
        raise ConfigError(f"multiple-choice is {shown(is_choice)} where true or false is expected")
    if is_choice:
        choosing.refuse_count(options, *range(2, 10))
        answer = options[choosing.right_index(answer, len(options))]
        question = _without_options(question, options)
    seconds = record.value("duration")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not seconds > 0:
        raise ConfigError(f"duration is {shown(seconds)} where a number of seconds is expected")
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
    return replace(made, question=question + ("" if "[" in question else _ASKED[form]), groups=(*made.groups, f"answer: {form}"))


def _options(choices: Any) -> tuple[str, ...]:
    """The options in order of their letters, up to the last that is not empty."""
    if choices is None:
        return ()
    if not isinstance(choices, dict) or not all(value is None or isinstance(value, str) for value in choices.values()):
        raise ConfigError(f"choices is {shown(choices)} where an object of texts is expected")
    options = [(choices.get(letter) or "").strip() for letter in letters(26)]
    count = max((number for number, option in enumerate(options, start=1) if option), default=0)
    return tuple(options[:count])


def _without_options(question: str, options: tuple[str, ...]) -> str:
    """The question without the options, which the official file writes behind it as well."""
    parts = [rf"{letter}\s*[.:)]\s*{re.escape(option)}" for letter, option in zip(letters(len(options)), options, strict=True)]
    match = re.search(r"\s*".join(["", *parts, r"\Z"]), question)
    return question[: match.start()].rstrip() if match and match.start() else question


@dataclass(frozen=True, slots=True)
class Judged:
    """What the four questions to the judge brought about one answer, in the fields of the official results; what could not be had is not in them."""

    fields: Mapping[str, Any]
    error: str | None = None
    """Why something is missing, in one line that begins with `judge error`; None where nothing is."""


@dataclass(frozen=True, slots=True)
class VCRBench:
    """`meta_info_video.json` and the videos that it names.

    With a judge, open answers are compared by it, and `figures` gives the official accuracy and the scores of the reasoning. Without one, an open
    answer is right where it says the same words as the file, and nothing else is known of it.
    """

    data: Path
    count: int | None = None
    judge: Judge | None = None
    name: str = "vcr-bench"

    def samples(self) -> Iterator[Sample]:
        """The questions, in the file's order; `count` of them are spread evenly over it. Raises `ConfigError` for a file with a fault."""
        return asked(self, self.count)

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right option, overlaps enough, or says the same; None when that is not sure, or the judge cannot tell."""
        form = form_of(sample)
        if form == "options" or trace.answer is None:
            return choosing.is_right(sample, trace)
        if form == "open":
            return self._says_the_same(sample, trace.answer)
        match = official.match_answer(list_in(trace.answer, form) or "", sample.answer, lambda: None)
        return None if match.judge_called else match.is_right

    def read(self, found: Findings) -> list[Sample]:
        """Every question that can be asked; what keeps others from being asked goes to `found`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [sample_of(record, root)], found)

    def judged(self, sample: Sample, trace: Trace) -> Judged:
        """The judge's word on one answer and on the reasoning before it, by four bounded questions. Raises `ConfigError` without a judge."""
        if self.judge is None:
            raise ConfigError("nothing is judged without a judge: name one with --answer-judge")
        found: dict[str, Any] = {"dimension": sample.kind, "duration": _longest_of(sample)}
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

    def figures(self, answered: Iterable[tuple[Sample, Trace | None]]) -> dict[str, Any]:
        """The official figures by this judge: accuracy, and precision, recall and F1 of the reasoning.

        As in the official scripts, what the judge failed on is in no denominator, which `judge_errors` counts; a question without a trace is wrong.
        """
        judged = [Judged(_silent(sample)) if trace is None else self.judged(sample, trace) for sample, trace in answered]
        counted = [one.fields for one in judged if one.error is None]
        return {
            "n": len(counted),
            "judge": self.judge.name if self.judge else None,
            "judge_errors": len(judged) - len(counted),
            "accuracy": official.accuracy_figures(counted),
            "reasoning": official.cot_figures(counted),
        }

    def _says_the_same(self, sample: Sample, answer: str) -> bool | None:
        if choosing.same_words(answer, sample.answer):
            return True
        if self.judge is None or not answer:
            return None
        return self.judge.says_the_same(sample.question, answer, sample.answer)


def plain_question(sample: Sample) -> str:
    """The question as the data set writes it: with its options, and without what we ask of the answer's form."""
    question = sample.question.removesuffix(_ASKED[form_of(sample)])
    options = [f"{letter}. {choice}" for letter, choice in zip(letters(len(sample.choices)), sample.choices, strict=True)]
    return "\n".join([question, *options])


def _official_answer(sample: Sample) -> str:
    return choosing.letter_of(sample) if sample.choices else sample.answer


def _longest_of(sample: Sample) -> float:
    """The longest video of the sample's group by length: the official figures need no more of a video's length than its group."""
    return official.DURATIONS[sample.groups[0].removeprefix("duration: ").removesuffix(" s")]


def _silent(sample: Sample) -> dict[str, Any]:
    return {"dimension": sample.kind, "duration": _longest_of(sample), "answer_scoring": "0"}
