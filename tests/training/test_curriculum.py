"""The embedded model's recipe: read strictly, its parts one after the other, and nothing done twice."""

from pathlib import Path

import pytest

from act2see.config import MicroVlmConfig
from act2see.core.errors import ConfigError
from act2see.training.micro.curriculum import Part, is_curriculum, read_curriculum, train
from act2see.training.progress import PartStarted, TrainEvent

SHIPPED = Path(__file__).parents[2] / "recipes" / "micro.toml"
PARTS = (Part("see", 3, 1e-3), Part("ask", 2, 2e-3, batches=2, seed=4))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


class Fits:
    """Writes a model's folder for each part; the one that `stops` is interrupted before it is done."""

    def __init__(self, stops: str | None = None) -> None:
        self.stops, self.asked = stops, list[MicroVlmConfig]()

    def __call__(self, config: MicroVlmConfig) -> Path:
        self.asked.append(config)
        if config.part == self.stops:
            raise KeyboardInterrupt
        model = config.out / "model"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}", encoding="utf-8")
        return model


def test_the_shipped_recipe_goes_through_the_whole_curriculum() -> None:
    assert is_curriculum(SHIPPED)
    assert [part.part for part in read_curriculum(SHIPPED)] == ["look", "see", "ask", "imagine", "imagine"]


def test_a_recipe_of_fine_tuning_is_none_nor_is_what_cannot_be_read(tmp_path: Path) -> None:
    assert not is_curriculum(SHIPPED.with_name("act2see-8b.toml"))
    assert not is_curriculum(tmp_path / "none.toml")
    assert not is_curriculum(written(tmp_path, "no toml ["))


GOOD = '[[curriculum]]\npart = "see"\nsteps = 3\nlearning_rate = 1.0e-3\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "step = 3\n", "unknown key in part 1 'step'; did you mean 'steps'"),
        ("model = 'x'\n" + GOOD, "unknown key 'model'"),
        ("curriculum = 3\n", "write a table"),
        ("curriculum = []\n", "write a table"),
        (GOOD.replace('"see"', '"hear"'), 'part is "hear"; known are ask, imagine, look, see'),
        (GOOD.replace("steps = 3\n", ""), 'part 1: the field "steps" is missing'),
        (GOOD.replace("= 3", "= 0"), "steps is 0 where a whole number of at least 1 is expected"),
        (GOOD + "batches = 0\n", "batches is 0 where a whole number of at least 1 is expected"),
        (GOOD.replace("= 3", "= true"), "steps is true where a whole number of at least 1 is expected"),
        (GOOD.replace("1.0e-3", "0.0"), "learning_rate is 0.0 where a number above 0 is expected"),
        (GOOD.replace("1.0e-3", '"fast"'), 'learning_rate is "fast" where'),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_curriculum(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_each_part_begins_with_the_weights_of_the_one_before(tmp_path: Path) -> None:
    fits, events = Fits(), list[TrainEvent]()
    assert train(PARTS, tmp_path / "out", resume=False, train_part=fits, progress=events.append) == tmp_path / "out" / "2-ask" / "model"
    first, second = fits.asked
    assert (first.part, first.steps, first.learning_rate, first.batches, first.seed, first.start_from) == ("see", 3, 1e-3, None, 0, None)
    assert (second.part, second.steps, second.learning_rate, second.batches, second.seed) == ("ask", 2, 2e-3, 2, 4)
    assert second.start_from == tmp_path / "out" / "1-see" / "model"
    assert events == [PartStarted(1, 2, "see", 3), PartStarted(2, 2, "ask", 2)]


def test_what_is_finished_is_passed_over_and_what_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(PARTS, tmp_path, resume=False, train_part=Fits(stops="ask"))
    fits = Fits()
    assert train(PARTS, tmp_path, resume=True, train_part=fits) == tmp_path / "2-ask" / "model"
    assert [config.part for config in fits.asked] == ["ask"]
    assert train(PARTS, tmp_path, resume=True, train_part=fits) == tmp_path / "2-ask" / "model"
    assert len(fits.asked) == 1


def test_a_part_that_the_recipe_has_gained_is_trained_from_the_weights_that_are_there(tmp_path: Path) -> None:
    train(PARTS[:1], tmp_path, resume=False, train_part=Fits())
    fits = Fits()
    assert train(PARTS, tmp_path, resume=True, train_part=fits) == tmp_path / "2-ask" / "model"
    assert [(config.part, config.start_from) for config in fits.asked] == [("ask", tmp_path / "1-see" / "model")]


def test_a_folder_with_a_training_is_not_written_over(tmp_path: Path) -> None:
    train(PARTS, tmp_path, resume=False, train_part=Fits())
    fits = Fits()
    with pytest.raises(ConfigError, match="continue it with --resume"):
        train(PARTS, tmp_path, resume=False, train_part=fits)
    with pytest.raises(ConfigError, match="by another recipe"):
        train(PARTS[:1], tmp_path, resume=True, train_part=fits)
    assert fits.asked == []


def test_a_second_process_trains_with_the_first_and_looks_at_nothing(tmp_path: Path) -> None:
    train(PARTS, tmp_path, resume=False, train_part=Fits(stops=None))
    (tmp_path / "2-ask" / "model" / "config.json").unlink()
    (tmp_path / "2-ask" / "model").rmdir()
    fits = Fits()
    train(PARTS, tmp_path, resume=False, train_part=fits, is_main=False)
    assert [config.part for config in fits.asked] == ["ask"]
