"""Recipes: read strictly, the shipped ones whole and with the paper's numbers, and planned for models that are known by their config alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen3VLConfig

from act2see.core.errors import ConfigError
from act2see.training import memory, models
from act2see.training.recipe import Recipe, read_recipe, recorded
from act2see.training.sources import Item, Survey

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(RECIPES.glob("act2see-*.toml"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("learning_rates = 1", "unknown key 'learning_rates'; did you mean 'learning_rate'?"),
        ("zzz = 1", "unknown key 'zzz'; allowed: accumulation, "),
        ('model = "m"\nepochs = 1.5', "epochs is 1.5 where a whole number is expected"),
        ('model = "m"\nsharded = 1', "sharded is 1 where true or false is expected"),
        ("model = 8", "model is 8 where a text is expected"),
        ('model = "m"\nlearning_rate = "high"', 'learning_rate is "high" where a number is expected'),
        ('model = "m"\nmethod = "rl"', 'method is "rl"; known are full, lora, qlora'),
        ('model = "m"\nparts = ["ears"]', 'parts[0] is "ears"; known are language, projector, vision'),
        ('model = "m"\nparts = "vision"', 'parts is "vision" where a list is expected'),
        ('model = "m"\nparts = []', "parts is empty"),
        ('model = "m"\nbatch_size = 0', "batch_size is 0; it must be at least 1"),
        ('model = "m"\nlearning_rate = 0', "learning_rate is 0; it must be above 0"),
        ('model = "m"\nwarmup = 1', "warmup is 1; it must be below 1"),
        ('model = "m"\nworkers = -1', "workers is -1; it must not be negative"),
        ('model = "m"\nmethod = "qlora"\nsharded = true', "sharded cannot be combined with method qlora"),
        ("seed = 1", "has no model"),
        ("model = ", "is not valid TOML"),
    ],
)
def test_a_recipe_is_read_strictly(tmp_path: Path, text: str, complaint: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(str(path)) or complaint == "has no model"
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the recipe .*: No such file"):
        read_recipe(tmp_path / "nowhere.toml")


def test_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'model = "a"\ndata = ["x", "y"]\nlearning_rate = 1\nparts = ["vision", "language"]')
    assert read_recipe(path) == Recipe("a", ("x", "y"), learning_rate=1.0, parts=("vision", "language"))
    assert read_recipe(path, {"model": "b", "data": ("z",)}).model == "b"


def test_what_changes_no_result_is_not_recorded() -> None:
    assert recorded(Recipe("m")) == recorded(Recipe("m", ("run",), workers=7, save_every=3, memory_gib=24.0))
    assert recorded(Recipe("m")) != recorded(Recipe("m", accumulation=2))
    json.dumps(recorded(Recipe("m")))


def test_the_papers_numbers() -> None:
    paper = read_recipe(RECIPES / "act2see-8b.toml")
    assert (paper.model, paper.method, paper.learning_rate) == ("Qwen/Qwen3-VL-8B-Thinking", "lora", 2.5e-6)
    assert (paper.batch_size, paper.epochs, paper.rendering, paper.probe_max_looks) == (1, 1, "same_turn", 1)
    assert len(SHIPPED) == 4


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_number_has_its_source(path: Path) -> None:
    read_recipe(path)
    settings = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all("# paper" in line or "# our choice" in line or "# the card" in line for line in settings)


# Plans

SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "8b": (
        {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36},
        {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 4096},
        False,
    ),
    "4b": (
        {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36},
        {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2560},
        True,
    ),
}


def known_by_config(folder: Path, name: str) -> Path:
    text, vision, tied = SHAPES[name]
    heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}
    Qwen3VLConfig(text_config={**text, **heads}, vision_config=vision, tie_word_embeddings=tied).save_pretrained(folder)
    return folder


def survey_of(tokens: int, labelled: int, count: int = 3373) -> Survey:
    item: Any = Item(None, None, "t", None, tokens, labelled, tokens * 4)  # type: ignore[arg-type]
    return Survey((item,) * count)


def planned(recipe: Recipe, found: Survey, world: int = 1) -> memory.Plan:
    return memory.plan(models.prepare(models.outline(recipe), recipe), found, recipe, world)


def test_a_plan_needs_no_weights(tmp_path: Path) -> None:
    recipe = replace(read_recipe(RECIPES / "act2see-8b.toml"), model=str(known_by_config(tmp_path, "8b")), memory_gib=80.0)
    plan = planned(recipe, survey_of(16000, 600))
    adapters = 36 * 32 * ((4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 12288) * 3)
    assert plan.trained == adapters
    assert plan.parameters == pytest.approx(8.77e9 + adapters, rel=0.002)
    assert plan.steps == 3373
    assert plan.memory["weights"] == pytest.approx((8.77e9 * 2 + adapters * 4) / 2**30, rel=0.01)
    plan.check()
    assert planned(recipe, survey_of(16000, 600), world=8).steps == 422
    full = planned(replace(recipe, method="full"), survey_of(16000, 600))
    with pytest.raises(ConfigError, match=r"GiB and 80.0 are available; the largest part is training"):
        full.check()
    shared = planned(replace(recipe, method="full", sharded=True), survey_of(16000, 600), world=8)
    assert shared.needed < full.needed / 3
    shared.check()


def test_four_bits_fit_a_small_card(tmp_path: Path) -> None:
    recipe = replace(read_recipe(RECIPES / "act2see-4b-qlora.toml"), model=str(known_by_config(tmp_path, "4b")))
    found = survey_of(16384, 600)
    in_4_bits = planned(recipe, found)
    in_4_bits.check()
    in_16_bits = planned(replace(recipe, method="lora", optimizer="adamw_torch"), found)
    assert in_16_bits.memory["weights"] > 2 * in_4_bits.memory["weights"]
    with pytest.raises(ConfigError, match="the largest part is activations"):
        planned(replace(recipe, gradient_checkpointing=False), found).check()


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(Exception, match="is a model of type 'gpt2': transformers has no model of that type that reads pictures and text; local"):
        models.outline(Recipe(str(tmp_path)))
