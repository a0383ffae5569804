"""The project stands alone: nothing in it reads what lies outside the checkout, and what is shipped is all there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "benchmarks", "scripts", "docs", "recipes", "examples", "findings", ".ci")
TEXTS = (".py", ".sh", ".md", ".toml", ".yaml", ".yml", ".jinja", ".j2", "")

_UPWARD = re.compile(r"__file__\)?(?:\.(?:resolve|absolute)\(\))?(?:\.parents\[(\d+)\]|((?:\.parent\b)+))")
_PATH = re.compile(r"(?<![\w.~-])(?:(?:\.\./)+|/)[\w.][\w./-]*")


def strays(root: Path, path: Path, text: str) -> Iterator[str]:
    """What in this file's text leads out of `root`: more steps up than the file is deep, or the path of something that lies beside the checkout."""
    depth = len(path.relative_to(root).parts)
    for found in _UPWARD.finditer(text):
        steps = int(found.group(1)) + 1 if found.group(1) else found.group(2).count(".parent")
        if steps > depth:
            yield found.group()
    beside = root.parent
    if beside == Path(beside.anchor):  # everything lies there
        return
    for found in _PATH.finditer(text):
        for start in _starts(root, path, found.group()):
            place = Path(start, found.group()).resolve()
            if place != beside and place.is_relative_to(beside) and not place.is_relative_to(root) and place.exists():
                yield found.group()
                break


def _starts(root: Path, path: Path, named: str) -> tuple[Path, ...]:
    """Where a path in this file may begin. A document's commands run wherever its reader is, and a short `../x` in Python is what a test refuses."""
    from_its_folder_alone = path.suffix == ".md" or (path.suffix == ".py" and named.count("/") == 1)
    return (path.parent,) if from_its_folder_alone else (root, path.parent)


def _files() -> list[Path]:
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in TEXTS and path.is_file()]
    return [*(ROOT / name for name in ("Makefile", "README.md", "CONTRIBUTING.md", "pyproject.toml")), *below]


def test_nothing_reads_what_lies_outside_the_checkout() -> None:
    found = {str(path.relative_to(ROOT)): list(strays(ROOT, path, path.read_text(encoding="utf-8"))) for path in _files()}
    assert len(found) > 300
    assert {name: strayed for name, strayed in found.items() if strayed} == {}


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("tests/test_one.py", 'Path({file}).parents[2] / "cases"'),
        ("tests/cli/test_one.py", 'Path({file}).resolve().parents[3] / "cases"'),
        ("tests/test_one.py", "HERE = Path({file}).parent.parent.parent"),
        ("scripts/one.py", 'open("../cases/one.json")'),
        ("docs/one.md", "see [the cases](../../cases/one.json)"),
        (".ci/run", "cp -r ../cases ."),
        ("scripts/one.py", 'CASES = "{beside}/cases"'),
    ],
)
def test_a_way_out_is_seen(tmp_path: Path, where: str, text: str) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "one.json").touch()
    root = tmp_path / "checkout"
    assert list(strays(root, root / where, text.format(beside=tmp_path, file="__file__")))


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("tests/test_one.py", 'Path({file}).parents[1] / "docs"'),
        ("tests/cli/test_one.py", "Path({file}).parent.parent.parent"),
        ("tests/test_store.py", '"../../secret.png", "../x", "/etc/passwd"'),
        ("docs/one.md", "[the licence](../LICENSE), out=../neighbour"),
        ("tests/test_one.py", '"../neighbour" is refused'),
        ("src/act2see/one.py", 'CASES = "{beside}/checkout/tests"'),
    ],
)
def test_what_stays_inside_or_is_nowhere_is_no_way_out(tmp_path: Path, where: str, text: str) -> None:
    root = tmp_path / "checkout"
    (root / "tests").mkdir(parents=True)
    (tmp_path / "neighbour").mkdir()
    assert list(strays(root, root / where, text.format(beside=tmp_path, file="__file__"))) == []
