"""ViTIB: the questions of ViTCoT, most likely VideoEspresso's, each with a second video of the key moments."""

from collections.abc import Iterator
from dataclasses import dataclass

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, check_inside, collect, find_files
from act2see.benchmarks.videoespresso import sample_of
from act2see.core.interfaces import Sample

FILES = ("vitcot_data.jsonl", "src/vitcot_data.jsonl", "*.jsonl", "*.json")


@dataclass(frozen=True, slots=True)
class ViTIB(choosing.OneRightChoice):
    """Reads `vitcot_data.jsonl` and the folder `all_video`.

    The videos under `key_video`, cut by the authors to the key moments, are never used: the benchmark measures whether looking again helps.
    """

    name: str = "vitib"

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)
        # The official scripts expect the videos beside the file.
        beside = files[0].parent if files[0].parent != root else root

        def parse(record: Record) -> Iterator[Sample]:
            check_inside(record.text("key_video_path"), "key_video_path")
            yield sample_of(record, beside, self.name)

        return collect(files, parse, found)
