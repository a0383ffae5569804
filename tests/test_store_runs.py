"""Runs on disk, whatever happens in between: cuts, a full disk, two processes, other settings."""

import dataclasses
import hashlib
import json
import multiprocessing
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from act2see.core.errors import StoreError
from act2see.core.trace import Frame, Observation, Trace
from act2see.storage.runs import Run
from stored_traces import CONFIG, picture, trace


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", command="ask", config=CONFIG, seed=3)


# What cuts a run off


def test_a_cut_at_any_byte_loses_the_last_trace_alone(run: Run) -> None:
    for name in ("one", "two"):
        run.append(trace(name))
    path = run.folder / "traces.jsonl"
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for length in (*range(40), *range(first - 20, first + 40), *range(first + 40, len(content), 97), len(content) - 1, len(content)):
        path.write_bytes(content[:length])
        kept = [name for name, end in (("one", first), ("two", len(content))) if end <= length]
        assert run.ids() == set(kept)
        assert [item.id for item in run.traces()] == kept
        run.append(trace("three"))
        assert [item.id for item in run.traces()] == [*kept, "three"]


@pytest.mark.parametrize("known", [set(), {"one"}])
def test_a_broken_end_longer_than_a_block_is_dropped(known: set[str], run: Run) -> None:
    for name in known:
        run.append(trace(name))
    with (run.folder / "traces.jsonl").open("ab") as file:
        file.write(b"x" * 300_000)
    assert run.ids() == known
    run.append(trace("two"))
    assert run.ids() == known | {"two"}


def write_until_full(folder: Path, limit: int) -> None:
    """In a process of its own: files may not grow past the limit, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    run = Run.open(folder)
    try:
        for number in range(1000):
            run.append(trace(f"trace {number}"))
    except StoreError as error:
        (folder / "error").write_text(str(error))


def test_a_full_disk_loses_nothing(run: Run) -> None:
    process = multiprocessing.get_context("spawn").Process(target=write_until_full, args=(run.folder, 20_000))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (run.folder / "error").read_text() == f"cannot write to {run.folder}: File too large; what was there stays as it was"
    done = [item.id for item in run.traces()]
    assert len(done) > 3
    assert done == [f"trace {number}" for number in range(len(done))]
    content = (run.folder / "traces.jsonl").read_bytes()
    assert len(content) < 20_000
    assert content.endswith(b"\n")  # the half-written line was taken back
    run.append(trace("after"))
    assert [item.id for item in run.traces()] == [*done, "after"]


def test_a_picture_that_does_not_fit_leaves_no_half(run: Run) -> None:
    run.append(trace("one"))
    before = sorted(path.name for path in (run.folder / "frames").iterdir())
    large = dataclasses.replace(trace("two"), frames=(Frame(picture(99, (200, 200)), 0.0),))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, old[1]))
        with pytest.raises(StoreError, match="File too large"):
            run.append(large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert sorted(path.name for path in (run.folder / "frames").iterdir()) == before
    assert run.ids() == {"one"}


def append_many(folder: Path, name: str) -> None:
    run = Run.create_or_open(folder, command="ask", config={}, seed=None)
    for number in range(25):
        run.append(trace(f"{name} {number}", seed=number % 3))
    run.write_summary({"by": name})


def test_two_processes_share_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    Run.create(folder, command="ask", config={}, seed=None)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append_many, args=(folder, name)) for name in ("left", "right")]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        Run.open(folder).ids()  # a reader in between never sees a half
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    ids = [item.id for item in Run.open(folder).traces()]
    for name in ("left", "right"):
        assert [item for item in ids if item.startswith(name)] == [f"{name} {number}" for number in range(25)]
    assert json.loads((folder / "summary.json").read_text())["by"] in {"left", "right"}
    assert not list(folder.rglob(".*"))


# What made a run


def test_run_json(run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert record["version"] == 1
    assert (record["command"], record["config"], record["seed"]) == ("ask", CONFIG, 3)
    canonical = '{"command":"ask","config":{"backend":{"name":"micro","temperature":0.6},"choices":["a","b"],"fps":1},"seed":3}'
    assert record["digest"] == run.digest == hashlib.sha256(canonical.encode()).hexdigest()
    assert {"act2see", "python", "av", "numpy", "pillow"} <= record["versions"].keys()
    back = Run.open(run.folder)
    assert (back.command, back.config, back.seed, back.digest, back.versions) == (run.command, run.config, run.seed, run.digest, run.versions)
    assert list(back.traces()) == []


def test_create_refuses_a_folder_that_holds_a_run(run: Run) -> None:
    with pytest.raises(StoreError, match="holds a run already: go on with --resume, or give another folder"):
        Run.create(run.folder, command="ask", config=CONFIG, seed=3)
    (run.folder / "run.json").unlink()
    Run.create(run.folder, command="ask", config=CONFIG, seed=3).append(trace())
    (run.folder / "run.json").unlink()
    with pytest.raises(StoreError, match=r"holds traces\.jsonl but no run\.json"):
        Run.create(run.folder, command="ask", config=CONFIG, seed=3)


def test_resume_goes_on_with_the_same_settings(run: Run) -> None:
    run.append(trace("one"))
    same_settings: dict[str, Any] = {"choices": ("a", "b"), "backend": {"temperature": 0.6, "name": "micro"}, "fps": 1.0}
    again = Run.resume(run.folder, command="ask", config=same_settings, seed=3)
    again.append(trace("two"))
    assert again.ids() == {"one", "two"}


def test_resume_names_what_differs(run: Run) -> None:
    changed: dict[str, Any] = {"backend": {"name": "micro", "temperature": 0.7}, "choices": ["a"], "look": True, "fps": 1}
    with pytest.raises(StoreError) as caught:
        Run.resume(run.folder, command="eval", config=changed, seed=4)
    assert str(caught.value) == (
        f'{run.folder} was made with other settings: command was "ask" and is "eval", seed was 3 and is 4, '
        'backend.temperature was 0.6 and is 0.7, choices was ["a", "b"] and is ["a"], look was not set and is true: '
        "give the same ones, or another folder"
    )


def test_several_commands_share_a_folder_if_they_want(run: Run) -> None:
    run.append(trace("one"))
    other = Run.create_or_open(run.folder, command="ask", config={"fps": 2}, seed=None)
    other.append(trace("two"))
    assert run.ids() == {"one", "two"}
    assert Run.create_or_open(run.folder.parent / "new" / "folder", command="ask", config={}, seed=None).ids() == set()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "[] where an object is expected"),
        (b'{"version": 9}', "format version 9"),
        (b'{"version": 1}', "is missing"),
        (b'{"version": 1, "command": "ask", "config": [], "seed": 1, "digest": "", "versions": {}}', "config is [] where an object"),
        (b'{"version": 1, "command": "ask", "config": {}, "seed": 1, "digest": "", "versions": {}, "y": 1}', 'unknown field "y"'),
    ],
)
def test_a_run_that_is_not_ours(content: bytes, message: str, run: Run) -> None:
    (run.folder / "run.json").write_bytes(content)
    with pytest.raises(StoreError, match=re.escape(f"{run.folder / 'run.json'}: ") + ".*" + re.escape(message)) as caught:
        Run.open(run.folder)
    assert "\n" not in str(caught.value)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=re.escape(f"no run in {tmp_path}: it holds no run.json")):
        Run.open(tmp_path)
    (tmp_path / "file").write_text("words")
    with pytest.raises(StoreError, match=f"cannot write to {tmp_path / 'file'}: File exists"):
        Run.create(tmp_path / "file", command="ask", config={}, seed=None)
    (tmp_path / "folder" / "run.json").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot read .*run\.json: Is a directory"):
        Run.open(tmp_path / "folder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda item: item.cost.seconds.update(decode=float("nan")), "not JSON compliant"),
        (lambda item: item.made_with.update(temperature=0.6), "made_with.temperature is 0.6 where a text is expected"),
        (lambda item: item.steps.append(Observation((Frame(picture(0), 1.0, score=np.float32(1)),))), "not JSON serializable"),  # type: ignore[arg-type]
    ],
)
def test_what_could_not_be_read_is_not_written(change: Callable[[Trace], None], message: str, run: Run) -> None:
    run.append(trace("one"))
    before = (run.folder / "traces.jsonl").read_bytes()
    bad = trace("two")
    change(bad)
    with pytest.raises(StoreError, match=f'^trace "two" cannot be written: .*{re.escape(message)}'):
        run.append(bad)
    assert (run.folder / "traces.jsonl").read_bytes() == before


def test_summary_is_replaced_whole(run: Run) -> None:
    run.write_summary({"accuracy": {"static": 0.9}})
    run.write_summary({"accuracy": {"static": 1}, "n": 3})
    assert json.loads((run.folder / "summary.json").read_text()) == {"accuracy": {"static": 1}, "n": 3}
    assert sorted(path.name for path in run.folder.iterdir()) == ["run.json", "summary.json", "traces.jsonl"]
