"""Small videos whose every frame says its own number, so that a test knows which frame it got."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import settings

from act2see.core.trace import Frame
from act2see.synthetic.world import Clip
from act2see.video import Video

# A machine may be busy: no test fails for being slow.
settings.register_profile("act2see", deadline=None)
settings.load_profile("act2see")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test run keeps is not the user's, nor is the user's its: processes that tests start inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACT2SEE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> None:
    """A shell starts what it runs in the background with Ctrl-C ignored, and some tests press it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Two seconds in which nothing is seen, for tests of what becomes of frames whatever they show."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    Clip(2.0, ()).write(path)
    return Video(path)


BITS = 12
WIDTH, HEIGHT = 8 * BITS + 32, 64  # the barcode, then a margin that keeps the picture's sides apart


def barcode(number: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The number in binary, lowest bit on the left, one white or black column a bit; grey to the right of it."""
    picture = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    for bit in range(BITS):
        picture[:, 8 * bit : 8 * bit + 8] = 255 if number >> bit & 1 else 0
    return picture


def read_barcode(frame: Frame) -> int:
    grey = np.asarray(frame.image.convert("L"))
    assert grey.shape == (HEIGHT, WIDTH)
    return sum(int(grey[HEIGHT // 2, 8 * bit + 4] > 127) << bit for bit in range(BITS))


@pytest.fixture(scope="session")
def number_of() -> Callable[[Frame], int]:
    """The number that a frame of `write_video` carries."""
    return read_barcode


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of numbered frames and give its path; `seconds` are the frames' presentation times."""

    def write(
        name: str,
        seconds: Sequence[float | Fraction],
        *,
        fps: Fraction | int = 24,
        clock: int = 90_000,
        codec: str = "libx264",
        pixels: str = "yuv420p",
        file_format: str | None = None,
        options: Mapping[str, str] | None = None,
        file_options: Mapping[str, str] | None = None,
        prepare: Callable[[Any], None] = lambda stream: None,
        audio_seconds: float = 0,
    ) -> Path:
        path = tmp_path / name
        with av.open(path, "w", format=file_format, options=dict(file_options or {})) as container:
            speed = {"preset": "veryfast", "threads": "1"} if codec == "libx264" else {}
            stream: Any = container.add_stream(codec, rate=Fraction(fps), options=speed | dict(options or {}))
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
            stream.codec_context.time_base = Fraction(1, clock)
            prepare(stream)
            sound = container.add_stream("aac", rate=48_000) if audio_seconds else None
            for number, second in enumerate(seconds):
                frame = av.VideoFrame.from_ndarray(barcode(number), format="rgb24").reformat(format=pixels)
                frame.pts, frame.time_base = round(second * clock), Fraction(1, clock)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound is not None:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, round(48_000 * audio_seconds)), np.float32), format="fltp", layout="mono")
                silence.rate, silence.pts = 48_000, 0
                container.mux(sound.encode(silence))
                container.mux(sound.encode(None))
        return path

    return write


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    """Write a file that holds one second of silence and no video."""

    def write(name: str, codec: str) -> Path:
        path = tmp_path / name
        with av.open(path, "w") as container:
            stream: Any = container.add_stream(codec, rate=48_000)
            layout, sample_format = stream.codec_context.layout.name, stream.codec_context.format.name
            planes = len(stream.codec_context.layout.channels)
            is_planar = stream.codec_context.format.is_planar
            shape = (planes, 48_000) if is_planar else (1, 48_000 * planes)
            kind = {"flt": np.float32, "s16": np.int16, "s32": np.int32}[sample_format.removesuffix("p")]
            frame = av.AudioFrame.from_ndarray(np.zeros(shape, kind), format=sample_format, layout=layout)
            frame.rate, frame.pts = 48_000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Qwen3-VL in the embedded model's shape and with random weights: it knows nothing, but computes as a real one does."""
    import torch

    from act2see.training.micro.model import make_image_processor, make_tokenizer, make_vlm, save_parts

    folder = tmp_path_factory.mktemp("tiny-vlm")
    torch.manual_seed(0)
    tokenizer = make_tokenizer(count=50)
    save_parts(folder, tokenizer, make_image_processor())
    make_vlm(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def merging_encoder() -> Any:
    """An encoder whose tokenizer, like Qwen's, has no token for a tag and joins `>` with a `<` or a line end that follows."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from act2see.backends.encoder import Encoder
    from act2see.training.micro.model import SPECIAL, make_image_processor

    raw = Tokenizer(models.BPE())
    words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+")
    split = pre_tokenizers.Split(words, behavior="isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raw.decoder = decoders.ByteLevel()
    special = [AddedToken(mark, special=True, normalized=False) for mark in SPECIAL]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    raw.train_from_iterator(["</retrieve><frame></think>\n<answer>A</answer>"] * 50, trainer)
    return Encoder(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"), make_image_processor())
