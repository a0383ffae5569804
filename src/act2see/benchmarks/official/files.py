"""The file that an official script takes, of a run's answers. Only what the script reads is in it, beside the ids: questions are not passed on."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from act2see.benchmarks import choosing
from act2see.benchmarks.official.rules import RULES, Answered, items_of_three
from act2see.benchmarks.official.vcrbench import DURATIONS
from act2see.benchmarks.vcrbench import plain_question
from act2see.benchmarks.vcrbench_judge import response_of
from act2see.core.chat import letters
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample

_WITHOUT_SCRIPT = {
    "causalvqa": "its scorer runs inside lmms-eval, together with the model, and takes no file of answers",
    "minerva": "it has no official scorer",
    "social-genome": "its makers score a pickle of answers and steps, which act2see does not write",
}


def official_file(benchmark: str, answered: Sequence[Answered], model: str) -> str:
    """The text of the file. `model` is the name that EgoNormia's script reports the answers under.

    Raises `ConfigError` for a benchmark whose official script takes no file.
    """
    if benchmark not in _WRITERS:
        why = _WITHOUT_SCRIPT.get(benchmark, "it has no official scorer")
        raise ConfigError(f"benchmark {benchmark!r} has no official file of answers: {why}; those that have are {', '.join(_WRITERS)}")
    return _WRITERS[benchmark](answered, model)


def _video_mme(answered: Sequence[Answered], _: str) -> str:
    """A list of videos, each with its questions. The script wants 300 videos of each length that it is asked for."""
    videos: dict[str, dict[str, Any]] = {}
    for sample, trace in answered:
        name = sample.id.rpartition("-")[0] or sample.id
        about = {"video_id": name, "duration": _group(sample, "duration"), "domain": _group(sample, "domain")}
        video = videos.setdefault(name, {**about, "sub_category": _group(sample, "sub-category"), "missing": False, "questions": []})
        right, response = choosing.letter_of(sample, trace), RULES["video-mme"].said(sample, trace)
        video["questions"].append({"question_id": sample.id, "task_type": sample.kind, "answer": right, "response": response})
    return _json(list(videos.values()))


def _with_output(name: str, answered: Sequence[Answered]) -> list[dict[str, str]]:
    said = RULES[name].said
    return [
        {"id": sample.id, "task": sample.kind, "correct_answer": f"({choosing.letter_of(sample, trace)})", "model_output": said(sample, trace)}
        for sample, trace in answered
    ]


def _videoespresso(answered: Sequence[Answered], _: str) -> str:
    return _json(_with_output("videoespresso", answered))


def _vitib(answered: Sequence[Answered], _: str) -> str:
    return "".join(json.dumps(one) + "\n" for one in _with_output("vitib", answered))


def _egonormia(answered: Sequence[Answered], model: str) -> str:
    """As the official evaluation saves it: an item that could not be read stays in the file without the model's answers."""
    items: dict[str, dict[str, Any]] = {}
    for name, (best, sensible) in items_of_three(answered).items():
        found = {
            "best": {"results": best.results, "correct": best.correct},
            "sensible": {"results": sensible.results, "correct": sensible.correct},
            "followed": {},
        }
        items[name] = {model: found} if best.is_saved and sensible.is_saved else {}
    return _json(items)


def _vcr_bench(answered: Sequence[Answered], _: str) -> str:
    """What the official judging takes: everything that the model wrote, since the steps on the way are judged too.

    Of a video's length only its group is known here; the longest of the group stands for it.
    """
    return _json([_vcr_item(sample, "" if trace is None else response_of(trace)) for sample, trace in answered])


def _vcr_item(sample: Sample, response: str) -> dict[str, Any]:
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
    """The value of one of a sample's groups, which are written `name: value`."""
    return next((group.removeprefix(f"{name}: ") for group in sample.groups if group.startswith(f"{name}: ")), "")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


_WRITERS: dict[str, Callable[[Sequence[Answered], str], str]] = {
    "video-mme": _video_mme,
    "videoespresso": _videoespresso,
    "vitib": _vitib,
    "egonormia": _egonormia,
    "vcr-bench": _vcr_bench,
}
