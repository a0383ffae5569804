"""Every number that a command takes has two bounds: infinity, what is no number, and what no clock or counter takes is one line."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from cyclopts import CycloptsError, Parameter

from act2see.cli import SETTINGS_OF, app
from act2see.core.errors import ConfigError
from act2see.training.recipe import read_recipe
from cli_fakes import Act2See

ARGUMENTS = {
    "ask": ("clip.mp4", "What?"),
    "retrieve": ("clip.mp4", "star"),
    "generate": ("clip.mp4", "a star"),
    "index": ("clip.mp4",),
    "demo": (),
    "filter": ("run", "--out", "out"),
    "contamination": ("run", "--against", "synthetic"),
    "synthetic": ("folder",),
    "export": ("run", "--format", "trl", "--out", "out"),
    "chat": ("clip.mp4",),
    "mcp": ("folder",),
    "reproduce": (),
    "serve": (),
    "ui": (),
    "view": ("run",),
    "merge": ("model", "adapter", "--out", "out"),
    "eval": ("synthetic",),
    "audit": ("synthetic",),
    "construct": ("synthetic",),
    "train micro-vlm": ("--out", "out"),
    "train micro-retriever": ("--out", "out"),
    "train micro-generator": ("--out", "out"),
}
BAD_FLOATS = ("nan", "inf", "-1e300")
BAD_INTEGERS = (str(10**30), "-1")


def numbers(hint: Any) -> set[type]:
    """The kinds of numbers in an annotation."""
    parts = get_args(hint)
    return {kind for part in parts for kind in numbers(part)} if parts else {hint} & {int, float}


def flags() -> Iterator[tuple[str, str, type]]:
    for command, classes in SETTINGS_OF.items():
        for one in classes if isinstance(classes, tuple) else (classes,):
            hints = get_type_hints(one, include_extras=True)
            for field in fields(one):
                for kind in numbers(hints[field.name]):
                    given = [list(note.name) for note in getattr(hints[field.name], "__metadata__", ()) if isinstance(note, Parameter) and note.name]
                    yield command, given[0][0] if given else f"--{field.name.replace('_', '-')}", kind


FLAGS = list({(flag, kind): (command, flag, kind) for command, flag, kind in flags()}.values())
"""Each flag once, in one of its commands."""


def test_the_flags_are_found() -> None:
    assert len(FLAGS) > 40
    assert {"--temperature", "--request-retries", "--requests-per-minute", "--learning-rate"} <= {flag for _, flag, _ in FLAGS}


@pytest.mark.parametrize(("command", "flag", "kind"), FLAGS)
def test_no_number_out_of_range_gets_through(command: str, flag: str, kind: type) -> None:
    for value in BAD_FLOATS if kind is float else BAD_INTEGERS:
        with pytest.raises(CycloptsError, match=flag.removeprefix("--")):
            app.parse_args([*command.split(), *ARGUMENTS[command], f"{flag}={value}"], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("value", ["1e-40", "0.0001", "101", "-0.1"])
def test_no_temperature_that_no_model_can_divide_by(act2see: Act2See, value: str) -> None:
    assert "--temperature" in act2see("ask", "clip.mp4", "What?", f"--temperature={value}").err


def test_what_is_meant_gets_through(act2see: Act2See) -> None:
    for given in ("--temperature=0", "--temperature=0.7", "--seed=4294967296", "--fps=0.01", "--timeout-seconds=3600", "--top-p=1"):
        assert "no such file: clip.mp4" in act2see("ask", "clip.mp4", "What?", given).complaint


def test_sizes_of_the_cache_and_seeds_of_a_comparison(act2see: Act2See) -> None:
    assert act2see("cache", "prune", "--max-size", "9" * 400 + "GB").code == 2
    assert act2see("compare", "a", "b", "--seed=-1").code == 2


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1" + "0" * 400, "1" + "0" * 5000])
def test_nor_through_a_settings_file(act2see: Act2See, tmp_path: Path, value: str) -> None:
    (tmp_path / "own.toml").write_text(f"temperature = {value}\n")
    done = act2see("ask", "clip.mp4", "What?", "--config", "own.toml")
    assert (done.code in (1, 2), done.out, done.err.count("\n")) == (True, "", 1)
    assert "own.toml" in done.err
    assert "internal error" not in done.err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "nan"),
        ("learning_rate", "inf"),
        ("weight_decay", "nan"),
        ("max_grad_norm", "-1.0"),
        ("lora_dropout", "1.0"),
        ("warmup", "nan"),
        ("memory_gib", "inf"),
        ("probe_fps", "0.0"),
        ("probe_fps", "nan"),
        ("seed", "-1"),
        ("epochs", "1" + "0" * 400),
        ("learning_rate", "1" + "0" * 400),
    ],
)
def test_nor_through_a_recipe(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'model = "somebody/model"\n{name} = {value}\n')
    with pytest.raises(ConfigError, match=f"{name} is .*(; it must|is expected)"):
        read_recipe(path)


def test_settings_files_of_any_shape_are_one_line(act2see: Act2See, tmp_path: Path) -> None:
    deep = "a = " + "[" * 5000 + "]" * 5000
    for content in (
        deep,
        'report = "a\\u0000b"',
        "ask = 3",
        "[ask]\nchoices = {a = 1}",
        "fps = [1, 2]",
        "[[ask]]\nfps = 1",
        "fps = 1979-05-27",
        "\ufeffx",
    ):
        (tmp_path / "own.toml").write_text(content)
        done = act2see("ask", "clip.mp4", "What?", "--config", "own.toml")
        assert (done.code in (1, 2), done.out, done.err.count("\n")) == (True, "", 1), content[:40]
        assert "internal error" not in done.err
        assert "own.toml" in done.err
    (tmp_path / "latin.toml").write_bytes(b"report = '\xff'")
    (tmp_path / "large.toml").write_text("#" * (1 << 21))
    for name, said in (
        ("latin.toml", "cannot read"),
        ("large.toml", "the limit is 1,048,576"),
        (".", "not a regular file"),
        ("/dev/zero", "not a regular file"),
    ):
        assert said in act2see("ask", "clip.mp4", "What?", "--config", name).complaint


def test_a_settings_file_that_may_not_be_looked_at_is_a_note(act2see: Act2See, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", f"/{'n' * 300}")
    done = act2see("ask", "clip.mp4", "What?")
    assert done.code == 1
    assert f"note: cannot read settings from /{'n' * 300}/act2see/config.toml: File name too long" in done.err


@pytest.mark.parametrize("value", ["1.5", "-0.25", ".5"])
def test_a_fraction_is_no_whole_number(act2see: Act2See, value: str) -> None:
    Path("settings.toml").write_text(f"seed = {value if value[0] != '.' else '0.5'}\n", encoding="utf-8")
    for given in (("--seed", value), ("--config", "settings.toml")):
        done = act2see("ask", "clip.mp4", "What?", *given)
        assert done.code == 1
        assert done.complaint.endswith("; it must be a whole number\n")
    assert "no such file" in act2see("ask", "clip.mp4", "What?", "--seed", "2.0").complaint
