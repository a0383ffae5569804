"""The patch cache: exactly the processor's numbers, computed once, within its size limit, and robust against a damaged folder."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from act2see.training.micro.model import make_image_processor
from act2see.training.patches import CachedImageProcessor


class Counted:
    """An image processor that counts how often it is asked."""

    def __init__(self, **changes: Any) -> None:
        self.real = make_image_processor(pixels=96 * 96)
        for name, value in changes.items():
            setattr(self.real, name, value)
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __call__(self, **given: Any) -> Any:
        self.asked += 1
        return self.real(**given)


def picture(seed: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


@pytest.mark.parametrize("size", [(80, 60), (33, 200), (96, 96), (400, 300)])
def test_what_comes_back_is_what_the_processor_gives(tmp_path: Path, size: tuple[int, int]) -> None:
    counted = Counted()
    kept = CachedImageProcessor(counted, tmp_path, 1 << 20)
    expected = counted.real(images=[picture(1, size)], return_tensors="np")
    for _ in range(3):
        made = kept(images=[picture(1, size)], return_tensors="np")
        assert made["pixel_values"].dtype == np.float32
        assert np.array_equal(made["pixel_values"], expected["pixel_values"])
        assert np.asarray(made["image_grid_thw"]).tolist() == np.asarray(expected["image_grid_thw"]).tolist()
    assert (counted.asked, kept.hits) == (1, 2)


def test_pictures_and_sizes_are_told_apart(tmp_path: Path) -> None:
    counted = Counted()
    kept = CachedImageProcessor(counted, tmp_path, 1 << 20)
    for image in (picture(1), picture(2), picture(1).transpose(Image.Transpose.ROTATE_90)):
        kept(images=[image])
    assert (counted.asked, kept.hits) == (3, 0)
    smaller = Counted()
    smaller.real.size = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32}
    assert len(CachedImageProcessor(smaller, tmp_path, 1 << 20)(images=[picture(1)])["pixel_values"]) < len(kept(images=[picture(1)])["pixel_values"])
    assert smaller.asked == 1


def test_there_is_never_more_than_there_is_room_for(tmp_path: Path) -> None:
    kept = CachedImageProcessor(Counted(), tmp_path, 200_000)
    for seed in range(12):
        kept(images=[picture(seed)])
    assert 0 < sum(path.stat().st_size for path in tmp_path.iterdir()) < 202_000
    assert len(list(tmp_path.iterdir())) < 12


def test_what_would_come_back_otherwise_is_not_kept(tmp_path: Path) -> None:
    counted = Counted(image_mean=[0.48, 0.45, 0.40], image_std=[0.26, 0.26, 0.27])
    kept = CachedImageProcessor(counted, tmp_path, 1 << 20)
    first, second = (kept(images=[picture(1)])["pixel_values"] for _ in range(2))
    assert np.array_equal(first, second)
    assert (counted.asked, kept.hits) == (2, 0)
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    counted = Counted()
    kept = CachedImageProcessor(counted, tmp_path, 1 << 20)
    expected = kept(images=[picture(1)])["pixel_values"]
    [path] = tmp_path.iterdir()
    for content in (path.read_bytes()[:200], b"", b"not an archive"):
        path.write_bytes(content)
        assert np.array_equal(kept(images=[picture(1)])["pixel_values"], expected)
    assert kept.hits == 0
    kept(images=[picture(1)])
    assert kept.hits == 1


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    kept = CachedImageProcessor(Counted(), tmp_path / "file" / "patches", 1 << 20)
    assert len(kept(images=[picture(1)])["pixel_values"])


def test_it_goes_into_another_process_and_passes_on_all_else(tmp_path: Path) -> None:
    processor: Any = make_image_processor()
    kept = CachedImageProcessor(processor, tmp_path, 1 << 20)
    other = pickle.loads(pickle.dumps(kept))  # noqa: S301 - our own object
    assert other.merge_size == kept.merge_size == 2
    assert np.array_equal(other(images=[picture(3)])["pixel_values"], kept(images=[picture(3)])["pixel_values"])
    assert kept.hits == 1
