"""Social Genome: social questions with four options about one-minute clips. Answers and human reasoning are not published."""

from dataclasses import dataclass
from pathlib import Path

from act2see.benchmarks import choosing
from act2see.benchmarks.reading import Findings, Record, collect, find_files, locate
from act2see.core.interfaces import Sample

FILES = ("qa_test.json", "qa*.json", "*.json", "*.jsonl")
FOLDERS, ENDINGS = ("videos", "video", ""), (".mp4", ".mkv", ".webm")
OPTIONS = 4


@dataclass(frozen=True, slots=True)
class SocialGenome(choosing.OneRightChoice):
    """Reads `qa_test.json` and the clips of Social-IQ 2.0.

    The questions' times span whole clips and are ignored. Without `answer_idx`, the questions can be asked, but no answer counts as right.
    """

    name: str = "social-genome"

    def read(self, found: Findings) -> list[Sample]:
        """See `OneRightChoice.read`."""
        root, files = find_files(self.data, FILES)
        return collect(files, lambda record: [_sample(record, root, found)], found)


def _sample(record: Record, root: Path, found: Findings) -> Sample:
    options = tuple(record.text(f"a{number}") for number in range(OPTIONS))
    answer = ""
    if record.has("answer_idx"):
        answer = options[choosing.checked_index(record.integer("answer_idx"), OPTIONS)]
    else:
        found.note(record.where, "the answer is not published: the question can be asked, but no answer counts as right")
    video = locate(root, record.text("vid_name"), folders=FOLDERS, endings=ENDINGS)
    return Sample(record.text("qid"), video, record.text("q"), options, answer, "social")
