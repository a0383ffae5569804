"""ViTIB: the questions of ViTCoT, very probably VideoEspresso's, each with a second video of the moments that matter."""

from collections.abc import Iterator
from dataclasses import dataclass

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, collect, find_files, refuse_outside
from act2see.benchmarks.videoespresso import sample_of
from act2see.core.interfaces import Sample

FILES = ("vitcot_data.jsonl", "src/vitcot_data.jsonl", "*.jsonl", "*.json")


@dataclass(frozen=True, slots=True)
class ViTIB(choosing.OneRightChoice):
    """`vitcot_data.jsonl` and the folder `all_video`.

    The videos under `key_video` are cut to the moments that the data set's makers found to matter: they are never shown, since looking again is
    what is measured.
    """

    name: str = "vitib"

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)
        # Whoever unpacked the videos where the official scripts want them has them beside the file.
        beside = files[0].parent if files[0].parent != root else root

        def parse(record: Record) -> Iterator[Sample]:
            refuse_outside(record.text("key_video_path"), "key_video_path")
            yield sample_of(record, beside, self.name)

        return collect(files, parse, found)
