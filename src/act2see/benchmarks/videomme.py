"""Video-MME: 2,700 four-option questions about 900 videos, with or without subtitles."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, check_inside, collect, find_files, locate
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.storage.codec import shown
from act2see.video.transcript.subtitles import as_text, read_srt

FILES = ("videomme/test-*.parquet", "test-*.parquet", "*.parquet", "*.jsonl", "*.json")
FOLDERS, ENDINGS = ("data", "videos", "video", ""), (".mp4", ".MP4", ".mkv", ".webm")
SUBTITLES = ("subtitle", "subtitles")
DURATIONS = ("short", "medium", "long")


@dataclass(frozen=True, slots=True)
class VideoMME(choosing.OneRightChoice):
    """Reads the Hub's table, or the format of the official results with a list of questions per video.

    With `subtitles`, the question is followed by all subtitles of the video with their times. The official scripts use only those at sampled frames,
    and evaluation harnesses differ; a run's settings record our variant.
    """

    subtitles: bool = False
    name: str = "video-mme"

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)

        def parse(record: Record) -> Iterator[Sample]:
            for row in _rows(record):
                yield self._sample(row, root, found)

        return collect(files, parse, found)

    def _sample(self, row: Record, root: Path, found: Findings) -> Sample:
        options = choosing.without_letters(row.texts("options", "candidates"))
        choosing.check_option_count(options, 4)
        right = choosing.right_index(row.text("answer"), len(options))
        duration = row.text("duration", "duration_category")
        if duration not in DURATIONS:
            raise ConfigError(f"duration is {shown(duration)}, expected {' or '.join(DURATIONS)}")
        video = row.text("videoID", "video_id")
        question = row.text("question")
        if self.subtitles:
            question = _with_subtitles(question, root, video, row.where, found)
        groups = [f"duration: {duration}", f"domain: {row.text('domain')}", f"sub-category: {row.text('sub_category')}"]
        return Sample(
            id=row.text("question_id"),
            video=locate(_root(root), video, folders=FOLDERS, endings=ENDINGS),
            question=question,
            choices=options,
            answer=options[right],
            kind=row.text("task_type", "task_category"),
            groups=tuple(groups),
        )


def _root(folder: Path) -> Path:
    """The folder of the videos: on the Hub, the table is in a folder beside them."""
    return folder.parent if folder.name == "videomme" else folder


def _rows(record: Record) -> Iterator[Record]:
    questions = record.values.get("questions")
    if questions is None:
        yield record
        return
    if not isinstance(questions, list) or not all(isinstance(one, dict) for one in questions):
        raise ConfigError(f"questions is {shown(questions)}, expected a list of objects")
    about = {name: value for name, value in record.values.items() if name != "questions"}
    for question in questions:
        yield Record(record.where, record.number, {**about, **question}, record.key)


def _with_subtitles(question: str, root: Path, video: str, where: str, found: Findings) -> str:
    check_inside(video)
    path = next((path for folder in SUBTITLES if os.path.isfile(path := _root(root) / folder / f"{video}.srt")), None)
    if path is None:
        found.note(where, "no subtitles for this video: the question is asked without")
        return question
    return f"{question}\nWhat is said in the video, each line after its minute and second:\n{as_text(read_srt(path))}"
