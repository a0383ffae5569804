"""Run folders from a stranger: one thing in a fine run is changed, and every command that reads a run is tried on it.

Right is exit code 0, or 1 with one line; nothing outside the folder is changed, read into anything or told.
"""

import atexit
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attacking.changes import Change, changes, remove
from attacking.harness import Ended, Item, act2see, faults

SECRET = b"what only its owner may read"
FAKES = ("--backend", "attacking.fakes:Witness", "--retriever", "attacking.fakes:Colours", "--generator", "attacking.fakes:Negative", "--fps", "0.5")
ASKED = ("synthetic", *FAKES, "--n", "4", "--kind", "static")
_SHOWS_PROGRESS = ("eval", "construct", "filter", "train")

OF_EVAL: Mapping[str, tuple[str, ...]] = {
    "score": ("score", "run"),
    "score --json": ("score", "run", "--json"),
    "compare": ("compare", "run", "good"),
    "compare, the other way": ("compare", "good", "run", "--json"),
    "tradeoff": ("tradeoff", "run"),
    "export": ("export", "run", "--format", "trl", "--out", "exported"),
    "eval --resume": ("eval", *ASKED, "--out", "run", "--resume"),
}
OF_CONSTRUCT: Mapping[str, tuple[str, ...]] = {
    "filter": ("filter", "run", "--out", "kept", "--embedder", "words", "--ignore", "leak"),
    "export, a table": ("export", "run", "--format", "parquet", "--out", "exported"),
    "export to swift": ("export", "run", "--format", "swift", "--out", "exported2"),
    "construct --resume": ("construct", *ASKED, "--out", "run", "--resume"),
}
TRAINED: Mapping[str, tuple[str, ...]] = {"train --dry-run": ("train", "recipes/act2see-8b.toml", "--data", "run", "--out", "adapter", "--dry-run")}


# A fine run


@functools.cache
def fine(command: str) -> Path:
    """A run of `eval` or `construct` by the fakes, made once in this process."""
    place = Path(tempfile.mkdtemp(prefix="act2see-attack-run-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    ended = act2see(command, *ASKED, "--out", place / "run")
    if ended.code != 0:
        raise RuntimeError(f"{command} of a fine run ends with {ended.code}: {ended.err[-400:]}{ended.raised}")
    return place / "run"


def items(seed: int) -> list[Item]:
    """All of them."""
    found = []
    for number, (name, change) in enumerate(changes(seed)):
        command = "construct" if name.startswith("construct: ") else "eval"
        commands = OF_EVAL if command == "eval" else OF_CONSTRUCT
        if number % 25 == 0:
            commands = {**commands, **TRAINED}
        found.append(Item(name, _attack(command, change, commands, (0,) if name.endswith("as it is") else (0, 1))))
    return found


def _attack(command: str, change: Change, commands: Mapping[str, tuple[str, ...]], codes: tuple[int, ...]) -> Callable[[Path], list[str]]:
    def attack(folder: Path) -> list[str]:
        outside = folder.parent / "outside"
        outside.mkdir()
        for name in ("secret.json", "secret.png", "traces.jsonl"):
            (outside / name).write_bytes(SECRET)
        shutil.copytree(fine("eval"), "good")
        _write_recipe(folder)
        before, wrong = _digest(outside, Path("good")), []
        for name, arguments in commands.items():
            for left in ("run", "exported", "exported2", "kept", "adapter"):
                remove(Path(left))
            shutil.copytree(fine(command), "run")
            change(Path("run"))
            wrong += [f"{name}: {one}" for one in _judged(act2see(*arguments), codes, shows_progress=arguments[0] in _SHOWS_PROGRESS)]
            if _digest(outside, Path("good")) != before:
                wrong.append(f"{name}: something outside the run's folder was changed")
            if any(SECRET in path.read_bytes() for made in ("exported", "exported2", "kept", "adapter") for path in _files(Path(made))):
                wrong.append(f"{name}: something outside the run's folder was read into what was made")
        return wrong

    return attack


def _judged(ended: Ended, codes: tuple[int, ...], *, shows_progress: bool) -> list[str]:
    wrong = faults(ended, codes, steps=shows_progress)
    if ended.code == 1 and ended.out and not wrong:
        wrong.append(f"an error, and on stdout {ended.out[-200:]!r}")
    if SECRET.decode() in ended.out + ended.err:
        wrong.append("something outside the run's folder is told")
    return wrong


def _write_recipe(folder: Path) -> None:
    """The recipe that is documented, for the embedded model."""
    root = Path(__file__).parents[2]
    (folder / "recipes").mkdir()
    text = (root / "recipes" / "act2see-8b.toml").read_text(encoding="utf-8")
    lines = [f'model = "{root / "src/act2see/micro/vlm"}"' if line.startswith("model =") else line for line in text.splitlines()]
    (folder / "recipes" / "act2see-8b.toml").write_text("\n".join(lines), encoding="utf-8")


def _digest(*folders: Path) -> str:
    """All names and contents."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            found.update(f"{path} {path.lstat().st_mode} {path.lstat().st_size}\n".encode("utf-8", "surrogateescape"))
            found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
