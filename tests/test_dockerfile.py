"""The Dockerfile's steps, as far as they can be run without Docker: what it copies is there and enough to build, and what it installs exists."""

import fnmatch
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = [line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
DOCS = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")


def steps(instruction: str) -> list[str]:
    return [line.removeprefix(instruction).strip() for line in LINES if line.startswith(f"{instruction} ")]


def defaults() -> dict[str, str]:
    return dict(one.split("=", 1) for one in steps("ARG") if "=" in one)


def filled(text: str) -> str:
    without_empty = re.sub(r"\$\{(\w+):\+(.*?\$\{\w+\})\}", lambda one: one[2] if defaults()[one[1]] else "", text)
    return re.sub(r"\$\{(\w+)\}", lambda name: defaults()[name[1]], without_empty)


def copied() -> list[str]:
    return [source for one in steps("COPY") if "--from" not in one for source in one.split()[:-1]]


def test_torch_is_installed_first_and_by_the_version_of_the_makefile() -> None:
    installs = [shlex.split(filled(one)) for one in steps("RUN") if " install " in one]
    (version,) = re.findall(r"install --quiet (torch==\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert version in installs[0]
    assert installs[0][-1] == version
    assert [one for one in installs[1] if one.startswith(".")] == [f".[{defaults()['EXTRAS']}]"]


@pytest.mark.parametrize("extras", [defaults()["EXTRAS"], *re.findall(r'EXTRAS[=:] ?"?([\w,]+)', DOCS)])
def test_every_extra_is_one(extras: str) -> None:
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_interpreter_is_one_that_the_project_runs_on() -> None:
    assert PROJECT["requires-python"] == f">={defaults()['PYTHON']}"


def test_the_program_runs_as_a_user_without_rights() -> None:
    assert steps("USER") == ["act2see"]
    assert LINES.index("USER act2see") > max(number for number, line in enumerate(LINES) if line.startswith(("RUN", "COPY")))
    assert not re.search(r"KEY|TOKEN|PASSWORD", "\n".join(LINES))


def test_the_context_is_what_is_copied_and_nothing_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(line[1:] for line in rules if line.startswith("!")) == sorted(copied())
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    assert any(fnmatch.fnmatch("src/a/__pycache__", rule) for rule in rules[1:])


def test_the_entry_point_is_the_projects_script() -> None:
    assert steps("ENTRYPOINT") == [f'["{next(iter(PROJECT["scripts"]))}"]']


@pytest.mark.slow
def test_what_is_copied_is_enough_to_build_the_package(tmp_path: Path) -> None:
    """The step `pip install .` with nothing around but the copied files; what it depends on is left out."""
    context = tmp_path / "context"
    context.mkdir()
    for name in copied():
        subprocess.run(["cp", "-r", ROOT / name, context / name], check=True)
    build = [sys.executable, "-c", "import hatchling.build as build; print(build.build_wheel('.'))"]
    wheel = subprocess.run(build, cwd=context, capture_output=True, text=True, check=True).stdout.split()[-1]
    names = zipfile.ZipFile(context / wheel).namelist()
    assert {"act2see/report/trace.css", "act2see/core/templates/chat_template.jinja", "act2see/synthetic/demo/clip-1.mp4"} <= set(names)
    assert any(name.startswith("act2see/micro/vlm/") for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)
