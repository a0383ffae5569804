"""`--ray` on a cluster of this machine with two teachers: the same files as without Ray, also where one of the two is killed in the middle."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from act2see import cli
from act2see.config import EvalConfig
from act2see.core.trace import Frame, Observation, Step
from act2see.integrations.ray import cluster
from act2see.integrations.ray.actors import Layout
from act2see.storage.runs import Run

# Ray's own: it opens files and sockets that it closes at exit, and says of its defaults that they will change.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray", "ignore::DeprecationWarning:ray")

ON_RAY = ("--ray", "local", "--ray-teachers", "2", "--workers", "4")
FAKES = ("--retriever", "cli_fakes:Finder", "--generator", "none")


@pytest.fixture(scope="module")
def settings(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to run in. What the processes of the cluster need to know goes with the environment, in which Ray starts them."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "clip.mp4").write_bytes(clip.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        fakes = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "fakes")]
        patch.setenv("PYTHONPATH", os.pathsep.join([*fakes, *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "settings"))
        patch.setenv("ACT2SEE_CACHE", str(folder / "cache"))
        patch.setenv("ACT2SEE_TEST_CLIP", str(folder / "clip.mp4"))
        patch.setenv("ACT2SEE_TEST_BEGUN", str(folder / "begun"))
        patch.setenv("ACT2SEE_TEST_DIED", str(folder / "died"))
        patch.chdir(folder)
        yield folder


def run(*words: str) -> int:
    return cli.main([*words, *FAKES])


def told(folder: str) -> list[tuple[object, ...]]:
    """Everything of the traces but what they cost, which differs each time: words, pixels, how they ended."""
    return sorted(
        (trace.id, str(trace.finish), str([*map(_step, trace.steps)]), str(_seen(trace.frames))) for trace in Run.open(Path(folder)).traces()
    )


def _step(step: Step) -> object:
    return [_seen(step.frames), step.error] if isinstance(step, Observation) else step


def _seen(frames: Iterable[Frame]) -> list[tuple[float | None, int]]:
    return [(frame.seconds, hash(frame.image.tobytes())) for frame in frames]


def begun() -> dict[str, list[str]]:
    """The questions that each process has begun."""
    return {path.name: path.read_text(encoding="utf-8").split() for path in Path("begun").iterdir()}


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
def test_an_evaluation_survives_the_death_of_a_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("eval", "eval_fakes:Many", "--n", "12", "--backend", "eval_fakes:Mortal")
    assert run(*words, "--out", "here") == 0
    Path("begun").mkdir()  # from here on the fatal question kills the first process that begins it
    assert run(*words, "--out", "ray", *ON_RAY) == 0
    for name in ("scores.jsonl", "summary.json"):
        assert Path("ray", name).read_bytes() == Path("here", name).read_bytes()
    assert told("ray") == told("here")
    outcomes = json.loads(Path("ray/summary.json").read_text(encoding="utf-8"))["outcomes"]
    assert outcomes["video_error"] == 1
    assert sum(outcomes.values()) == 12
    by_process = begun()
    times = Counter(name for names in by_process.values() for name in names)
    again = {name for name, count in times.items() if count > 1}
    assert len(by_process) in (2, 3)  # two teachers, and one in the dead one's place if it has loaded before the last question
    assert "q006" in again
    assert any(again <= set(names) for names in by_process.values())  # the killed one's alone
    assert max(times.values()) == 2
    assert str(os.getpid()) not in by_process
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
def test_the_questions_of_an_engine_that_died_go_to_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("eval", "eval_fakes:Many", "--n", "12", "--backend", "vllm_fakes:on_a_cluster", "--out", "engines")
    assert run(*words, "--ray", "local", "--replicas", "2", "--workers", "4") == 0
    assert Path("died").is_file()  # an engine did, while its process lived
    outcomes = json.loads(Path("engines/summary.json").read_text(encoding="utf-8"))["outcomes"]
    assert (outcomes["video_error"], outcomes["correct"] + outcomes["wrong"]) == (1, 11)
    assert sum(outcomes.values()) == 12
    traces = list(Run.open(Path("engines")).traces())
    assert len({trace.id for trace in traces}) == len(traces) == 11
    assert {trace.looks for trace in traces} == {1}
    assert {trace.made_with["backend"] for trace in traces} == {"vllm"}
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("settings")
def test_a_construction_makes_the_same_traces() -> None:
    words = ("construct", "construct_fakes:Told", "--n", "6", "--teacher", "construct_fakes:Well")
    assert run(*words, "--out", "told") == 0
    assert run(*words, "--out", "told-by-ray", *ON_RAY) == 0
    for name in ("scores.jsonl", "summary.json", "samples.jsonl"):
        assert Path("told-by-ray", name).read_bytes() == Path("told", name).read_bytes()
    assert told("told-by-ray") == told("told")


@pytest.mark.parametrize(
    ("given", "gpus", "expected"),
    [
        (Layout(), 8.0, Layout(teachers=1, teacher_gpus=2.0)),
        (Layout(teachers=3, teacher_gpus=0.5), 8.0, Layout(teachers=3, teacher_gpus=0.5)),
        (Layout(), 0.0, Layout(teachers=1)),
    ],
)
def test_an_engine_has_one_process_with_all_its_gpus_where_nothing_else_is_said(
    given: Layout, gpus: float, expected: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": gpus})
    assert cluster._for_engines(given, EvalConfig(backend="vllm:DIR", tensor_parallel=2)) == expected
    assert cluster._for_engines(given, EvalConfig(backend="huggingface:DIR")) == given


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "ray://127.0.0.1:10001"])
def test_a_cluster_that_is_not_there_is_one_line(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("eval", "eval_fakes:Many", "--n", "2", "--backend", "eval_fakes:Steady", "--out", f"none-{len(address)}", "--ray", address) == 1
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "give local, auto (on a node of a cluster) or the address HOST:6379 of one" in complaint
    assert not Path(f"none-{len(address)}").exists()
