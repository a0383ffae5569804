"""The documents' code runs, and nothing that a user can name is undocumented: flags, extras, benchmarks, plug points, files, Python names."""

import ast
import contextlib
import dataclasses
import io
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from cyclopts import Parameter

import act2see
import command_reference
from act2see import cli, config
from act2see.benchmarks.catalogue import CATALOGUE
from act2see.core import interfaces

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md")))}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CLIP = ROOT / "src" / "act2see" / "synthetic" / "demo" / "clip-3.mp4"
MARK = re.compile(r"<!-- (runs|output|needs: \S.*) -->")
SHELLS, LANGUAGES = ("sh", "bash"), ("sh", "bash", "python", "toml", "json", "yaml", "text")

# Files of other programs, which act2see reads or copies and whose makers document them.
FOREIGN = {
    "chat_template.json",
    *("adapter_config.json", "adapter_model.safetensors", "added_tokens.json", "config.json", "generation_config.json", "merges.txt"),
    *("model.safetensors", "model.safetensors.index.json", "model_index.json", "modules.json", "preprocessor_config.json", "processor_config.json"),
    *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "video_preprocessor_config.json", "vocab.json", "bench_final.json"),
}


@dataclass(frozen=True)
class Block:
    """A fenced block with the mark before it; `follows` is the block right above, with nothing but the mark in between."""

    line: int
    language: str
    code: str
    mark: str | None
    follows: int | None


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a page."""
    found: list[Block] = []
    ended = None
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        if fence := re.fullmatch(r"( *)```(.*)", lines[number]):
            indent, language = fence.groups()
            end = lines.index(f"{indent}```", number + 1)
            before = [line.strip() for line in lines[ended or 0 : number] if line.strip()]
            mark = MARK.fullmatch(before[-1]) if before else None
            follows = len(found) - 1 if ended is not None and len(before) == 1 and mark else None
            code = "\n".join(line.removeprefix(indent) for line in lines[number + 1 : end]) + "\n"
            found.append(Block(number + 1, language, code, mark[1] if mark else None, follows))
            number = ended = end + 1
        else:
            number += 1
    return found


BLOCKS = {name: blocks(text) for name, text in PAGES.items()}
RUNNING = [name for name, found in BLOCKS.items() if any(block.mark == "runs" for block in found)]


# Blocks


@pytest.mark.parametrize("name", PAGES)
def test_every_block_says_whether_it_runs(name: str) -> None:
    assert [f"{name}:{block.line}" for block in BLOCKS[name] if block.mark is None] == []
    assert [block.language for block in BLOCKS[name] if block.language not in LANGUAGES] == []


def test_blocks_are_found_with_their_marks() -> None:
    runs, output, needs = (f"<!-- {mark} -->" for mark in ("runs", "output", "needs: a GPU"))
    text = f"```sh\na\n```\n\n{runs}\n\n```python\nb\n```\n\n{output}\n\n```text\nc\n```\n\nWords.\n\n{needs}\n```sh\nd\n```\n"
    assert [(block.code, block.mark, block.follows) for block in blocks(text)] == [
        ("a\n", None, None),
        ("b\n", "runs", 0),
        ("c\n", "output", 1),
        ("d\n", "needs: a GPU", None),
    ]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder with one clip, where a page's blocks run; modules that they write can be imported."""
    shutil.copy(CLIP, tmp_path / "clip.mp4")
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no-config"))
    monkeypatch.setenv("ACT2SEE_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(str(sys.modules[name].__file__)).parent == tmp_path:
            del sys.modules[name]


@pytest.mark.parametrize("name", RUNNING)
def test_what_is_said_to_run_runs(name: str, elsewhere: Path) -> None:
    """The blocks of a page, one after the other: Python ones share their names, and one that begins with `# module.py` is that module."""
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: dict[int, str] = {}
    for number, block in enumerate(BLOCKS[name]):
        if block.mark == "runs":
            printed[number] = run(block, names, elsewhere)
        elif block.mark == "output" and block.follows in printed:
            assert printed[block.follows] == block.code, f"{name}:{block.line}"


def run(block: Block, names: dict[str, Any], folder: Path) -> str:
    """Run one block and return what it prints on stdout."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        match block.language:
            case "python":
                if module := re.match(r"# (\w+\.py)\n", block.code):
                    (folder / module[1]).write_text(block.code, encoding="utf-8")
                exec(compile(block.code, f"line {block.line}", "exec"), names)
            case "sh" | "bash":
                for line in block.code.replace("\\\n", " ").splitlines():
                    program, *arguments = shlex.split(line, comments=True)
                    assert program == "act2see"
                    assert cli.main(arguments) == 0, line
            case "json":
                assert [json.loads(line) for line in block.code.splitlines()]
            case "toml":
                run_settings(block.code, folder)
            case _:
                raise AssertionError(f"line {block.line}: a block of {block.language or 'no language'} cannot be run")
    return out.getvalue()


def run_settings(code: str, folder: Path) -> None:
    """A settings file is taken, and each of its keys arrives under its name."""
    (folder / "settings.toml").write_text(code, encoding="utf-8")
    content = tomllib.loads(code)
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    assert set(tables) <= {"ask"}
    _, bound, _ = cli.app.parse_args(["ask", "clip.mp4", "Why?", "--config", str(folder / "settings.toml")], exit_on_error=False, print_error=False)
    for key, value in {**content, **tables.get("ask", {})}.items():
        assert key in tables or getattr(bound.arguments["settings"], key.replace("-", "_")) == value


# Nothing is undocumented


def test_the_command_reference_is_the_one_of_the_commands() -> None:
    written = PAGES["docs/reference/commands.md"]
    assert written == command_reference.page(), "run python scripts/command_reference.py"


def settings_classes() -> list[type]:
    return [found for name in dir(config) if dataclasses.is_dataclass(found := getattr(config, name)) and isinstance(found, type)]


@pytest.mark.parametrize("found", settings_classes(), ids=lambda found: found.__name__)
def test_every_setting_is_a_documented_flag(found: type) -> None:
    page = PAGES["docs/reference/commands.md"]
    for field in dataclasses.fields(found):
        given = [name for one in getattr(field.type, "__metadata__", ()) if isinstance(one, Parameter) for name in one.name or ()]
        flag = (given or [f"--{field.name.replace('_', '-')}"])[0]
        spellings = "|".join(map(re.escape, (flag, f"-o {field.name}=VALUE")))
        assert re.search(rf"^- `({spellings})`[^:]*: \S", page, re.MULTILINE), flag


def test_every_flag_says_what_it_does() -> None:
    assert re.findall(r"^- `-.*:$", PAGES["docs/reference/commands.md"], re.MULTILINE) == []


def test_every_extra_is_documented() -> None:
    rows = re.findall(r"^\| `act2see\[([\w-]+)\]` \| \S", PAGES["docs/install.md"], re.MULTILINE)
    assert sorted(rows) == sorted(PROJECT["optional-dependencies"])


def test_every_benchmark_is_documented() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", PAGES["docs/benchmarks.md"], re.MULTILINE)
    assert sorted(rows) == sorted(entry.name for entry in CATALOGUE)


def plug_points() -> list[str]:
    return [name for name, found in vars(interfaces).items() if isinstance(found, type) and Protocol in found.__bases__]


@pytest.mark.parametrize("name", plug_points())
def test_every_plug_point_has_a_page_or_a_part_of_one(name: str) -> None:
    slug = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
    (row,) = re.findall(rf"\[`{name}`\]\(([\w.#-]+)\)", PAGES["docs/extending/index.md"])
    page, _, part = row.partition("#")
    text = PAGES[f"docs/extending/{page}"]
    assert page == f"{slug}.md" or (part and f"`{name}`" in text)
    for member in vars(getattr(interfaces, name)):
        if not member.startswith("_"):
            assert re.search(rf"\b{member}\b", text), f"{page} does not name {name}.{member}"


def files_named_in_the_code() -> set[str]:
    """The names of files that stand as literals in the package."""
    named = re.compile(r"[\w-]+\.(?:jsonl|json|html|md|parquet)|\.lock")
    read_only = {path for path in (ROOT / "src/act2see/benchmarks").rglob("*.py") if path.name != "jsonl.py"}  # other people's data sets
    sources = [path for path in (ROOT / "src" / "act2see").rglob("*.py") if path not in read_only]
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    literals = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in literals if named.fullmatch(text)}


def test_every_file_that_is_written_is_documented() -> None:
    found = files_named_in_the_code()
    assert {"run.json", "traces.jsonl", "scores.jsonl", "summary.json", "costs.json", "errors.jsonl", "samples.jsonl", "export.json"} <= found
    assert sorted(name for name in found - FOREIGN if f"`{name}`" not in PAGES["docs/files.md"]) == []


def test_the_recorded_run_is_small_and_stands_alone() -> None:
    """What scripts/record_terminal.py wrote: it ends in the answer, and nothing in it is loaded from elsewhere."""
    picture = (DOCS / "img" / "terminal.svg").read_text(encoding="utf-8")
    assert len(picture) < 200_000
    assert re.findall(r"https?://[^\"]+", picture) == ["http://www.w3.org/2000/svg"]
    assert re.findall(r">([^<]+)</text>", picture)[-1] == "D. right"


def test_every_public_name_is_on_the_python_page() -> None:
    listed = re.findall(r"^::: act2see\.(\w+)$", PAGES["docs/python.md"], re.MULTILINE)
    assert sorted(listed) == sorted(act2see.__all__)


# The site


def test_every_page_is_in_the_navigation() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [name for name in PAGES if name.startswith("docs/") and f" {name.removeprefix('docs/')}\n" not in settings]
    assert missing == []


@pytest.mark.parametrize("name", [name for name in PAGES if name not in ("README.md", "CHANGELOG.md")])
def test_pages_open_with_what_their_reader_can_do(name: str) -> None:
    title, _, opening, *_ = PAGES[name].splitlines()
    assert title.startswith("# ")
    assert opening.startswith("After reading this page you ")


@pytest.mark.parametrize("name", PAGES)
def test_lines_are_short(name: str) -> None:
    """But for rows of tables, which cannot be broken."""
    long = [number for number, line in enumerate(PAGES[name].splitlines(), 1) if len(line) >= 160 and not line.startswith("|")]
    assert long == []
