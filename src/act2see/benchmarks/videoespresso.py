"""VideoEspresso: 1,382 questions with four options each, of fourteen tasks, about short clips."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, asked, collect, find_files, locate
from act2see.interfaces import Sample
from act2see.trace import Trace

FILES = ("bench_hard.json", "bench_final.json", "bench*.json", "*.json", "*.jsonl", "*.parquet")
FOLDERS = ("", "videos", "video", "data")


@dataclass(frozen=True, slots=True)
class VideoEspresso:
    """`bench_hard.json` and the videos that it names. An item has no id of its own: ours is its number in the file."""

    data: Path
    count: int | None = None
    name: str = "videoespresso"

    def samples(self) -> Iterator[Sample]:
        """The questions, in the file's order; `count` of them are spread evenly over it. Raises `ConfigError` for a file with a fault."""
        return asked(self, self.count)

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right option, by letter or text; None when it names none for sure."""
        return choosing.is_right(sample, trace)

    def read(self, found: Findings) -> list[Sample]:
        """Every question that can be asked; what keeps others from being asked goes to `found`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [sample_of(record, root, self.name)], found)


def sample_of(record: Record, root: Path, name: str) -> Sample:
    """The question in one record. ViTIB's have the same form. Raises `ConfigError`."""
    options = choosing.without_letters(record.texts("options"))
    choosing.refuse_count(options, 2, 3, 4, 5)
    return Sample(
        id=f"{name}-{record.number:05d}",
        video=locate(root, record.text("video_path"), folders=FOLDERS),
        question=record.text("question"),
        choices=options,
        answer=options[choosing.right_index(record.text("correct_answer"), len(options))],
        kind=record.text("task"),
    )
