"""Training as one call: what is refused first, what a dry run returns, which events are reported, and how it is interrupted."""

import logging
from pathlib import Path

import pytest

from act2see.config import MicroVlmConfig, TrainConfig
from act2see.core.errors import ConfigError, StoreError
from act2see.training.application import CurriculumResult, needs_training_packages, train
from act2see.training.micro import vlm
from act2see.training.progress import PartStarted, TrainEvent

CURRICULUM = '[[curriculum]]\npart = "look"\nsteps = 3\nlearning_rate = 1.0e-3\n[[curriculum]]\npart = "see"\nsteps = 5\nlearning_rate = 2.0e-3\n'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(CURRICULUM, encoding="utf-8")
    return path


def trained_at_once(config: MicroVlmConfig) -> Path:
    model = config.out / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}", encoding="utf-8")
    return model


def interrupted(config: MicroVlmConfig) -> Path:
    raise KeyboardInterrupt


def test_an_output_folder_is_needed_but_for_a_dry_run(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="missing --out"):
        train(recipe, TrainConfig())
    result = train(recipe, TrainConfig(dry_run=True))
    assert isinstance(result, CurriculumResult)
    assert [(part.part, part.steps) for part in result.parts] == [("look", 3), ("see", 5)]
    assert result.folder is None


def test_a_dry_run_writes_nothing_even_with_an_output_folder(recipe: Path, tmp_path: Path) -> None:
    assert train(recipe, TrainConfig(out=tmp_path / "out", dry_run=True)).folder is None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [TrainConfig(data=("run",), dry_run=True), TrainConfig(model="base", dry_run=True)])
def test_a_curriculum_takes_neither_data_nor_a_base_model(recipe: Path, options: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="remove --data, --model and --preset"):
        train(recipe, options)


@pytest.mark.parametrize(("rank", "reported"), [("0", [PartStarted(1, 2, "look", 3), PartStarted(2, 2, "see", 5)]), ("1", [])])
def test_the_main_process_alone_reports_progress(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, reported: list[TrainEvent]
) -> None:
    monkeypatch.setattr(vlm, "train", trained_at_once)
    monkeypatch.setenv("RANK", rank)
    events: list[TrainEvent] = []
    result = train(recipe, TrainConfig(out=tmp_path / "out"), progress=events.append)
    assert result.folder == tmp_path / "out" / "2-see" / "model"
    assert events == reported


def test_an_interrupted_training_says_what_is_kept(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vlm, "train", interrupted)
    with caplog.at_level(logging.WARNING, "act2see"), pytest.raises(KeyboardInterrupt):
        train(recipe, TrainConfig(out=tmp_path / "out"))
    assert caplog.messages == [f"the parts and checkpoints in {tmp_path / 'out'} are kept: continue with --resume"]


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(ConfigError, match=r"training needs peft: pip install 'act2see\[train\]'"), needs_training_packages():
        raise ModuleNotFoundError("No module named 'peft.tuners'", name="peft.tuners")
    with pytest.raises(ModuleNotFoundError), needs_training_packages():
        raise ModuleNotFoundError("No module named 'mine'", name="mine")


def test_a_second_training_in_the_same_folder_is_refused(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    refused = []

    def beside(config: MicroVlmConfig) -> Path:
        with pytest.raises(StoreError, match=r"out is being worked on by process \d+ .*: wait for it, or give another folder$") as caught:
            train(recipe, TrainConfig(out=out, resume=True))
        refused.append(caught)
        return trained_at_once(config)

    monkeypatch.setattr(vlm, "train", beside)
    train(recipe, TrainConfig(out=out))
    assert len(refused) == 2
    train(recipe, TrainConfig(out=out, resume=True))  # what was given back is free
