"""EgoNormia: what a person should do next, and why, in 1,853 egocentric clips. Three questions per item."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, collect, find_files, locate, select
from act2see.core.chat import chosen
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.storage.codec import shown

FILES = ("final_data.json", "*.parquet", "*.json", "*.jsonl")
FOLDERS = ("video", "videos", "")
ENDINGS = ("/video_prev.mp4", ".mp4")
"""The clip up to the decision. The Hub also has the continuation, which would reveal the answer."""
OPTIONS = 5
NONE = "None"
"""Text of an empty option, which means that nothing fits. It is not always the last."""
PARTS = ("behaviour", "justification", "sensible")

_LIST = re.compile(r"\[?\s*(\d+(?:\s*,\s*\d+)*)?\s*,?\s*\]?")


@dataclass(frozen=True, slots=True)
class EgoNormia:
    """Reads the repository's JSON or the Hub's table, and for each clip a folder with its `video_prev.mp4`.

    The official scripts ask the model to justify the behaviour that it chose itself. With `given="own"`, `after` and `given_answer` implement this,
    if the caller uses them; with `given="right"` the question contains the right behaviour, so that all three can be asked in any order. Scores of
    the two settings are not comparable.
    """

    data: Path
    count: int | None = None
    given: Literal["right", "own"] = "right"
    name: str = "egonormia"

    def samples(self) -> Iterator[Sample]:
        """The questions, grouped by item, or `count` evenly spaced ones. Raises `ConfigError` for invalid data."""
        return select(self, self.count, per_record=len(PARTS))

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right option, or exactly the sensible ones; None if it is ambiguous."""
        if sample.kind != "sensible":
            return choosing.is_right(sample, trace)
        numbers = listed(trace.answer)
        return None if numbers is None else numbers == listed(sample.answer)

    def after(self, sample: Sample) -> str | None:
        """The id of the question whose answer this one quotes, if any."""
        if self.given == "right" or sample.kind != "justification":
            return None
        return f"{sample.id.removesuffix('/justification')}/behaviour"

    def given_answer(self, sample: Sample, trace: Trace | None) -> Sample:
        """The question with the answer to the previous one filled in; an ambiguous answer becomes "None"."""
        index = None if trace is None else chosen(trace.answer, trace.choices)
        behaviour = NONE if trace is None or index is None else trace.choices[index]
        return replace(sample, question=_why(behaviour))

    def read(self, found: Findings) -> list[Sample]:
        """All valid questions; problems with other records are added to `found`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: _samples(record, root), found)


def listed(answer: str | None) -> frozenset[int] | None:
    """The numbers of an answer that is only a list, such as `[1, 3]`, `1, 3`, `[]` or `None`; None for any other answer."""
    if answer is None:
        return None
    text = answer.strip().rstrip(".").strip()
    if text.casefold() == NONE.casefold():
        return frozenset()
    match = _LIST.fullmatch(text)
    if match is None or not text or text.startswith("[") != text.endswith("]"):
        return None
    numbers = frozenset(int(number) for number in re.findall(r"\d+", match.group(1) or ""))
    return numbers if all(1 <= number <= OPTIONS for number in numbers) else None


def _samples(record: Record, root: Path) -> Iterator[Sample]:
    name = record.text("id") if record.key is None or record.has("id") else record.key
    behaviours, justifications = (record.texts(field, empty=NONE) for field in ("behaviors", "justifications"))
    for what, options in (("behaviors", behaviours), ("justifications", justifications)):
        if len(options) != OPTIONS:
            raise ConfigError(f"got {len(options)} {what}, expected {OPTIONS}")
    right, sensible = record.integer("correct", "correct_idx"), record.integers("sensibles", "sensible_idx")
    for index in (right, *sensible):
        choosing.checked_index(index, OPTIONS)
    video = locate(root, name, folders=FOLDERS, endings=ENDINGS)
    groups = _norms(record, right)
    yield Sample(f"{name}/behaviour", video, _what(), behaviours, behaviours[right], "behaviour", groups)
    yield Sample(f"{name}/justification", video, _why(behaviours[right]), justifications, justifications[right], "justification", groups)
    numbers = ", ".join(str(index + 1) for index in sorted(set(sensible)))
    yield Sample(f"{name}/sensible", video, _which(behaviours), (), f"[{numbers}]", "sensible", groups)


def _norms(record: Record, right: int) -> tuple[str, ...]:
    """The kinds of norms that the right behaviour follows, if the file has them."""
    taxonomy = record.values.get("taxonomy")
    if taxonomy is None:
        return ()
    named = taxonomy.get(str(right)) if isinstance(taxonomy, dict) else taxonomy
    if named is not None and not (isinstance(named, list) and all(isinstance(one, str) for one in named)):
        raise ConfigError(f"taxonomy is {shown(taxonomy)}, expected lists of texts")
    return tuple(dict.fromkeys(f"norm: {one}" for one in named or ()))


# The questions, in our own wording


def _what() -> str:
    return (
        "The video is seen through the eyes of a person. What is the most fitting thing for that person to do next, by the norms that people share? "
        f'Choose "{NONE}" only if nothing else would be fitting at all.'
    )


def _why(behaviour: str) -> str:
    return (
        f'The video is seen through the eyes of a person. Of what that person could do next, this was chosen: "{behaviour}". '
        f'Which reason supports it best, by the norms that people share? Choose "{NONE}" only if no reason fits.'
    )


def _which(behaviours: Sequence[str]) -> str:
    numbered = "\n".join(f"{number}. {behaviour}" for number, behaviour in enumerate(behaviours, start=1))
    return (
        "The video is seen through the eyes of a person. Which of these would be sensible to do next, by the norms that people share? "
        f"Answer with the list of their numbers, such as [2, 5], or [] if none would be.\n{numbered}"
    )
