"""A preset's values come below flags and settings files, are recorded resolved, and change nothing where none is named."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from act2see import cli
from act2see.config import (
    PAPER,
    AskConfig,
    ConstructConfig,
    EvalConfig,
    FilterConfig,
    ModelConfig,
    TrainConfig,
    recorded,
    resolved,
    with_preset,
)
from act2see.core.errors import ConfigError
from act2see.training import application
from act2see.training.recipe import Recipe, read_recipe
from act2see.training.recipe import recorded as recorded_recipe

_KINDS = {"ask": AskConfig, "eval": EvalConfig, "construct": ConstructConfig, "filter": FilterConfig, "train": Recipe}
MICRO = ("--backend", "micro", "--retriever", "micro", "--generator", "micro")


def test_every_value_names_an_option_of_its_commands_and_says_where_it_is_from() -> None:
    for one in PAPER:
        for command in one.commands:
            assert one.field in {field.name for field in fields(_KINDS[command])}, one.field
        assert one.source


def test_the_papers_settings_are_all_there() -> None:
    made = with_preset(EvalConfig, "paper")
    assert (made.fps, made.retrieve_fps, made.select, made.max_looks, made.judge) == (1.0, 3.0, "middle", 1, "none")
    assert (made.retriever, made.generator) == ("blip2:Salesforce/blip2-itm-vit-g-coco", "diffusers:sd3.5-large")
    assert made.max_frames is None
    assert with_preset(EvalConfig, "paper", benchmark="videoespresso").max_frames == 3
    assert with_preset(FilterConfig, "paper", out=Path("x")).sample == 100
    teacher = with_preset(ConstructConfig, "paper")
    assert (teacher.backend, teacher.again, teacher.rendering) == ("openai:gemini-2.5-pro", 2, "auto")


def test_what_is_given_wins_even_if_it_is_the_default() -> None:
    made = with_preset(AskConfig, "paper", max_looks=3, select="grounding")
    assert (made.max_looks, made.select, made.retrieve_fps, made.preset) == (3, "grounding", 3.0, "paper")


def test_strengths_are_those_of_the_papers_generator_alone() -> None:
    assert with_preset(EvalConfig, "paper").strengths == (0.6,)
    assert with_preset(EvalConfig, "paper", generator="micro").strengths == ()


def test_the_teachers_address_is_not_used_with_another_teacher() -> None:
    assert with_preset(ConstructConfig, "paper").base_url is not None
    assert with_preset(ConstructConfig, "paper", backend="openai:other").base_url is None


@pytest.mark.parametrize("kind", [AskConfig, EvalConfig, ConstructConfig])
def test_a_preset_that_is_only_named_is_refused(kind: type[ModelConfig]) -> None:
    with pytest.raises(ConfigError, match=rf"none of its values is set: make the options with with_preset\({kind.__name__}, 'paper'\)"):
        kind(preset="paper")


def test_unknown_presets_and_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'peper'; allowed: paper"):
        with_preset(AskConfig, "peper")
    with pytest.raises(ConfigError, match="AskConfig has no option 'n'"):
        with_preset(AskConfig, "paper", n=3)


def test_a_mapping_may_name_the_preset() -> None:
    assert resolved(EvalConfig, {"n": 3}) == EvalConfig(n=3)
    assert resolved(EvalConfig, {"n": 3, "preset": "paper"}) == with_preset(EvalConfig, "paper", n=3)


def test_the_name_is_recorded_only_if_there_is_one() -> None:
    assert "preset" not in recorded(EvalConfig(), ())
    assert recorded(with_preset(EvalConfig, "paper"), ())["preset"] == "paper"
    assert "preset" not in recorded_recipe(Recipe("m"))


# On the command line


def _evaluated(out: Path, *flags: str) -> dict[str, object]:
    assert cli.main(["eval", "synthetic", "--n", "1", "--out", str(out), *flags]) == 0
    config: dict[str, object] = json.loads((out / "run.json").read_text(encoding="utf-8"))["config"]
    return config


def test_eval_records_the_preset_and_the_resolved_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _evaluated(tmp_path / "run", "--preset", "paper", *MICRO)
    assert {name: config[name] for name in ("preset", "select", "max_looks", "retriever", "judge", "strengths")} == {
        "preset": "paper",
        "select": "middle",
        "max_looks": 1,
        "retriever": "micro",
        "judge": "none",
        "strengths": [],
    }
    assert "@3fps+middle" in (tmp_path / "run" / "traces.jsonl").read_text(encoding="utf-8")
    assert "deprecated" not in capsys.readouterr().err


def test_a_settings_file_is_above_the_preset_and_flags_above_both(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('preset = "paper"\nmax-looks = 2\nselect = "argmax"\nretrieve-fps = 2\n', encoding="utf-8")
    flags = ("--select", "top_k", "-o", "judge=auto")
    config = _evaluated(tmp_path / "run", "--config", str(settings), *MICRO, *flags)
    assert [config[name] for name in ("preset", "max_looks", "select", "retrieve_fps", "judge", "insert")] == ["paper", 2, "top_k", 2, "auto", 0]


def test_an_unknown_preset_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", "synthetic", "--preset", "peper"]) == 2
    assert "--preset" in capsys.readouterr().err


# Training


def test_a_recipe_wins_over_the_preset_and_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("learning_rate = 1e-3\n", encoding="utf-8")
    made = read_recipe(path, {"preset": "paper"})
    assert (made.model, made.learning_rate, made.epochs, made.rendering) == ("Qwen/Qwen3-VL-8B-Thinking", 1e-3, 1, "same_turn")
    assert read_recipe(None, {"preset": "paper", "model": "m"}).model == "m"
    assert recorded_recipe(made)["preset"] == "paper"
    with pytest.raises(ConfigError, match="missing recipe: name a TOML file"):
        application.train(None, TrainConfig(dry_run=True))


# The page


def test_the_page_lists_every_value_with_its_source() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (Path(__file__).parents[1] / "docs" / "paper.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    listed = {(row[0], row[2].replace("`", ""), row[3]) for row in rows if len(row) == 4}
    for one in PAPER:
        commands = ", ".join(name for name in _KINDS if name in one.commands) + (f" {one.benchmark}" if one.benchmark else "")
        value = one.value
        told = "off" if value is False else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value).removesuffix(".0")
        assert (commands, told, one.source) in listed, one.field
