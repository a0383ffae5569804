"""Encode segments as token ids, image patches and rope positions for Qwen3-VL-class models, for decoding and training alike."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, SupportsInt, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.core import chat
from act2see.core.errors import BackendError
from act2see.core.framing import FrameLimit, Processor, most_that_fit
from act2see.core.trace import Frame

_REMEMBERED_PICTURES = 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive tokens that are fed together: text, or the placeholders of one image or one video with their patches.

    `pixels` is (patches, patch values) float32, `grid` its (time, height, width) in patches. `same` is a key: pieces with equal keys are equal, for
    comparing a KV cache with a prompt.
    """

    ids: tuple[int, ...]
    same: Hashable
    own: bool = False
    pixels: NDArray[np.float32] | None = None
    grid: tuple[int, int, int] | None = None
    is_video: bool = False


class Encoder:
    """Encodes segments as pieces, with the model's own tokenizer and image processor.

    Only `Text.marks` may become special tokens. A native video needs `video_processor`, and so torchvision. The patches of the last `remembered`
    pictures are cached, because decoding encodes the same frames again at every look; training does not.
    """

    def __init__(self, tokenizer: Any, image_processor: Any, video_processor: Any = None, remembered: int = _REMEMBERED_PICTURES) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.video_processor = video_processor
        self.remembered = remembered
        self.merge = int(image_processor.merge_size)
        self.image_id = self._id("<|image_pad|>")
        self.video_id = self._id("<|video_pad|>")
        self._vision_start = self._id("<|vision_start|>")
        self._vision_end = self._id("<|vision_end|>")
        self._joined_marks = _joined_marks(tokenizer)
        self._pictures: OrderedDict[Hashable, tuple[tuple[Image.Image, ...], tuple[Piece, ...]]] = OrderedDict()

    def _id(self, token: str) -> int:
        found = self.tokenizer.convert_tokens_to_ids(token)
        if found is None or found == self.tokenizer.unk_token_id:
            raise BackendError(f"the model's tokenizer has no {token}: a Qwen3-VL-class model is needed")
        return int(found)

    def words(self, text: str) -> tuple[int, ...]:
        """The ids of plain text, in which control tokens of the chat format remain text."""
        # Split after the first character, a control token is not recognized.
        cuts = [mark.start() + 1 for mark in self._joined_marks.finditer(text)] if self._joined_marks else []
        return tuple(token for start, end in pairwise([0, *cuts, len(text)]) for token in self._plain(text[start:end]))

    def _plain(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def frame_limit(self, size: tuple[int, int], frames: int, room: int, *, as_video: bool = False) -> FrameLimit:
        """How many of `frames` initial frames fit into `room` tokens, and the processor's input size.

        Raises `VideoError` for pictures that the processors reject.
        """
        images = _sizes_of(self.image_processor)
        around = 2 + len(self.words(chat.seconds_tag(3599.0)))  # the start and end tokens of a picture, and its time
        pixels_a_token = images.factor**2
        if not as_video or self.video_processor is None:
            width, height = images.seen(size)
            shown = most_that_fit(frames, lambda count: count * (width * height // pixels_a_token + around), room)
            return FrameLimit(shown, images.kept(size), images.kept(size))
        videos, patch = _sizes_of(self.video_processor), int(self.video_processor.temporal_patch_size)

        def tokens(count: int) -> int:
            width, height = videos.seen(size, _whole_patches(count, patch))
            return _whole_patches(count, patch) // patch * (width * height // pixels_a_token + around)

        shown = most_that_fit(min(frames, int(self.video_processor.max_frames)), tokens, room)
        return FrameLimit(shown, videos.kept(size, _whole_patches(shown, patch)), images.kept(size))

    def encode(self, segments: Iterable[chat.Segment]) -> list[Piece]:
        """The pieces in order. Their concatenated ids are the prompt (or the training example)."""
        return [piece for segment in segments for piece in self._encode(segment)]

    def _encode(self, segment: chat.Segment) -> Iterator[Piece]:
        match segment:
            case chat.Text(text, own, marks, wraps):
                ids = (self._id(text),) if marks else self._plain(text) if wraps else self.words(text)
                yield Piece(ids, ids, own)
            case chat.Picture(frame):
                yield from self._remembered((frame,), self._picture)
            case chat.Clip(frames):
                yield from self._remembered(frames, self._video)
            case _:
                assert_never(segment)

    def _remembered(self, frames: tuple[Frame, ...], make: Callable[[tuple[Frame, ...]], Iterator[Piece]]) -> tuple[Piece, ...]:
        # Keyed by identity, which is safe because the cache holds a reference to the image.
        key = tuple(id(frame.image) for frame in frames)
        if key not in self._pictures:
            self._pictures[key] = (tuple(frame.image for frame in frames), tuple(make(frames)))
            if len(self._pictures) > max(1, self.remembered):
                self._pictures.popitem(last=False)
        self._pictures.move_to_end(key)
        return self._pictures[key][1]

    def _picture(self, frames: tuple[Frame, ...]) -> Iterator[Piece]:
        with _refusing(frames[0]):
            made = self.image_processor(images=[frames[0].image], return_tensors="np")
        pixels, grid = made["pixel_values"], _grid(made["image_grid_thw"][0])
        yield self._vision(np.ascontiguousarray(pixels, np.float32), grid, self.image_id, is_video=False)

    def _video(self, frames: tuple[Frame, ...]) -> Iterator[Piece]:
        if self.video_processor is None:
            raise BackendError("frames_as 'video' needs the model's video processor, which needs torchvision; use frames_as 'images'")
        sizes = sorted({frame.image.size for frame in frames})
        if len(sizes) > 1:
            said = " and ".join(f"{width}x{height}" for width, height in sizes[:2])
            raise BackendError(f"the frames of a native video need one size, and these have {said} pixels: use frames_as 'images'")
        stacked = np.stack([np.asarray(frame.image.convert("RGB")) for frame in frames])
        with _refusing(frames[0]):
            made = self.video_processor(videos=[stacked], do_sample_frames=False, return_tensors="pt")
        pixels, grid = made["pixel_values_videos"].numpy(), _grid(made["video_grid_thw"][0])
        yield from self.video_pieces(pixels, grid, [frame.seconds or 0.0 for frame in frames])

    def video_pieces(self, pixels: NDArray[np.float32], grid: tuple[int, int, int], seconds: Sequence[float]) -> Iterator[Piece]:
        """The pieces of a native video: each temporal patch follows the mean time of its frames, in the format of Qwen3-VL's processor.

        `pixels` is (time × height × width patches, patch values) of the whole video. If the last temporal patch is incomplete, the last frame's time
        is repeated, as the processor repeats the frame.
        """
        patches, height, width = grid
        frames_a_patch = max(1, -(-len(seconds) // patches))
        padded = [*seconds, *[seconds[-1]] * (patches * frames_a_patch - len(seconds))]
        size = height * width
        for number in range(patches):
            group = padded[number * frames_a_patch : (number + 1) * frames_a_patch]
            words = self.words(chat.seconds_tag((group[0] + group[-1]) / 2))
            yield Piece(words, words)
            part = np.ascontiguousarray(pixels[number * size : (number + 1) * size], np.float32)
            yield self._vision(part, (1, height, width), self.video_id, is_video=True)

    def _vision(self, pixels: NDArray[np.float32], grid: tuple[int, int, int], pad: int, *, is_video: bool) -> Piece:
        pads = grid[0] * grid[1] * grid[2] // self.merge**2
        ids = (self._vision_start, *[pad] * pads, self._vision_end)
        return Piece(ids, (ids, hashlib.sha256(pixels.data).digest()), False, pixels, grid, is_video)


@contextmanager
def _refusing(frame: Frame) -> Iterator[None]:
    """Convert a processor's rejection of a picture into a one-line error."""
    try:
        yield
    except ValueError as error:
        width, height = frame.image.size
        raise BackendError(f"the model's processor refuses a picture of {width}x{height} pixels: {error}") from error


def _sizes_of(processor: Any) -> Processor:
    return Processor(processor.patch_size * processor.merge_size, int(processor.size["shortest_edge"]), int(processor.size["longest_edge"]))


def _whole_patches(frames: int, patch: int) -> int:
    """The number of frames, rounded up to whole temporal patches."""
    return -(-frames // patch) * patch


def _joined_marks(tokenizer: Any) -> re.Pattern[str] | None:
    """A pattern for control tokens that the tokenizer does not flag as special, such as Qwen's `<tool_response>`.

    The protocol's own tags, such as `<think>`, may be tokens, because they are part of the model's text.
    """
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if not token.special]
    marks = [text for text in added if chat.without_marks(text) != text]
    return re.compile("|".join(map(re.escape, marks))) if marks else None


def _grid(row: Iterable[SupportsInt]) -> tuple[int, int, int]:
    time, height, width = (int(value) for value in row)
    return time, height, width


def positions(pieces: Sequence[Piece], merge: int, start: int = 0) -> tuple[NDArray[np.int64], int]:
    """Rope positions (3, tokens) of pieces that start at position `start`, and the next position.

    The scheme of Qwen3-VL: text advances all three rows by one; an image has one time, spans its height and width, and advances by the larger of
    the two. It is shift-equivariant, so a chunk can be computed on its own.
    """
    rows: list[NDArray[np.int64]] = []
    at = start
    for piece in pieces:
        if piece.grid is None:
            rows.append(np.tile(np.arange(at, at + len(piece.ids)), (3, 1)))
            at += len(piece.ids)
            continue
        height, width = piece.grid[1] // merge, piece.grid[2] // merge
        pads = np.indices((1, height, width)).reshape(3, -1) + at + 1
        after = at + 1 + max(height, width)
        rows += [np.full((3, 1), at), pads, np.full((3, 1), after)]
        at = after + 1
    return (np.concatenate(rows, axis=1).astype(np.int64) if rows else np.zeros((3, 0), np.int64)), at


def joined(pieces: Sequence[Piece]) -> list[int]:
    """The ids of all pieces."""
    return [token for piece in pieces for token in piece.ids]


def shared_pieces(one: Sequence[Piece], other: Sequence[Piece]) -> int:
    """The length of the common prefix, in pieces."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a.same != b.same), min(len(one), len(other)))
