"""Overlaps between traces and evaluation questions: by the words of the question, the frames, or the video's file name.

Words are compared with an inverted index, frames by a 64-bit difference hash that the correlation of their brightness confirms. Nothing is decided
for the user: every overlap records how it was found and how close it is. The thresholds below are our choice; `benchmarks/contamination.py` measures
their recall and false positives, and `docs/contamination.md` has the results.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.core.errors import InternalError, VideoError
from act2see.core.interfaces import Sample
from act2see.core.trace import Frame, Trace
from act2see.execution.faults import unexpected
from act2see.video import Video

Kind = Literal["question", "near_question", "frames", "video_name"]
"""How a trace overlaps: the same question and choices, nearly the same words, frames that look alike, a video file of the same name."""
KINDS: tuple[Kind, ...] = get_args(Kind)

NEAR_WORDS = 0.8
"""Jaccard similarity of the words of question and choices from which on they are nearly the same."""
SHORT_QUESTION = 5
"""A question with fewer content words is asked about many videos: alone it is no evidence."""
NEAR_BITS = 6
"""Largest Hamming distance, of 64 bits, between near hashes; see `perceptual_hash`."""
NEAR_CELLS = 0.98
"""Correlation of the cells' brightness from which on frames with near hashes look alike; see `perceptual_hash`."""
FLAT = 7.5
"""Standard deviation of the cells' brightness (of 255) below which a frame is flat: empty, black, or fading. Flat frames are not compared."""
LEAST_FRAMES = 2
"""Different frames that must look alike."""
VIDEO_FRAMES = 16
"""Frames compared of an evaluation video, evenly spread; fewer where it has fewer."""

_ROWS, _COLUMNS = 8, 9
_SHORT_SIDE = 64  # eight pixels a cell: a frame that is scaled down while it is decoded has the same hash but for a bit or two
_PAIRS_AT_ONCE = 1 << 20
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an and any are as at be been but by can clip could did do does doing for from had has have he her him his how i if in into is it its just
        me my not of on or our s she should so some such t than that the their them then there these they this those to video was we were what when
        where which while who whom whose why will with would you your""",
    )
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """One trace that overlaps with one evaluation question, and how."""

    trace_id: str
    sample_id: str
    kinds: tuple[Kind, ...]
    question_similarity: float | None
    """Jaccard similarity of the words of question and choices; None where the words do not overlap."""
    frames: int
    """How many different frames of the trace look like different frames of the video; 0 where no frames overlap."""
    distance: int | None
    """Smallest Hamming distance between two of these frames, in bits."""
    benchmark: str = ""
    """The question's benchmark: ids are unique within a benchmark only."""


# Frames


def perceptual_hash(image: Image.Image) -> int:
    """A 64-bit difference hash: the grey picture as 8 rows of 9 cells, a bit for each two neighbours in a row, set where the right one is brighter.

    Each cell is the mean of all that it covers, so size and compression change little. Measured on a hundred synthetic clips, copied at half the size
    and a low quality (H.264, CRF 35): half of the frames that are not flat keep every bit and nine in ten are within 8; of three clips from cameras
    and films, nine in ten are within 6. That is why hashes up to `NEAR_BITS` apart are near: a video needs two such frames, not all. What loses more
    are walls of one brightness, where noise alone decides. Near hashes are not enough, for two frames of one slope of brightness have them whatever
    else they show: every fifth pair of different synthetic clips would overlap. So the 72 cells must correlate as well: 99 in 100 copied frames do
    with 0.993 or more, and with `NEAR_CELLS` one pair in five thousand is left.
    """
    return int(_hash_of(_cells(image)))


@dataclass(frozen=True, slots=True)
class HashedFrames:
    """Hashes and brightness of frames; flat frames are left out."""

    hashes: NDArray[np.uint64]
    """Of shape (frames,)."""
    cells: NDArray[np.float32]
    """Each frame's cells as a vector of mean 0 and length 1, of shape (frames, 72)."""

    @classmethod
    def of(cls, images: Iterable[Image.Image]) -> "HashedFrames":
        """The frames that are not flat."""
        kept = [cells for cells in map(_cells, images) if cells.std() >= FLAT]
        vectors = np.array(kept, np.float32).reshape(len(kept), _ROWS * _COLUMNS)
        vectors -= vectors.mean(axis=1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return cls(np.array([_hash_of(cells) for cells in kept], np.uint64), vectors)

    @property
    def different(self) -> int:
        """Number of different hashes."""
        return len(np.unique(self.hashes))


def _cells(image: Image.Image) -> NDArray[np.float32]:
    grey = np.asarray(image.convert("L"), np.float32)
    return np.asarray(_shares(grey.shape[0], _ROWS) @ grey @ _shares(grey.shape[1], _COLUMNS).T, np.float32)


@lru_cache(maxsize=64)
def _shares(pixels: int, cells: int) -> NDArray[np.float32]:
    """How much of each cell each pixel fills, of shape (cells, pixels): a pixel on a border belongs to both of its cells in part."""
    edges, starts = np.linspace(0, pixels, cells + 1), np.arange(pixels)
    covered = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    return (covered.clip(0) * cells / pixels).astype(np.float32)


def _hash_of(cells: NDArray[np.float32]) -> np.uint64:
    return np.uint64(int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big"))


@dataclass(frozen=True, slots=True)
class HashedVideo:
    """An evaluation video's hashed frames, or the reason why there are none."""

    path: Path
    frames: HashedFrames
    error: str | None = None


def hash_video(path: Path) -> HashedVideo:
    """Hash at most `VIDEO_FRAMES` frames, evenly spread. A video that cannot be opened has none, and an error."""
    try:
        with unexpected():
            video = Video(path)
            step = video.duration_seconds / VIDEO_FRAMES
            shown = video.frames_at([(number + 0.5) * step for number in range(VIDEO_FRAMES)], short_side=_SHORT_SIDE)
            images = {frame.seconds: frame.image for frame in shown}
    except (VideoError, InternalError) as error:
        return HashedVideo(path, HashedFrames.of(()), str(error))
    return HashedVideo(path, HashedFrames.of(images.values()), None if images else f"no frame of {path} can be decoded")


def real_frames(trace: Trace) -> list[Frame]:
    """The trace's initial and retrieved frames, without generated ones."""
    brought = trace.brought_frames
    return [frame for frame in (*trace.frames, *brought) if frame.provenance is None and frame.seconds is not None]


class _FrameIndex:
    """The frames of all evaluation videos, searched for those of a trace."""

    def __init__(self, videos: Sequence[HashedVideo]) -> None:
        empty = HashedFrames.of(())
        self._hashes = np.concatenate([empty.hashes, *(video.frames.hashes for video in videos)])
        self._cells = np.concatenate([empty.cells, *(video.frames.cells for video in videos)])
        self._video = np.repeat(np.arange(len(videos)), [len(video.frames.hashes) for video in videos])

    def find(self, frames: HashedFrames) -> dict[int, tuple[int, int]]:
        """See `HeldOut.look_alikes`.

        Equal hashes count once, on both sides: one title card is no overlap, however often it is shown.
        """
        rows, columns, distances = self._pairs(frames)
        if len(rows) < LEAST_FRAMES:
            return {}
        videos = self._video[columns]
        ours = _distinct(videos, frames.hashes[rows])
        theirs = _distinct(videos, self._hashes[columns])
        counts = {video: min(ours[video], theirs[video]) for video in ours}
        return {video: (count, int(distances[videos == video].min())) for video, count in counts.items() if count >= LEAST_FRAMES}

    def _pairs(self, frames: HashedFrames) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """All pairs that look alike: the trace's frame, the index's, and their distance. Compared in blocks to bound memory."""
        empty = np.empty(0, np.int64)
        found = [(empty, empty, empty)]
        rows_at_once = max(1, _PAIRS_AT_ONCE // max(1, len(self._hashes)))
        for start in range(0, len(frames.hashes), rows_at_once):
            part = slice(start, start + rows_at_once)
            bits = np.bitwise_count(frames.hashes[part, None] ^ self._hashes)
            rows, columns = np.nonzero(bits <= NEAR_BITS)
            if len(rows) == 0:
                continue
            some_rows, row_of = np.unique(rows, return_inverse=True)
            some_columns, column_of = np.unique(columns, return_inverse=True)
            alike = frames.cells[part][some_rows] @ self._cells[some_columns].T
            kept = alike[row_of, column_of] >= NEAR_CELLS
            found.append((rows[kept] + start, columns[kept], bits[rows[kept], columns[kept]].astype(np.int64)))
        rows, columns, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return rows, columns, distances


def _distinct(videos: NDArray[np.int64], hashes: NDArray[np.uint64]) -> dict[int, int]:
    """How many different hashes there are for each video."""
    pairs = np.unique(np.stack([videos.astype(np.uint64), hashes]), axis=1)
    found, counts = np.unique(pairs[0], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


# Words


class _Separators(dict[int, str]):
    """Maps everything but letters, digits and their marks to a space; each character is looked up once."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        self[code] = letter if unicodedata.category(letter)[0] in "LNM" else " "
        return self[code]


_SEPARATORS = _Separators()


def normalise(text: str) -> str:
    """Normalise a question for comparison: NFKC, casefolded, no punctuation or extra spaces. A text without letters is only stripped."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SEPARATORS).split()) or folded.strip()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A normalised question."""

    question: str
    choices: frozenset[str]
    words: frozenset[str]
    """Of question and choices."""
    content: frozenset[str]
    """Of the question alone, without function words."""

    @classmethod
    def of(cls, question: str, choices: Sequence[str]) -> "_Asked":
        asked, options = normalise(question), frozenset(map(normalise, choices))
        words = frozenset(asked.split())
        return cls(asked, options, words.union(*(option.split() for option in options)), words - _FUNCTION_WORDS)

    def is_evidence(self, other: "_Asked") -> bool:
        """Whether similar words alone show that both are the same question, without comparing the videos."""
        if min(len(self.content), len(other.content)) >= SHORT_QUESTION:
            return True
        return bool(self.choices) and self.choices == other.choices and self.content == other.content


@dataclass(frozen=True, slots=True)
class _NearWords:
    kind: Kind
    similarity: float
    is_evidence: bool


class _WordIndex:
    """Inverted index over the words of all evaluation questions. Questions with the same words are compared once."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._asked = [_Asked.of(sample.question, sample.choices) for sample in samples]
        members: dict[frozenset[str], list[int]] = defaultdict(list)
        for number, asked in enumerate(self._asked):
            members[asked.words].append(number)
        self._members = list(members.values())
        self._sizes = np.array([len(words) for words in members], np.int64)
        holders: dict[str, list[int]] = defaultdict(list)
        for number, words in enumerate(members):
            for word in words:
                holders[word].append(number)
        self._holders = {word: np.array(numbers, np.int64) for word, numbers in holders.items()}
        self._same_question: dict[str, list[int]] = defaultdict(list)
        for number, asked in enumerate(self._asked):
            self._same_question[asked.question].append(number)

    def find(self, trace: Trace) -> dict[int, _NearWords]:
        """The questions, by number, that have the same or nearly the same words as the trace's."""
        asked = _Asked.of(trace.question, trace.choices)
        known = [self._holders[word] for word in asked.words if word in self._holders]
        if not known:
            return {}
        common = np.bincount(np.concatenate(known), minlength=len(self._members))
        similarity = common / (self._sizes + len(asked.words) - common)
        found = {}
        for number in self._same_question.get(asked.question, ()):
            if bool(asked.choices) != bool(self._asked[number].choices):  # an open question on one side: no choices to compare
                found[number] = _NearWords("near_question", 1.0, asked.is_evidence(self._asked[number]))
        for group in np.flatnonzero(similarity >= NEAR_WORDS).tolist():
            for number in self._members[group]:
                other = self._asked[number]
                is_same = other.question == asked.question and other.choices == asked.choices
                kind: Kind = "question" if is_same else "near_question"
                found[number] = _NearWords(kind, float(similarity[group]), asked.is_evidence(other))
        return found


# Both


@dataclass(slots=True)
class HeldOut:
    """The evaluation questions, each with its benchmark's name, and the frames of their videos.

    Without `videos` only words and names are compared, no frames.
    """

    samples: Sequence[tuple[str, Sample]]
    videos: Sequence[HashedVideo] = ()
    _words: _WordIndex = field(init=False, repr=False)
    _frames: _FrameIndex = field(init=False, repr=False)
    _of_video: Mapping[Path, Sequence[int]] = field(init=False, repr=False)
    _of_name: Mapping[str, Mapping[str, Mapping[Path, None]]] = field(init=False, repr=False)
    """By file name: the benchmarks that have such a file, and its paths."""

    def __post_init__(self) -> None:
        self._words = _WordIndex([sample for _, sample in self.samples])
        self._frames = _FrameIndex(self.videos)
        of_video: dict[Path, list[int]] = defaultdict(list)
        for number, (_, sample) in enumerate(self.samples):
            of_video[sample.video].append(number)
        of_name: dict[str, dict[str, dict[Path, None]]] = defaultdict(lambda: defaultdict(dict))
        for benchmark, sample in self.samples:
            of_name[sample.video.name][benchmark][sample.video] = None
        self._of_video, self._of_name = of_video, of_name

    def overlaps(self, trace: Trace) -> Iterator[Overlap]:
        """Yield the questions that the trace overlaps with, in the benchmarks' order. The trace's pictures are read only where there are videos."""
        alike = self.look_alikes(HashedFrames.of(frame.image for frame in real_frames(trace))) if self.videos else {}
        seen = {number: found for video, found in alike.items() for number in self._of_video.get(self.videos[video].path, ())}
        named = {number for path in self._named(trace.video) for number in self._of_video[path]}
        words = {number: found for number, found in self._words.find(trace).items() if found.is_evidence or number in seen or number in named}
        for number in sorted({*seen, *named, *words}):
            benchmark, sample = self.samples[number]
            near, (frames, distance) = words.get(number), seen.get(number, (0, None))
            by = {near.kind if near else None, "frames" if frames else None, "video_name" if number in named else None}
            kinds = tuple(kind for kind in KINDS if kind in by)
            yield Overlap(trace.id, sample.id, kinds, near.similarity if near else None, frames, distance, benchmark)

    def look_alikes(self, frames: HashedFrames) -> dict[int, tuple[int, int]]:
        """The videos, by number, with `LEAST_FRAMES` or more different frames like these: how many, and the smallest distance in bits."""
        return self._frames.find(frames)

    def _named(self, video: str) -> list[Path]:
        """The videos with the same file name. Where a benchmark has several, the parent folder's name must match too."""
        parts = re.split(r"[/\\]", video)  # untrusted text: compared, never opened
        return [
            path for paths in self._of_name.get(parts[-1], {}).values() for path in paths if len(paths) == 1 or list(path.parts[-2:]) == parts[-2:]
        ]


def find_overlaps(traces: Iterable[Trace], held_out: HeldOut) -> Iterator[Overlap]:
    """Yield every overlap of every trace, trace by trace. Words that are asked of any video count only beside the same choices or video."""
    for trace in traces:
        yield from held_out.overlaps(trace)
