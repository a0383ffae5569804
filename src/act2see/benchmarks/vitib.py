"""ViTIB: the questions of ViTCoT, very probably VideoEspresso's, each with a second video of the moments that matter."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, asked, collect, find_files, refuse_outside
from act2see.benchmarks.videoespresso import sample_of
from act2see.interfaces import Sample
from act2see.trace import Trace

FILES = ("vitcot_data.jsonl", "src/vitcot_data.jsonl", "*.jsonl", "*.json")


@dataclass(frozen=True, slots=True)
class ViTIB:
    """`vitcot_data.jsonl` and the folder `all_video`.

    The videos under `key_video` are cut to the moments that the data set's makers found to matter: they are never shown, since looking again is
    what is measured.
    """

    data: Path
    count: int | None = None
    name: str = "vitib"

    def samples(self) -> Iterator[Sample]:
        """The questions, in the file's order; `count` of them are spread evenly over it. Raises `ConfigError` for a file with a fault."""
        return asked(self, self.count)

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right option, by letter or text; None when it names none for sure."""
        return choosing.is_right(sample, trace)

    def read(self, found: Findings) -> list[Sample]:
        """Every question that can be asked; what keeps others from being asked goes to `found`."""
        root, files = find_files(self.data, FILES)
        # Whoever unpacked the videos where the official scripts want them has them beside the file.
        beside = files[0].parent if files[0].parent != root else root

        def parse(record: Record) -> Iterator[Sample]:
            refuse_outside(record.text("key_video_path"), "key_video_path")
            yield sample_of(record, beside, self.name)

        return collect(files, parse, found)
