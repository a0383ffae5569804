"""VideoEspresso: 1,382 four-option questions of fourteen tasks about short clips."""

from dataclasses import dataclass
from pathlib import Path

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, collect, find_files, locate
from act2see.core.interfaces import Sample

FILES = ("bench_hard.json", "bench_final.json", "bench*.json", "*.json", "*.jsonl", "*.parquet")
FOLDERS = ("", "videos", "video", "data")


@dataclass(frozen=True, slots=True)
class VideoEspresso(choosing.OneRightChoice):
    """Reads `bench_hard.json` and its videos. Items have no ids; their positions in the file are used."""

    name: str = "videoespresso"

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [sample_of(record, root, self.name)], found)


def sample_of(record: Record, root: Path, name: str) -> Sample:
    """The question of one record; ViTIB uses the same format. Raises `ConfigError`."""
    options = choosing.without_letters(record.texts("options"))
    choosing.check_option_count(options, 2, 3, 4, 5)
    return Sample(
        id=f"{name}-{record.number:05d}",
        video=locate(root, record.text("video_path"), folders=FOLDERS),
        question=record.text("question"),
        choices=options,
        answer=options[choosing.right_index(record.text("correct_answer"), len(options))],
        kind=record.text("task"),
    )
