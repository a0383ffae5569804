"""Our JSON lines format for any data set. `docs/benchmarks.md` describes the fields; others are rejected."""

from dataclasses import dataclass
from pathlib import Path

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, collect, find_files, locate
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.storage.codec import MAX_CHOICES, shown

FILES = ("questions.jsonl", "*.jsonl")
FIELDS = ("id", "video", "question", "choices", "answer", "reasoning", "source", "licence")
NEEDED = ("id", "video", "question", "answer")


@dataclass(frozen=True, slots=True)
class JsonLines(choosing.OneRightChoice):
    """Reads a file with one question per line, and videos at paths relative to the file.

    An open question (no choices) is right if the answer equals the file's up to case and whitespace; any other answer is left undecided.
    """

    name: str = "jsonl"

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right choice, or equals the open answer; None if undecided."""
        if sample.choices:
            return choosing.is_right(sample, trace)
        return True if trace.answer is not None and choosing.same_words(trace.answer, sample.answer) else None

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [_sample(record, root)], found)


def _sample(record: Record, root: Path) -> Sample:
    for name in record.values:
        if name not in FIELDS:
            raise ConfigError(f"unknown field {shown(name)}; allowed are {', '.join(FIELDS)}")
    for name in NEEDED:
        record.text(name)
    choices = record.texts("choices") if record.has("choices") and record.values["choices"] != [] else ()
    answer = record.text("answer")
    if choices and not 2 <= len(choices) <= MAX_CHOICES:
        raise ConfigError(f"got {len(choices)} choices, expected 2 to {MAX_CHOICES}, or none for an open question")
    if len({choice.casefold() for choice in choices}) < len(choices):
        raise ConfigError(f"duplicate choice: {shown(list(choices))}")
    if choices and answer not in choices:
        raise ConfigError(f"the answer {shown(answer)} is not one of the choices {shown(list(choices))}: write the full text of a choice")
    return Sample(
        id=record.text("id"),
        video=locate(root, record.text("video")),
        question=record.text("question"),
        choices=choices,
        answer=answer,
        kind=record.text("source") if record.has("source") else "questions",
        reasoning=record.text("reasoning") if record.has("reasoning") else None,
        licence=record.text("licence") if record.has("licence") else None,
    )
