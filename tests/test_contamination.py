"""What overlaps and what does not: re-encoded copies against other videos, the same question in other clothes against questions that anybody asks."""

import io
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from act2see.core.interfaces import Sample
from act2see.core.trace import Frame, Generate, Observation, Provenance, Retrieve, Step, Trace
from act2see.curation.decontamination import BenchmarkOverlap, summarise_overlaps
from act2see.curation.overlaps import (
    FLAT,
    HashedFrames,
    HashedVideo,
    HeldOut,
    Overlap,
    find_overlaps,
    hash_video,
    normalise,
    perceptual_hash,
)
from act2see.video import Video

DEMO = sorted((Path(__file__).parents[1] / "src" / "act2see" / "synthetic" / "demo").glob("*.mp4"))
LONG = "Why does the man in the blue coat leave the station before the train arrives?"
CHOICES = ("He is late", "He forgot his bag", "It rains")


def hash_distance(one: int, other: int) -> int:
    """In how many of 64 bits two hashes differ."""
    return (one ^ other).bit_count()


def noise(seed: int, size: tuple[int, int] = (144, 96)) -> Image.Image:
    """Coarse noise: nothing of one is in another."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)


def trace_of(images: Sequence[Image.Image] = (), *, question: str = "?", choices: Sequence[str] = (), video: str = "mine.mp4") -> Trace:
    return Trace("t", video, question, tuple(Frame(image, float(number)) for number, image in enumerate(images)), tuple(choices))


def sample_of(question: str = "Who?", choices: Sequence[str] = (), video: Path = Path("theirs.mp4"), name: str = "s") -> tuple[str, Sample]:
    return "bench", Sample(name, video, question, tuple(choices), "", "kind")


def kinds_of(overlaps: Sequence[Overlap]) -> list[tuple[str, ...]]:
    return [one.kinds for one in overlaps]


def asked(trace: Trace, *samples: tuple[str, Sample], videos: Sequence[HashedVideo] = ()) -> list[Overlap]:
    return list(find_overlaps([trace], HeldOut(samples, videos)))


def reencoded(path: Path, target: Path, size: tuple[int, int]) -> Path:
    """The same pictures in another size, codec and quality."""
    with av.open(target, "w") as container:
        stream = container.add_stream("mpeg4", rate=24, options={"b": "200k"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in Video(path).sample(24):
            container.mux(stream.encode(av.VideoFrame.from_image(frame.image.resize(size))))
        container.mux(stream.encode(None))
    return target


# The hash


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_a_hash_is_that_of_a_box_filter(seed: int, wide: int, high: int) -> None:
    """Pillow's own box filter is the oracle, where cells are whole pixels."""
    grey = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8 * high, 9 * wide), np.uint8))
    small = np.asarray(Image.fromarray(np.asarray(grey, np.float32)).resize((9, 8), Image.Resampling.BOX))
    steps = np.diff(small, axis=1).ravel()
    bits = np.array([perceptual_hash(grey) >> (63 - place) & 1 for place in range(64)], bool)
    clear = np.abs(steps) > 1e-3
    assert (bits[clear] == (steps[clear] > 0)).all()


def test_pictures_smaller_than_the_cells_have_a_hash() -> None:
    assert perceptual_hash(Image.new("RGB", (1, 1))) == 0
    assert perceptual_hash(Image.fromarray(np.array([[0, 255]], np.uint8))).bit_count() in (8, 16)  # one step in each row


def test_a_picture_that_grows_brighter_to_the_right_has_every_bit_and_its_mirror_none() -> None:
    slope = Image.fromarray(np.tile(np.arange(180, dtype=np.uint8), (60, 1)))
    assert perceptual_hash(slope) == 2**64 - 1
    assert hash_distance(perceptual_hash(slope), perceptual_hash(slope.transpose(Image.Transpose.FLIP_LEFT_RIGHT))) == 64


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.37, 2.1])
@pytest.mark.parametrize("quality", [30, 75])
def test_saving_and_scaling_change_few_bits_and_another_picture_many(scale: float, quality: int) -> None:
    for seed in range(10):
        image, saved = noise(seed), io.BytesIO()
        image.resize((round(image.width * scale), round(image.height * scale))).save(saved, "JPEG", quality=quality)
        assert hash_distance(perceptual_hash(image), perceptual_hash(Image.open(saved))) <= 6
        assert hash_distance(perceptual_hash(image), perceptual_hash(noise(seed + 100))) > 12


def test_flat_frames_are_left_out() -> None:
    faint = Image.fromarray((np.asarray(noise(1), np.float32) / 255 * 2 * FLAT + 100).astype(np.uint8))
    left = HashedFrames.of([Image.new("RGB", (64, 48)), Image.new("RGB", (64, 48), (200, 10, 10)), faint, noise(1)])
    assert left.hashes.tolist() == [perceptual_hash(noise(1))]


# Frames


@pytest.fixture(scope="module")
def demo() -> HeldOut:
    """The bundled clips as an evaluation set."""
    samples = [sample_of(f"What of number {number}?", video=path, name=path.stem) for number, path in enumerate(DEMO)]
    return HeldOut(samples, [hash_video(path) for path in DEMO])


@pytest.mark.parametrize("path", DEMO, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [(128, 128), (320, 240)], ids=str)
def test_a_reencoded_clip_overlaps_with_itself_alone(tmp_path: Path, demo: HeldOut, path: Path, size: tuple[int, int]) -> None:
    copy = Video(reencoded(path, tmp_path / "copy.avi", size))
    overlaps = list(demo.overlaps(trace_of([frame.image for frame in copy.sample(3)])))
    assert [(one.sample_id, one.kinds, one.question_similarity) for one in overlaps] == [(path.stem, ("frames",), None)]
    assert overlaps[0].frames >= 2
    assert overlaps[0].distance is not None
    assert overlaps[0].distance <= 6


def test_one_frame_is_no_overlap_however_often_it_is_shown() -> None:
    card = HashedVideo(Path("theirs.mp4"), HashedFrames.of([noise(1), noise(1), noise(2)]))
    assert asked(trace_of([noise(1), noise(1), noise(3)]), sample_of(), videos=[card]) == []
    (one,) = asked(trace_of([noise(1), noise(2), noise(2)]), sample_of(), videos=[card])
    assert (one.frames, one.distance) == (2, 0)


@pytest.mark.parametrize("is_ours", [True, False])
def test_two_frames_near_one_and_the_same_are_no_overlap(is_ours: bool) -> None:
    single, cells = HashedFrames.of([noise(1)]), HashedFrames.of([noise(1), noise(1)]).cells
    twice = HashedFrames(single.hashes ^ np.array([0, 1], np.uint64), cells)
    ours, theirs = (twice, single) if is_ours else (single, twice)
    assert HeldOut([sample_of()], [HashedVideo(Path("theirs.mp4"), theirs)]).look_alikes(ours) == {}
    assert HeldOut([sample_of()], [HashedVideo(Path("theirs.mp4"), twice)]).look_alikes(twice) == {0: (2, 0)}


def test_two_frames_of_two_videos_are_no_overlap_with_either() -> None:
    videos = [HashedVideo(Path(f"{at}.mp4"), HashedFrames.of([noise(at), noise(at + 10)])) for at in range(2)]
    samples = [sample_of(video=video.path) for video in videos]
    assert asked(trace_of([noise(0), noise(1)]), *samples, videos=videos) == []


def test_retrieved_frames_count_and_generated_ones_never() -> None:
    theirs = HashedVideo(Path("theirs.mp4"), HashedFrames.of([noise(1), noise(2)]))

    def overlaps(frame: Frame) -> list[Overlap]:
        steps: list[Step] = [Retrieve("x") if frame.provenance is None else Generate("x"), Observation((frame,))]
        return asked(Trace("t", "mine.mp4", "?", (Frame(noise(1), 0.0),), steps=steps), sample_of(), videos=[theirs])

    assert kinds_of(overlaps(Frame(noise(2), 3.0))) == [("frames",)]
    assert overlaps(Frame(noise(2), None, provenance=Provenance("x", 0.0, "model", 0))) == []


def test_near_hashes_of_pictures_that_look_different_are_no_overlap() -> None:
    """The same slopes everywhere, so all bits are equal; but the steps are large in other places."""

    def steps(large: int) -> Image.Image:
        heights = np.cumsum([100 if place % 4 == large else 1 for place in range(9)])
        return Image.fromarray(np.tile(np.repeat(heights, 8), (64, 1)).clip(0, 255).astype(np.uint8))

    def tilted(image: Image.Image) -> Image.Image:
        return Image.fromarray(np.vstack([np.asarray(image)[:56], np.asarray(image)[56:, ::-1]]))

    ours, theirs = [steps(1), tilted(steps(1))], [steps(3), tilted(steps(3))]
    assert [hash_distance(perceptual_hash(one), perceptual_hash(other)) for one, other in zip(ours, theirs, strict=True)] == [0, 0]
    assert asked(trace_of(ours), sample_of(), videos=[HashedVideo(Path("theirs.mp4"), HashedFrames.of(theirs))]) == []
    assert kinds_of(asked(trace_of(ours), sample_of(), videos=[HashedVideo(Path("theirs.mp4"), HashedFrames.of(ours))])) == [("frames",)]


def test_among_many_frames_every_planted_one_is_found() -> None:
    """More pairs than are compared at once; the oracle is where they were put."""
    rng = np.random.default_rng(0)
    count = 40_000

    def vectors(number: int) -> NDArray[np.float32]:
        drawn = rng.standard_normal((number, 72), np.float32)
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)

    hashes, cells = rng.integers(0, 2**64, count, np.uint64), vectors(count)
    hashes[801] = hashes[800] ^ np.uint64(1)  # one frame of ours, shown twice, will be near both
    videos = [HashedVideo(Path(f"{at}.mp4"), HashedFrames(hashes[at : at + 8], cells[at : at + 8])) for at in range(0, count, 8)]
    held_out = HeldOut([sample_of(video=video.path, name=video.path.stem) for video in videos], videos)
    ours = HashedFrames(rng.integers(0, 2**64, 80, np.uint64), vectors(80))
    for mine, place in ((0, 16), (79, 18), (30, 39_999), (50, 39_993), (51, 20_000)):
        ours.hashes[mine], ours.cells[mine] = hashes[place] ^ np.uint64(0b1011), cells[place]
    for mine, place in ((5, 800), (60, 801)):
        ours.hashes[mine], ours.cells[mine] = hashes[800], cells[place]
    assert held_out.look_alikes(ours) == {2: (2, 3), 4999: (2, 3)}


def test_a_video_that_cannot_be_opened_or_is_too_plain_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with av.open(tmp_path / "black.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48)))))
        container.mux(stream.encode(None))
    paths = [tmp_path / name for name in ("text.mp4", "black.mp4", "gone.mp4")]
    held_out = HeldOut([sample_of(video=path, name=path.stem) for path in paths], [hash_video(path) for path in paths])
    assert list(find_overlaps([trace_of([Image.new("RGB", (64, 48)), noise(1)])], held_out)) == []
    told = summarise_overlaps([], 1, held_out)
    assert [Path(one.video).name for one in told.videos_not_opened] == ["text.mp4", "gone.mp4"]
    assert all(one.error for one in told.videos_not_opened)
    assert (told.videos, told.videos_too_plain) == (3, (str(tmp_path / "black.mp4"),))


# Names


def test_the_same_file_name_is_a_kind_of_its_own() -> None:
    theirs = sample_of(video=Path("/data/minerva/videos/a1B2c3.mp4"))
    assert kinds_of(asked(trace_of(video="/elsewhere/a1B2c3.mp4"), theirs)) == [("video_name",)]
    assert kinds_of(asked(trace_of(video="C:\\elsewhere\\a1B2c3.mp4"), theirs)) == [("video_name",)]
    for other in ("a1b2c3.mp4", "xa1B2c3.mp4", "a1B2c3.mp4/", ""):
        assert asked(trace_of(video=other), theirs) == []


def test_a_name_that_many_videos_share_needs_its_folder() -> None:
    theirs = [sample_of(video=Path(f"/data/{clip}/video_prev.mp4"), name=clip) for clip in ("one", "two")]
    assert asked(trace_of(video="mine/video_prev.mp4"), *theirs) == []
    assert [one.sample_id for one in asked(trace_of(video="mine/two/video_prev.mp4"), *theirs)] == ["two"]
    elsewhere = ("other", Sample("other", Path("/other/three/video_prev.mp4"), "Who?", (), "", ""))
    assert [one.sample_id for one in asked(trace_of(video="mine/two/video_prev.mp4"), *theirs, elsewhere)] == ["two", "other"]


# Words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What  is\nthis?", "what is this"),
        ("«Où» — est-il ?", "où est il"),
        ("ＡＢＣ １２３", "abc 123"),
        ("Straße", "STRASSE"),
        ("cafe\u0301", "CAF\u00c9"),
        ("\u2121 7", "tel 7"),  # one sign that stands for three capitals
    ],
)
def test_texts_that_differ_in_spelling_alone_are_the_same(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(("one", "other"), [("की", "का"), ("café", "cafe"), ("3.5", "35"), ("?", "!")])
def test_texts_that_say_something_else_are_not(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_the_same_question_with_its_choices_in_another_order() -> None:
    (one,) = asked(trace_of(question=LONG.upper(), choices=[f" {choice}. " for choice in reversed(CHOICES)]), sample_of(LONG, CHOICES))
    assert one == Overlap("t", "s", ("question",), 1.0, 0, None, "bench")


def test_nearly_the_same_words_are_near_and_fewer_are_nothing() -> None:
    near = LONG.replace("leave", "quit").replace("blue coat", "coat, blue,")
    (one,) = asked(trace_of(question=near, choices=CHOICES), sample_of(LONG, CHOICES))
    assert one.kinds == ("near_question",)
    words = [{*f"{text} {' '.join(CHOICES)}".lower().replace("?", "").replace(",", "").split()} for text in (near, LONG)]
    assert one.question_similarity == pytest.approx(len(words[0] & words[1]) / len(words[0] | words[1]))
    assert (
        asked(trace_of(question="Why does the man in the red hat enter the shop before the bus departs?", choices=CHOICES), sample_of(LONG, CHOICES))
        == []
    )


def test_a_long_question_that_one_side_asks_openly_is_near() -> None:
    assert kinds_of(asked(trace_of(question=LONG), sample_of(LONG, CHOICES))) == [("near_question",)]
    assert kinds_of(asked(trace_of(question=LONG), sample_of(LONG))) == [("question",)]
    assert asked(trace_of(question=LONG, choices=["He is early", "He found a hat"]), sample_of(LONG, CHOICES)) == []


def test_a_question_that_anybody_asks_is_no_overlap_by_itself() -> None:
    for question in ("What happens next?", "What is the man doing in the video?"):
        assert asked(trace_of(question=question), sample_of(question)) == []
        assert asked(trace_of(question=question), sample_of(question, CHOICES)) == []
        assert asked(trace_of(question=question, choices=("He eats", "He sleeps")), sample_of(question, CHOICES)) == []
        assert kinds_of(asked(trace_of(question=question, choices=CHOICES), sample_of(question, CHOICES[::-1]))) == [("question",)]


def test_a_short_question_about_something_else_is_none_even_with_the_same_choices() -> None:
    colours = ("red", "green", "blue", "yellow", "white")
    assert asked(trace_of(question="What colour is the car?", choices=colours), sample_of("What colour is the hat?", colours)) == []
    assert kinds_of(asked(trace_of(question="The car is what colour?", choices=colours), sample_of("What colour is the car?", colours))) == [
        ("near_question",)
    ]


def test_a_question_that_anybody_asks_is_told_beside_the_same_video() -> None:
    question = "What happens next?"
    theirs = [sample_of(question, video=Path("same.mp4"), name="same"), sample_of(question, video=Path("other.mp4"), name="other")]
    overlaps = asked(trace_of(question=question, video="/mine/same.mp4"), *theirs)
    assert [(one.sample_id, one.kinds) for one in overlaps] == [("same", ("question", "video_name"))]
    video = HashedVideo(Path("other.mp4"), HashedFrames.of([noise(1), noise(2)]))
    overlaps = asked(trace_of([noise(1), noise(2)], question=question), *theirs, videos=[video])
    assert [(one.sample_id, one.kinds) for one in overlaps] == [("other", ("question", "frames"))]


_WORDS = st.lists(
    st.sampled_from(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]), min_size=5, max_size=10, unique=True
)


@given(_WORDS, st.lists(_WORDS, max_size=12))
def test_the_index_finds_what_a_comparison_of_all_pairs_finds(ours: list[str], theirs: list[list[str]]) -> None:
    expected = {}
    for number, words in enumerate(theirs):
        share = len({*ours} & {*words}) / len({*ours} | {*words})
        if share >= 0.8:
            expected[str(number)] = (share, "question" if ours == words else "near_question")
    samples = [sample_of(" ".join(words), name=str(number)) for number, words in enumerate(theirs)]
    found = asked(trace_of(question=" ".join(ours)), *samples)
    assert {one.sample_id: (one.question_similarity, *one.kinds) for one in found} == expected


# The summary


def test_the_summary_counts_traces_once_and_questions_by_benchmark() -> None:
    samples = [("a", Sample("1", Path("x.mp4"), LONG, CHOICES, "", "")), ("b", Sample("1", Path("y.mp4"), LONG, CHOICES, "", ""))]
    held_out = HeldOut([*samples, ("b", Sample("2", Path("z.mp4"), "Who?", (), "", ""))])
    traces = [trace_of(question=LONG, choices=CHOICES, video="y.mp4"), Trace("u", "u.mp4", "Where?", ())]
    overlaps = list(find_overlaps(traces, held_out))
    assert [(one.benchmark, one.kinds) for one in overlaps] == [("a", ("question",)), ("b", ("question", "video_name"))]
    told = summarise_overlaps(overlaps, len(traces), held_out)
    assert (told.traces, told.overlapping_traces, told.overlaps) == (2, 1, 2)
    assert told.traces_by_kind == {"question": 1, "near_question": 0, "frames": 0, "video_name": 1}
    assert told.benchmarks == {"a": BenchmarkOverlap(1, 1), "b": BenchmarkOverlap(2, 1)}
