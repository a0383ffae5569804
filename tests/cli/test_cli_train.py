"""`train` by the embedded model's recipe: what is told before, and what is kept when it is stopped. The parts themselves are tests/training's."""

import json
from pathlib import Path

import pytest

from act2see.config import MicroVlmConfig
from act2see.training.micro import vlm as micro_vlm
from cli_fakes import Act2See

RECIPE = """
[[curriculum]]
part = "look"
steps = 1200
batches = 2
learning_rate = 2.0e-3

[[curriculum]]
part = "see"
steps = 3
learning_rate = 1.0e-3
seed = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def finish(config: MicroVlmConfig) -> Path:
    """A part that is trained at once: the folder of a model, without weights."""
    model = config.out / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}", encoding="utf-8")
    return model


def test_a_dry_run_says_what_each_part_would_take(act2see: Act2See, recipe: Path) -> None:
    told = act2see("train", recipe, "--dry-run")
    assert told.code == 0
    assert told.out.splitlines() == [
        "look: 1,200 steps of 2 batches at a learning rate of 0.002, seed 0",
        "see: 3 steps of as many batches as processes at a learning rate of 0.001, seed 1",
    ]
    parts = json.loads(act2see("train", recipe, "--dry-run", "--json").out)["parts"]
    assert [(part["part"], part["steps"], part["batches"], part["seed"]) for part in parts] == [("look", 1200, 2, 0), ("see", 3, None, 1)]


def test_it_takes_no_data_and_no_base(act2see: Act2See, recipe: Path) -> None:
    assert "remove --data, --model and --preset" in act2see("train", recipe, "--data", "run", "--out", "out").complaint


def test_json_is_the_folder_of_the_last_part(act2see: Act2See, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro_vlm, "train", finish)
    told = act2see("train", recipe, "--out", "out", "--json")
    assert json.loads(told.out) == {"folder": str(Path("out/2-see/model"))}


def test_what_was_trained_before_ctrl_c_is_kept_and_gone_on_with(act2see: Act2See, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_at_the_second(config: MicroVlmConfig) -> Path:
        if config.part == "see":
            raise KeyboardInterrupt
        return finish(config)

    monkeypatch.setattr(micro_vlm, "train", stop_at_the_second)
    stopped = act2see("train", recipe, "--out", "out", "--json")
    assert stopped.code == 130
    assert "the parts and checkpoints in out are kept: continue with --resume" in stopped.err
    monkeypatch.setattr(micro_vlm, "train", finish)
    assert "continue it with --resume" in act2see("train", recipe, "--out", "out", "--json").complaint
    gone_on = act2see("train", recipe, "--out", "out", "--json", "--resume")
    assert gone_on.code == 0
    assert "part 1 of 2" not in gone_on.err
    assert "part 2 of 2" in gone_on.err
