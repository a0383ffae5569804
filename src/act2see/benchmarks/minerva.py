"""MINERVA: 1,515 five-option questions about YouTube videos, with human-written reasoning."""

import re
from dataclasses import dataclass
from pathlib import Path

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, collect, find_files, locate
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.storage.codec import shown

FILES = ("minerva.json", "minerva*.json", "*.json", "*.jsonl", "*.parquet")
FOLDERS, ENDINGS = ("videos", "video", "data", ""), (".mp4", ".webm", ".mkv", ".mov")
OPTIONS = 5

_ADDRESS = re.compile(
    r"https?://(?:[\w-]+\.)*(?:youtube(?:-nocookie)?\.com/(?:watch\?(?:\S*&)?v=|embed/|shorts/|live/)|youtu\.be/)([\w-]{6,20})(?:[?&#/]\S*)?"
)


@dataclass(frozen=True, slots=True)
class Minerva(choosing.OneRightChoice):
    """Reads `minerva.json` and videos named by their YouTube ids. A URL in it is parsed for its id and never opened.

    There is no official scorer. Questions are reported by split, and grouped by each of their types.
    """

    name: str = "minerva"

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [_sample(record, root, found)], found)


def _sample(record: Record, root: Path, found: Findings) -> Sample:
    options = tuple(record.text(f"answer_choice_{number}") for number in range(OPTIONS))
    right = choosing.checked_index(record.integer("answer_id"), OPTIONS)
    if record.has("answer") and not choosing.same_words(record.text("answer"), options[right]):
        found.note(record.where, "the answer differs from the choice at answer_id: answer_id is used")
    types = [part.strip() for part in record.text("question_type", "question type").split(",") if part.strip()]
    groups = [f"type: {one}" for one in types] + ([f"category: {record.text('category')}"] if record.has("category") else [])
    return Sample(
        id=record.text("key"),
        video=locate(root, _video(record.text("video_id", "video_url")), folders=FOLDERS, endings=ENDINGS),
        question=record.text("question"),
        choices=options,
        answer=options[right],
        kind=record.text("split"),
        groups=tuple(dict.fromkeys(groups)),
        reasoning=record.text("reasoning") if record.has("reasoning") else None,
    )


def _video(name: str) -> str:
    """The YouTube id, from an id or a URL."""
    if "://" not in name:
        return name
    match = _ADDRESS.fullmatch(name)
    if match is None:
        raise ConfigError(f"video_id is {shown(name)}, expected a YouTube id or URL")
    return match.group(1)
