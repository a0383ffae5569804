"""Checks a downloaded data set: its questions, as `act2see eval` reads them, and their video files."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from act2see import registry
from act2see.benchmarks.reading import Findings
from act2see.config import DataCheckConfig, EvalConfig


@dataclass(frozen=True, slots=True)
class DataCheck:
    """Content and problems of a data set."""

    benchmark: str
    data: str
    questions: int
    """Number of valid questions."""
    videos: int
    kinds: Mapping[str, int]
    """Questions by kind."""
    missing_videos: tuple[str, ...]
    empty_videos: tuple[str, ...]
    """Files of 0 bytes."""
    problems: tuple[str, ...]
    """Invalid records, each with its line or number."""
    notes: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether there are no problems; notes are none."""
        return not (self.problems or self.missing_videos or self.empty_videos)


def check_data(benchmark: str, options: DataCheckConfig) -> DataCheck:
    """Read a data set and look for its video files; no video is opened. Raises `ConfigError` for an unknown name or missing data."""
    found = Findings()
    samples = registry.data_set(benchmark, EvalConfig(data=options.data, subtitles=options.subtitles)).read(found)
    videos = sorted({sample.video for sample in samples})
    return DataCheck(
        benchmark=benchmark,
        data=str(options.data),
        questions=len(samples),
        videos=len(videos),
        kinds=dict(sorted(Counter(sample.kind for sample in samples).items())),
        missing_videos=tuple(str(video) for video in videos if not os.path.isfile(video)),
        empty_videos=tuple(str(video) for video in videos if os.path.isfile(video) and video.stat().st_size == 0),
        problems=tuple(found.problems),
        notes=tuple(found.notes),
    )
