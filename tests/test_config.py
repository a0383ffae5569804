"""A settings file's keys are the flags' names; unknown ones are refused by name."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from act2see.config import AskConfig, DemoConfig, EvalConfig, EvalExecutionConfig, IndexConfig, ModelConfig, RetrieveConfig, read_settings
from act2see.core.errors import ConfigError

KEYS = {"ask": {"fps", "max-looks", "save"}, "eval": {"fps", "n"}}


def _read(folder: Path, text: str) -> dict[str, dict[str, Any]]:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, KEYS)


def test_top_level_keys_hold_for_every_command_that_has_them(tmp_path: Path) -> None:
    assert _read(tmp_path, 'fps = 2\nsave = "runs/a"\n') == {"ask": {"fps": 2, "save": "runs/a"}, "eval": {"fps": 2}}


def test_a_commands_table_wins_over_the_top_level_for_that_command_alone(tmp_path: Path) -> None:
    assert _read(tmp_path, "fps = 2\n[ask]\nfps = 4\nmax-looks = 1\n") == {"ask": {"fps": 4, "max-looks": 1}, "eval": {"fps": 2}}


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("fsp = 2", "'fsp'", "did you mean 'fps'?"),
        ("max_looks = 2", "'max_looks'", "did you mean 'max-looks'?"),
        ("api-key = 'secret-value'", "'api-key'", "allowed: fps, max-looks, n, save"),
        ("[ask]\nn = 3", "'n'", "[ask]"),
        ("[aks]\nfps = 3", "'aks'", "did you mean 'ask'?"),
    ],
)
def test_an_unknown_key_is_refused_with_file_key_and_hint(tmp_path: Path, text: str, key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, text)
    message = str(caught.value)
    assert str(tmp_path / "settings.toml") in message
    assert key in message
    assert hint in message
    assert "\n" not in message
    assert "secret-value" not in message


def test_a_file_that_is_no_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"settings\.toml is not valid TOML: .*line 2"):
        _read(tmp_path, "fps = 1\nfps == 2\n")


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the settings file .*nowhere\.toml: No such file"):
        read_settings(tmp_path / "nowhere.toml", KEYS)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"cannot read the settings file .*binary\.toml"):
        read_settings(tmp_path / "binary.toml", KEYS)


@pytest.mark.parametrize("config", [ModelConfig, AskConfig, DemoConfig, EvalConfig, RetrieveConfig, IndexConfig])
def test_every_flag_has_a_default(config: type) -> None:
    assert config() == config()
    assert all("key" not in field.name.split("_") for field in fields(config))  # secrets come from the environment only


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (EvalConfig, {"n": 0}, "n is 0; it must be at least 1 and at most 1000000000"),
        (EvalConfig, {"n": -1}, "n is -1; it must be at least 1"),
        (AskConfig, {"fps": float("nan")}, "fps is nan; it must be at least 0.0001 and at most 1000"),
        (ModelConfig, {"top_p": 0}, "top_p is 0; it must be above 0 and at most 1"),
        (ModelConfig, {"temperature": 1e-6}, "temperature is 1e-06; Must be 0 (greedy), or at least 0.001."),
        (EvalConfig, {"seed": 2**63}, f"seed is {2**63}; it must be at least 0 and below {2**63}"),
        (EvalExecutionConfig, {"workers": 1001}, "workers is 1001; it must be at least 1 and at most 1000"),
        (EvalConfig, {"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        (EvalConfig, {"max_looks": True}, "max_looks is True; it must be a whole number"),
        (EvalConfig, {"frames": "blurred"}, "frames is 'blurred'; allowed are real, random, oracle, withheld, unedited"),
        (EvalConfig, {"kind": ("static", "dynamic")}, "kind is 'dynamic'; allowed are static, transient, hypothetical"),
    ],
)
def test_a_caller_in_python_is_told_the_bounds_of_the_command_line(kind: type, values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    assert str(caught.value).startswith(said)


def test_values_at_the_bounds_are_allowed() -> None:
    assert EvalConfig(n=1, seed=2**63 - 1, fps=1000, top_p=1, temperature=0, max_looks=0, kind=()).n == 1
