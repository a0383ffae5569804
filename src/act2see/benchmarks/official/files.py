"""Writes a run's answers in the input format of an official script: ids and the fields that it reads, without redistributing questions."""

import json
from collections.abc import Callable, Sequence
from typing import TypedDict

from act2see.benchmarks import choosing
from act2see.benchmarks.official.rules import RULES, Answered, items_of_three
from act2see.benchmarks.official.vcrbench import DURATIONS
from act2see.benchmarks.vcrbench import plain_question
from act2see.benchmarks.vcrbench_judge import response_of
from act2see.core.chat import letters
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.storage.runs import JSON

_WITHOUT_SCRIPT = {
    "causalvqa": "its scorer runs inside lmms-eval together with the model and has no input file",
    "minerva": "it has no official scorer",
    "social-genome": "its authors score a pickle of answers and steps, which act2see does not write",
}


class _Video(TypedDict):
    """A video in Video-MME's results."""

    video_id: str
    duration: str
    domain: str
    sub_category: str
    missing: bool
    questions: list[dict[str, str]]


def official_file(benchmark: str, answered: Sequence[Answered], model: str) -> str:
    """The content of the file. `model` is the name under which EgoNormia's script reports the answers.

    Raises `ConfigError` for a benchmark whose official script has no input file.
    """
    if benchmark not in _WRITERS:
        why = _WITHOUT_SCRIPT.get(benchmark, "it has no official scorer")
        raise ConfigError(f"benchmark {benchmark!r} has no official answer file: {why}; available for {', '.join(_WRITERS)}")
    return _WRITERS[benchmark](answered, model)


def _video_mme(answered: Sequence[Answered], _: str) -> str:
    """A list of videos, each with its questions. The script expects 300 videos of each requested duration."""
    videos: dict[str, _Video] = {}
    for sample, trace in answered:
        name = sample.id.rpartition("-")[0] or sample.id
        video = videos.setdefault(
            name,
            {
                "video_id": name,
                "duration": _group(sample, "duration"),
                "domain": _group(sample, "domain"),
                "sub_category": _group(sample, "sub-category"),
                "missing": False,
                "questions": [],
            },
        )
        right, response = choosing.letter_of(sample, trace), RULES["video-mme"].output(sample, trace)
        video["questions"].append({"question_id": sample.id, "task_type": sample.kind, "answer": right, "response": response})
    return _json(list(videos.values()))


def _with_output(name: str, answered: Sequence[Answered]) -> list[dict[str, str]]:
    output = RULES[name].output
    return [
        {"id": sample.id, "task": sample.kind, "correct_answer": f"({choosing.letter_of(sample, trace)})", "model_output": output(sample, trace)}
        for sample, trace in answered
    ]


def _videoespresso(answered: Sequence[Answered], _: str) -> str:
    return _json(_with_output("videoespresso", answered))


def _vitib(answered: Sequence[Answered], _: str) -> str:
    return "".join(json.dumps(one) + "\n" for one in _with_output("vitib", answered))


def _egonormia(answered: Sequence[Answered], model: str) -> str:
    """As the official evaluation saves it: an unreadable item stays in the file without the model's answers."""
    items: dict[str, dict[str, JSON]] = {}
    for name, (best, sensible) in items_of_three(answered).items():
        found: dict[str, JSON] = {
            "best": {"results": best.results, "correct": best.correct},
            "sensible": {"results": sensible.results, "correct": sensible.correct},
            "followed": {},
        }
        items[name] = {model: found} if best.is_saved and sensible.is_saved else {}
    return _json(items)


def _vcr_bench(answered: Sequence[Answered], _: str) -> str:
    """Input of the official judging: the model's full response, since its reasoning steps are judged too.

    Only the group of a video's duration is known here; the group's upper bound is written.
    """
    return _json([_vcr_item(sample, "" if trace is None else response_of(trace)) for sample, trace in answered])


def _vcr_item(sample: Sample, response: str) -> dict[str, JSON]:
    options = dict(zip(letters(len(sample.choices)), sample.choices, strict=True))
    longest = DURATIONS[_group(sample, "duration").removesuffix(" s")]
    return {
        "id": int(sample.id) if sample.id.isdecimal() else sample.id,
        "dimension": sample.kind,
        "duration": min(longest, DURATIONS["60-300"] + 1),
        "question": plain_question(sample),
        "multiple-choice": bool(options),
        "choices": options,
        "answer": choosing.letter_of(sample) if options else sample.answer,
        "reasoning": (sample.reasoning or "").split("\n"),
        "response": response,
    }


def _group(sample: Sample, name: str) -> str:
    """The value of one of a sample's groups, which have the form `name: value`."""
    return next((group.removeprefix(f"{name}: ") for group in sample.groups if group.startswith(f"{name}: ")), "")


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"


_WRITERS: dict[str, Callable[[Sequence[Answered], str], str]] = {
    "video-mme": _video_mme,
    "videoespresso": _videoespresso,
    "vitib": _vitib,
    "egonormia": _egonormia,
    "vcr-bench": _vcr_bench,
}
