"""CausalVQA: cause and effect in real videos. Each question is asked twice, with its choices paraphrased and reordered."""

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
"""The debug set first: the answers of the test set are not published."""
FOLDERS = ("videos", "debug/videos", "test/videos", "")
SIDES = (1, 2)

_CHOICE = re.compile(r"\s*(\d)\s*[.):]\s*(.*\S)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CausalVQA(choosing.OneRightChoice):
    """Reads the CSV of the debug set or the test set, and the folder `videos` beside it.

    The test set's answers are not published: its questions can be asked, but no answer counts as right.
    """

    name: str = "causalvqa"
    per_record: ClassVar[int] = len(SIDES)

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [_sample(record, side, root, found) for side in SIDES], found)


def pair_of(sample: Sample) -> str:
    """The id that both questions of a pair share."""
    return sample.id.rpartition("/")[0]


def _sample(record: Record, side: int, root: Path, found: Findings) -> Sample:
    choices = _choices(record.text(f"choices{side}"))
    answer = ""
    if record.has(f"correct{side}"):
        right = str(as_integer(record.value(f"correct{side}"), f"correct{side}"))
        if right not in choices:
            raise ConfigError(f"the answer {right} is not one of the choices {', '.join(choices)}")
        answer = choices[right]
    else:
        record.value(f"correct{side}")
        found.note(record.where, "the answer is not published: the question can be asked, but no answer counts as right")
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


def _choices(field: str) -> dict[str, str]:
    """The choices by number, in the file's order: `1. It falls|2. It stays`."""
    choices: dict[str, str] = {}
    for part in field.split("|"):
        match = _CHOICE.fullmatch(part)
        if match is None:
            raise ConfigError(f"the choice {shown(part)} has no number: expected `1. text|2. text`")
        number, text = match.groups()
        if number in choices:
            raise ConfigError(f"duplicate choice {number}")
        choices[number] = text
    choosing.check_option_count(tuple(choices.values()), 2, 3, 4, 5)
    return choices
