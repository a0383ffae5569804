"""Questions of the synthetic world: the held-out split as a benchmark, the train split as a source of training data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from act2see.core.chat import chosen
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.synthetic import dataset


@dataclass(frozen=True, slots=True)
class SyntheticBenchmark:
    """`count` questions, alternating between the kinds, about clips that are written into `folder` on demand."""

    folder: Path
    count: int = 300
    seed: int = 0
    kinds: tuple[dataset.Kind, ...] = dataset.KINDS
    split: dataset.Split = "held-out"
    name: str = "synthetic"
    writes: bool = True
    """False to yield the questions without writing their clips."""

    def samples(self) -> Iterator[Sample]:
        """The questions, each after its clip is written. Deterministic for a count and seed."""
        make = dataset.write if self.writes else dataset.records
        for record in make(self.folder, self.split, self.count, self.seed, self.kinds):
            groups: tuple[str, ...] = ("unseen_pairs",) if record["unseen_pair"] else ()
            if record["kind"] == "hypothetical":
                groups += (f"hypothetical: {record['asked']}",)
            yield Sample(
                record["id"],
                self.folder / record["video"],
                record["question"],
                tuple(record["choices"]),
                record["answer"],
                record["kind"],
                groups,
                record["reasoning"],
                evidence_seconds=(record["visible_seconds"][0], record["visible_seconds"][1]),
            )

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right choice, by letter or text; None if it is ambiguous."""
        index = chosen(trace.answer, sample.choices)
        return None if index is None else sample.choices[index] == sample.answer
