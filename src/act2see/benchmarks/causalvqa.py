"""CausalVQA: causes and effects in real videos. Each question is asked twice, with its choices in other words and another order."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, as_integer, collect, find_files, locate
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.storage.codec import shown

FILES = ("debug/*.csv", "*debug*.csv", "test/*.csv", "*.csv")
"""The questions with answers first: those of the test set are kept by its makers."""
FOLDERS = ("videos", "debug/videos", "test/videos", "")
SIDES = (1, 2)

_CHOICE = re.compile(r"\s*(\d)\s*[.):]\s*(.*\S)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CausalVQA(choosing.OneRightChoice):
    """The CSV of the debug set or the test set, and the folder `videos` beside it.

    The test set's answers are not published: its questions can be asked, and none counts as right.
    """

    name: str = "causalvqa"
    together: ClassVar[int] = len(SIDES)

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [_sample(record, side, root, found) for side in SIDES], found)


def pair_of(sample: Sample) -> str:
    """What both questions of a pair share."""
    return sample.id.rpartition("/")[0]


def _sample(record: Record, side: int, root: Path, found: Findings) -> Sample:
    choices = _choices(record.text(f"choices{side}"))
    answer = ""
    if record.has(f"correct{side}"):
        right = str(as_integer(record.value(f"correct{side}"), f"correct{side}"))
        if right not in choices:
            raise ConfigError(f"the answer {right} is not among the choices {', '.join(choices)}")
        answer = choices[right]
    else:
        record.value(f"correct{side}")
        found.note(record.where, "the answer is kept by the data set's makers: the question can be asked, and never counts as right")
    kind, difficulty = record.text("type").lower(), record.text("difficulty").lower()
    return Sample(
        id=f"{record.text('qid')}/{side}",
        video=locate(root, record.text("renamed_video"), folders=FOLDERS),
        question=record.text("question"),
        choices=tuple(choices.values()),
        answer=answer,
        kind=kind,
        groups=(f"difficulty: {difficulty}", f"{kind}, {difficulty}"),
    )


def _choices(text: str) -> dict[str, str]:
    """The choices by the numbers that the file gives them, in its order: `1. It falls|2. It stays`."""
    choices: dict[str, str] = {}
    for part in text.split("|"):
        match = _CHOICE.fullmatch(part)
        if match is None:
            raise ConfigError(f"the choice {shown(part)} has no number: `1. text|2. text` is expected")
        number, said = match.groups()
        if number in choices:
            raise ConfigError(f"the choice {number} is there twice")
        choices[number] = said
    choosing.refuse_count(tuple(choices.values()), 2, 3, 4, 5)
    return choices
