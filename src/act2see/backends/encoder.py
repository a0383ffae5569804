"""Encode conversations as token ids and pixels, in the format of the model's family, for decoding and training alike."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.backends.families import QWEN3_VL
from act2see.backends.families.description import Config, Family, Pads
from act2see.backends.families.grids import grid_of, sizes_of
from act2see.backends.pieces import Piece
from act2see.core import chat
from act2see.core.errors import BackendError
from act2see.core.framing import FrameLimit, most_that_fit
from act2see.core.trace import Frame

_REMEMBERED_PICTURES = 1024


class Encoder:
    """Encodes conversations as pieces, with the model's own tokenizer and processors, as its family describes.

    Only `Text.marks` may become special tokens. A native video needs `video_processor`, and so torchvision. The pixels of the last `remembered`
    pictures are cached, because decoding encodes the same frames again at every look; training does not.
    """

    def __init__(
        self,
        tokenizer: Any,
        image_processor: Any,
        video_processor: Any = None,
        remembered: int = _REMEMBERED_PICTURES,
        *,
        family: Family = QWEN3_VL,
        config: Config | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.video_processor = video_processor
        self.remembered = remembered
        self.family, self.config = family, config
        self.merge = int(getattr(image_processor, "merge_size", 1))
        self._joined_marks = _joined_marks(tokenizer, family)
        self._pictures: OrderedDict[Hashable, tuple[tuple[Image.Image, ...], tuple[Piece, ...]]] = OrderedDict()
        for mark in family.tokens:
            self._id(mark)
        self.image_id = self._id(family.pad)
        self.video_id = -1 if family.video_pad is None else self._id(family.video_pad)  # no token

    def _id(self, token: str) -> int:
        found = self.tokenizer.convert_tokens_to_ids(token)
        if found is None or found == self.tokenizer.unk_token_id:
            raise BackendError(f"the model's tokenizer has no {token}, which a model of the family {self.family.name} needs")
        return int(found)

    def words(self, text: str) -> tuple[int, ...]:
        """The ids of plain text, in which control tokens of the chat format remain text."""
        # Split after the first character, a control token is not recognized.
        cuts = [mark.start() + 1 for mark in self._joined_marks.finditer(text)] if self._joined_marks else []
        return tuple(token for start, end in pairwise([0, *cuts, len(text)]) for token in self._plain(text[start:end]))

    def _plain(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _templated(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def frame_limit(self, size: tuple[int, int], frames: int, room: int, *, as_video: bool = False) -> FrameLimit:
        """How many of `frames` initial frames fit into `room` tokens, and the processor's input size.

        Raises `VideoError` for pictures that the processors reject.
        """
        around = len(self.words(chat.seconds_tag(3599.0)))  # a picture's time
        images = self.family.limit(self.image_processor, self.config, size, frames, room, around)
        if not as_video or self.video_processor is None:
            return images
        videos, patch = sizes_of(self.video_processor), int(self.video_processor.temporal_patch_size)

        def tokens(count: int) -> int:
            width, height = videos.seen(size, _whole_patches(count, patch))
            return _whole_patches(count, patch) // patch * (width * height // videos.factor**2 + 2 + around)

        shown = most_that_fit(min(frames, int(self.video_processor.max_frames)), tokens, room)
        return FrameLimit(shown, videos.kept(size, _whole_patches(shown, patch)), images.brought)

    def prompt(self, conversation: Sequence[chat.Turn], *, ended: bool = False) -> list[Piece]:
        """A conversation's pieces in the family's chat format; see `chat.segments`."""
        return self.encode(chat.segments(conversation, ended=ended, written=self.family.written))

    def encode(self, segments: Iterable[chat.Segment]) -> list[Piece]:
        """The pieces in order. Their concatenated ids are the prompt (or the training example)."""
        return [piece for segment in segments for piece in self._encode(segment)]

    def _encode(self, segment: chat.Segment) -> Iterator[Piece]:
        match segment:
            case chat.Text(text, own, marks, wraps):
                ids = (self._id(text),) if marks else self._templated(text) if wraps else self.words(text)
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
            seen = self.family.see(self.image_processor, self.config, frames[0].image)
        ids = tuple(token for part in seen.tokens for token in self._placed(part))
        yield Piece(ids, (ids, hashlib.sha256(seen.pixels.data).digest()), False, seen.pixels, seen.grid)

    def _placed(self, part: chat.Text | Pads) -> tuple[int, ...]:
        match part:
            case Pads(token, count):
                return (self._id(token),) * count
            case chat.Text(text, marks=True):
                return (self._id(text),)
            case chat.Text(text):
                return self.words(text)
            case _:
                assert_never(part)

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
        pixels, grid = made["pixel_values_videos"].numpy(), grid_of(made["video_grid_thw"][0])
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
            start, _, end = (self._id(mark) for mark in self.family.tokens)
            ids = (start, *[self.video_id] * (size // self.merge**2), end)
            yield Piece(ids, (ids, hashlib.sha256(part.data).digest()), False, part, (1, height, width), True)


@contextmanager
def _refusing(frame: Frame) -> Iterator[None]:
    """Convert a processor's rejection of a picture into a one-line error."""
    try:
        yield
    except ValueError as error:
        width, height = frame.image.size
        raise BackendError(f"the model's processor refuses a picture of {width}x{height} pixels: {error}") from error


def _whole_patches(frames: int, patch: int) -> int:
    """The number of frames, rounded up to whole temporal patches."""
    return -(-frames // patch) * patch


def _joined_marks(tokenizer: Any, family: Family) -> re.Pattern[str] | None:
    """A pattern for control tokens that the tokenizer does not flag as special, such as Qwen's `<tool_response>`.

    The protocol's own tags, such as `<think>`, may be tokens, because they are part of the model's text.
    """
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if not token.special]
    marks = [text for text in added if text in family.tokens or chat.without_marks(text) != text]
    return re.compile("|".join(map(re.escape, marks))) if marks else None
