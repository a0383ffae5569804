"""`.ci/run` checks what is committed and nothing else, wherever its checkout stands. A `make` that tells where it runs stands in for the checks."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = '#!/bin/sh\necho "make $*; beside: $(ls -A ..); files: $(ls -A | tr "\\n" " "); changed: $(git status --porcelain)"\n'
SAID = "beside: act2see; files: .ci .git kept ; changed: "


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with `.ci/run`, one more committed file, and a neighbour."""
    folder = tmp_path / "the checkout %20"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    (folder / "kept").touch()
    (tmp_path / "neighbour").mkdir()
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def run(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    tools = folder.parent / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "make").write_text(MAKE, encoding="utf-8")
    (tools / "make").chmod(0o755)
    asked = {**os.environ, "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]), "TMPDIR": str(folder.parent), **environment}
    return subprocess.run([shutil.which("bash") or "bash", str(folder / ".ci" / "run")], env=asked, capture_output=True, text=True, check=False)


def test_it_lints_and_tests_a_clone_with_nothing_beside_it(checkout: Path) -> None:
    done = run(checkout)
    lint, test, slow = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lint.startswith("make VENV=")
    assert lint.endswith(f"/venv lint; {SAID}")
    assert test.endswith(f"/venv test; {SAID}")
    assert slow.endswith(f"/venv test-slow; {SAID}")
    assert not list(checkout.parent.glob("tmp.*"))  # thrown away afterwards


def test_what_is_not_committed_is_left_out_and_said(checkout: Path) -> None:
    (checkout / "left over").touch()
    (checkout / "kept").write_text("changed", encoding="utf-8")
    done = run(checkout)
    assert done.stdout.count(SAID) == 3
    assert "what is not committed is left out" in done.stderr


@pytest.mark.parametrize("kind", ["shallow", "worktree", "detached", "called by a hook"])
def test_odd_checkouts_are_cloned_too(checkout: Path, kind: str) -> None:
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "two")
    other, environment = checkout.with_name("other"), {}
    match kind:
        case "shallow":
            git(checkout, "clone", "--quiet", "--depth", "1", "--no-local", str(checkout), str(other))
        case "worktree":
            git(checkout, "worktree", "add", "--quiet", "--detach", str(other))
        case "detached":
            git(checkout, "checkout", "--quiet", "--detach", "HEAD")
            other = checkout
        case _:
            other, environment = checkout, {"GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index"}
    done = run(other, **environment)
    assert (done.returncode, done.stdout.count(SAID), done.stderr) == (0, 3, "")


@pytest.mark.parametrize(
    ("kind", "words"), [("no repository", "not a git repository"), ("inside another", "lies in that of"), ("no commit", "has no commit yet")]
)
def test_what_cannot_be_cloned_is_one_line(checkout: Path, tmp_path: Path, kind: str, words: str) -> None:
    folder = checkout / "inner" if kind == "inside another" else tmp_path / "outer"
    shutil.copytree(checkout / ".ci", folder / ".ci")
    if kind == "no commit":
        git(folder, "init", "--quiet")
    done = run(folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr


def test_a_missing_git_is_one_line(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "few"
    tools.mkdir()
    (tools / "dirname").symlink_to(str(shutil.which("dirname")))
    done = run(checkout, PATH=str(tools))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "git is not installed" in done.stderr
