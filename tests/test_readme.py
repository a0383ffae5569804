"""What the README and the other documents say is true: commands parse, code runs, the tree and the links are there."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from act2see import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SHOWN_IN_THE_TREE = (".py", ".jinja", ".j2")
OTHERS = {"curl", "docker", "vllm", "llama-server", "transformers", "export", "echo"}


def _blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def _commands() -> list[str]:
    """Every line of every shell block of the documents; one that ends in a backslash goes on in the next."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))]
    blocks = [block for text in texts for block in _blocks("(?:ba)?sh", text)]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


COMMANDS = _commands()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    words = shlex.split(line.partition(" > ")[0], comments=True)
    if "-m" in words:  # python -m act2see, torchrun … -m act2see
        words = words[words.index("-m") + 1 :]
    match words:
        case ["act2see" | ".venv/bin/act2see", *arguments]:
            cli.app.parse_args(arguments, exit_on_error=False, print_error=False)
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        case ["pip", "install", "-e", extras]:
            known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
            assert set(extras.removeprefix(".[").removesuffix("]").split(",")) <= set(known)
        case ["pip", "install", "torch==2.13.0" | "torch", *_]:
            pass
        case [".ci/run"]:
            assert (ROOT / ".ci/run").stat().st_mode & 0o111
        case [assignment] if re.fullmatch(r"[A-Z]+=\S+", assignment):
            pass
        case [program, *_]:
            assert program in OTHERS


def test_there_are_commands() -> None:
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert sum("act2see ask" in line for line in COMMANDS) >= 4


def _tree() -> dict[str, str]:
    """The paths of the tree in docs/architecture.md and what it says about each."""
    (block,) = [block for block in _blocks("text", ARCHITECTURE) if "src/act2see/" in block]
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, said = line.strip().partition(" ")
        folders = [*folders[:depth], name]
        found["".join(folders)] = said.strip()
    return found


def test_everything_in_the_tree_is_there_and_is_said_what_it_is() -> None:
    tree = _tree()
    assert [path for path in tree if not (ROOT / path).exists()] == []
    folders = {path for path in tree if any(other != path and other.startswith(path) for other in tree)}
    assert [path for path, said in tree.items() if not said and path not in folders] == []


def test_everything_there_is_in_the_tree() -> None:
    tree = _tree()
    package = [path for path in (ROOT / "src").rglob("*") if path.name.endswith(SHOWN_IN_THE_TREE) and "micro" not in path.parts]
    top = [path for path in (*ROOT.glob("*.*"), *ROOT.glob("[A-Z]*")) if path.is_file() and not path.name.startswith(".")]
    made = {"README.md", "report.html"}
    assert sorted(str(path.relative_to(ROOT)) for path in (*package, *top) if path.name not in made and str(path.relative_to(ROOT)) not in tree) == []


def test_links_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")) if "://" not in link]
        assert [link for link in links if not (path.parent / link).exists()] == [], path.name


def test_the_six_files_to_read_first_lead_their_room() -> None:
    (sentence,) = re.findall(r"Read these six files of `core/` first: (.*)", ARCHITECTURE)
    first = re.findall(r"`([\w.]+)`", sentence)
    room = [path for path in _tree() if path.startswith("src/act2see/core/") and path.endswith(".py")]
    assert room[1:7] == [f"src/act2see/core/{name}" for name in first]


def test_the_layers_on_the_page_are_those_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
    (block,) = [block for block in _blocks("text", ARCHITECTURE) if block.startswith("cli ")]
    assert [line.partition("  ")[0] for line in block.splitlines()] == contract["layers"]
    assert len(contract["layers"]) <= 14


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_the_top_of_the_package_is_small() -> None:
    top = [path for path in (ROOT / "src" / "act2see").iterdir() if path.name != "__pycache__"]
    assert len([path for path in top if path.is_dir() and (path / "__init__.py").exists()]) <= 17
    assert len([path for path in top if path.suffix == ".py"]) <= 5
