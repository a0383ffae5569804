"""What is shipped and what it is tested with: the wheel runs alone, the bounds are those that the lock knows, and the lock names no place."""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import act2see

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


NOT_LOCKED = ("browser", "faiss", "ray-serve", "speech", "text", "ui", "vllm")
"""Extras that no check needs: fakes stand for them in the tests."""


def asked_for(*, locked: bool = True) -> Iterator[Requirement]:
    """Every requirement of the project and of its extras, but the project's own; those of the extras that are not locked apart."""
    extras = [some for name, some in PROJECT["project"]["optional-dependencies"].items() if (name in NOT_LOCKED) != locked]
    found = (Requirement(one) for some in ((PROJECT["project"]["dependencies"] if locked else ()), *extras) for one in some)
    return (one for one in found if one.name != "act2see")


def locked() -> dict[str, list[Version]]:
    """The versions in the lock, by name; two where they depend on the Python."""
    found: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)==(\S+)", LOCK, re.MULTILINE):
        found.setdefault(name, []).append(Version(version))
    return found


# The lock


def test_the_lock_holds_hashes_and_no_place() -> None:
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(entries) > 100
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9.-]+==[^\s;]+( ; [^\\]+)?( \\\n +--hash=sha256:[0-9a-f]{64})+", entry)
    assert "//" not in LOCK  # no index, no file


def test_torch_is_installed_on_its_own_and_brings_its_accelerators_libraries() -> None:
    assert not [name for name in locked() if re.match(r"torch|triton|nvidia|cuda", name)]
    (constraint,) = PROJECT["tool"]["uv"]["constraint-dependencies"]
    (metadata,) = PROJECT["tool"]["uv"]["dependency-metadata"]
    assert constraint == f"torch=={metadata['version']}"
    for name in ("Makefile", "scripts/lowest_versions.sh"):
        assert f"pip install --quiet {constraint}\n" in (ROOT / name).read_text(encoding="utf-8")
    assert set(metadata["requires-dist"]) <= set(locked())


@pytest.mark.parametrize("requirement", list(asked_for()), ids=str)
def test_every_requirement_has_both_bounds_and_is_locked_within_them(requirement: Requirement) -> None:
    bounds = {one.operator: Version(one.version) for one in requirement.specifier}
    assert set(bounds) == {">=", "<"}
    versions = [Version("2.13.0")] if requirement.name == "torch" else locked()[canonicalize_name(requirement.name)]
    assert all(version in requirement.specifier for version in versions)
    assert bounds["<"] == Version(str(max(versions).major + 1))  # the next major version, which no test has seen


def test_what_is_not_locked_has_both_bounds_and_the_lock_takes_all_else() -> None:
    for requirement in asked_for(locked=False):
        assert {one.operator for one in requirement.specifier} == {">=", "<"}
        assert requirement.extras or canonicalize_name(requirement.name) not in locked()  # Ray is, but not what its Serve needs
    (named,) = re.findall(r"^for extra in ([a-z ]+); do", (ROOT / "scripts" / "lock.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*named.split(), *NOT_LOCKED} == set(PROJECT["project"]["optional-dependencies"])


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = Parser().parsestr(archive.read(f"act2see-{act2see.__version__}.dist-info/METADATA").decode())
    assert "act2see/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"act2see", f"act2see-{act2see.__version__}.dist-info"}
    package = ROOT / "src"
    kept = {str(path.relative_to(package)) for path in (package / "act2see").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {name for name in names if name.startswith("act2see/")} == kept
    assert metadata.get_all("Project-URL") == [f"{name}, {url}" for name, url in PROJECT["project"]["urls"].items()]
    assert metadata["License-Expression"] == "Apache-2.0"


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel. Its dependencies are those of this one, by path; what is installed here as editable is not seen so."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    installing = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)]
    subprocess.run(installing, check=True, capture_output=True)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    there = [path for path in sys.path if path.endswith("-packages")]
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in there), encoding="utf-8")
    return folder


def run(alone: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A program of that environment, in an empty folder and without what the caller has set for another Python."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment |= {"HF_HUB_OFFLINE": "1", "XDG_CONFIG_HOME": str(alone), "ACT2SEE_CACHE": str(alone / "cache")}
    (alone / "empty").mkdir(exist_ok=True)
    program, *arguments = words
    command = [str(alone / "venv" / "bin" / program), *arguments]
    return subprocess.run(command, cwd=alone / "empty", env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_wheel_alone_is_what_runs(alone: Path) -> None:
    done = run(alone, "python", "-c", "import act2see; print(act2see.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(alone / "venv")
    assert run(alone, "act2see", "--version").stdout.strip().endswith(act2see.__version__)


@pytest.mark.slow
def test_the_wheel_alone_runs_the_demo(alone: Path) -> None:
    done = run(alone, "act2see", "demo")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (alone / "empty" / "report.html").stat().st_size > 10_000
