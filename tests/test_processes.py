"""What the processes of a spread run do, asked across a pickle as a cluster asks them: the same as without them, and the same errors."""

import pickle
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image

from act2see.config import ConstructConfig, EvalConfig, EvalExecutionConfig, SourceConfig
from act2see.core.engine import LoopOptions
from act2see.core.errors import Act2SeeError, BackendError, ConfigError, OutOfMemoryToolError, StoreError, ToolError, VideoError
from act2see.core.interfaces import Sample
from act2see.core.trace import Cost, Frame, Observation, Provenance, Trace
from act2see.curation.constructor import Constructor
from act2see.evaluation import setup
from act2see.evaluation.evaluator import Evaluator, Scored
from act2see.execution.metering import Price
from act2see.integrations.ray.actors import AboutBackend, AboutTools, Elsewhere, Job, Layout, Teacher, Tools, own_looker_of
from act2see.synthetic.world import Clip
from act2see.video import Video
from cli_fakes import Finder
from construct_fakes import Told
from eval_fakes import Many, Steady

T = TypeVar("T")
PICTURE = Image.new("RGB", (8, 8), "red")


def sent(value: T) -> T:
    """The value as it comes out at the other end."""
    there: T = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own
    return there


@dataclass
class OneFrame:
    """Always the same frame. With a meeting, only once that many ask at the same time."""

    name: str = "one"
    meeting: threading.Barrier | None = None

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        if self.meeting is not None:
            self.meeting.wait()
        return [Frame(PICTURE, 0.5, 0.75)]


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "clip.mp4"
    Clip(2.0, ()).write(path)
    monkeypatch.setenv("ACT2SEE_TEST_CLIP", str(path))
    monkeypatch.chdir(tmp_path)  # and back again afterwards: a process goes where its job says
    return path


@pytest.fixture
def job(clip: Path) -> Job:
    settings = ConstructConfig(backend="eval_fakes:Steady", retriever="cli_fakes:Finder", generator="none", out=clip.with_name("run"), n=12)
    return sent(Job("construct_fakes:Told", settings, None, clip.parent))


@pytest.fixture
def evaluation(job: Job) -> Job:
    """Its benchmark cannot be made: no process needs it, nor the judge that it may have."""
    settings = EvalConfig(backend="eval_fakes:Steady", retriever="cli_fakes:Finder", generator="none", n=24)
    return sent(replace(job, source="nowhere:Nothing", settings=settings))


def samples(job: Job) -> list[Sample]:
    return list(Told(job.settings).samples())  # type: ignore[arg-type]  # it reads the number of questions alone


def changed(job: Job, **flags: Any) -> SourceConfig:
    return replace(job.settings, **flags)


def told(scored: Scored) -> tuple[object, ...]:
    """Everything but what it cost, which differs each time."""
    trace = None if scored.trace is None else replace(scored.trace, cost=Cost())
    return scored.sample, scored.outcome, scored.error, trace


def test_a_try_is_the_same_elsewhere(job: Job) -> None:
    questions = samples(job)
    here = Constructor(Evaluator(Told(job.settings), Steady(job.settings), OneFrame(), loop=LoopOptions(max_looks=1)))  # type: ignore[arg-type]
    teacher = Teacher(job, OneFrame(), None, None)
    made = {(one.id, tried): sent(teacher.attempt(sent(one), tried)) for one in questions for tried in (0, 2)}
    assert {name: told(scored) for name, scored in made.items()} == {
        (one.id, tried): told(here.attempt(one, tried)) for one in questions for tried in (0, 2)
    }
    outcomes = {scored.outcome for scored in made.values()}
    assert outcomes == {"correct", "wrong", "no_answer", "video_error"}, "or this compares too little"


def test_an_answer_is_the_same_elsewhere_once_it_is_scored_here(evaluation: Job) -> None:
    benchmark = Many(evaluation.settings)  # type: ignore[arg-type]  # it reads the number of questions alone
    here = Evaluator(benchmark, Steady(evaluation.settings), OneFrame(), loop=LoopOptions(max_looks=1))
    teacher = Teacher(evaluation, OneFrame(), None, None)
    found = []
    for one in benchmark.samples():
        answered, expected = sent(teacher.answer(sent(one))), here.answer(one)
        if not answered.outcome.endswith("_error"):
            assert answered.outcome == "no_answer", "whether it is right is not the teacher's to say"
            assert answered.trace is not None
            answered = here.score(one, answered.trace)
        assert told(answered) == told(expected)
        found.append(answered.outcome)
    assert set(found) == {"correct", "wrong", "no_answer", "video_error"}, "or this compares too little"


@pytest.mark.parametrize("frames", ["random", "oracle", "withheld"])
def test_a_teacher_has_the_controls_itself(evaluation: Job, frames: Any) -> None:
    """The oracle must know the question."""
    settings = changed(evaluation, frames=frames, insert=1)
    own = own_looker_of(settings)
    assert own is not None
    teacher = Teacher(replace(evaluation, settings=settings), OneFrame(), None, None)
    here = Evaluator(Many(settings), Steady(settings), own, insert=1, loop=LoopOptions(max_looks=1))  # type: ignore[arg-type]
    looks = 0
    for sample in Many(settings).samples():  # type: ignore[arg-type]
        one = replace(sample, evidence_seconds=(0.5, 1.0))
        answered, expected = teacher.answer(one).trace, here.answer(one).trace
        assert (answered and answered.steps) == (expected and expected.steps)
        looks += 0 if answered is None else sum(isinstance(step, Observation) for step in answered.steps)
    assert looks


@pytest.mark.parametrize("frames", ["real", "unedited"])
def test_what_holds_a_model_is_not_the_teachers(evaluation: Job, frames: Any) -> None:
    assert own_looker_of(changed(evaluation, frames=frames)) is None


def test_where_training_data_are_made_every_retriever_is_elsewhere(job: Job) -> None:
    assert own_looker_of(job.settings) is None


def test_what_a_trace_holds_survives_the_way() -> None:
    imagined = Frame(PICTURE, None, provenance=Provenance("a star", 0.5, "painter", 3, scores={"fit": 0.5}))
    trace = Trace("q#1", "clip.mp4", "What?", (Frame(PICTURE, 0.0), imagined), ("a", "b"), cost=Cost(1, 2, dollars=0.5), made_with={"a": "b"})
    assert sent(trace) == trace


@pytest.mark.parametrize("kind", [Act2SeeError, BackendError, ConfigError, OutOfMemoryToolError, StoreError, ToolError, VideoError])
def test_errors_come_back_as_what_they_were(kind: type[Act2SeeError]) -> None:
    error = sent(kind("no frame at 3.00 s"))
    assert (type(error), str(error)) == (kind, "no frame at 3.00 s")


def test_threads_of_a_teacher_ask_its_tools_at_the_same_time(job: Job) -> None:
    asking = [one for one in samples(job) if one.id != "q003"]
    teacher = Teacher(job, OneFrame(), None, None)
    looking = [one for one in asking if teacher.attempt(one, 0).called][:3]
    assert len(looking) == 3
    teacher = Teacher(job, OneFrame(meeting=threading.Barrier(3, timeout=60)), None, None)  # nobody gets past it alone
    found: list[Scored] = []
    threads = [threading.Thread(target=lambda one=one: found.append(teacher.attempt(one, 0))) for one in looking]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.sample.id for one in found) == sorted(one.id for one in looking)
    assert not any(one.outcome.endswith("_error") for one in found)


def test_a_teacher_says_what_its_backend_is(job: Job) -> None:
    assert sent(Teacher(job, None, None, None).about()) == AboutBackend(dict(Steady.made_with), concurrent=True)
    alone = replace(job, settings=replace(job.settings, backend="eval_fakes:OneByOne"))
    assert not Teacher(alone, None, None, None).about().concurrent


def test_prices_come_with_the_job_and_no_file_is_read(job: Job) -> None:
    priced = sent(replace(job, prices={"steady-1": Price(1000.0, 0.0)}))
    trace = Teacher(priced, OneFrame(), None, per_minute=6000.0).attempt(samples(job)[0], 0).trace
    assert trace is not None
    assert trace.cost.dollars == pytest.approx(trace.cost.tokens_in / 1000)
    with pytest.raises(ConfigError, match="no price for 'steady-1'; it has 'other'"):
        Teacher(replace(job, prices={"other": Price(1.0, 1.0)}), None, None, None).about()


def test_what_cannot_be_loaded_is_the_callers_error_each_time(job: Job) -> None:
    """A process that dies of it would say nothing that a user can mend."""
    teacher = Teacher(replace(job, settings=replace(job.settings, backend="eval_fakes:Nobody")), None, None, None)
    for _ in range(2):
        with pytest.raises(ConfigError, match="has no class or function Nobody"):
            teacher.about()


def test_tools_find_what_their_retriever_finds(job: Job, clip: Path) -> None:
    tools = Tools(job)
    assert sent(tools.about()) == AboutTools("finder")
    (frame,), flops = sent(tools.find(clip.name, "a star", (), 1))  # relative to where the job was started
    (here,) = Finder(job.settings).find(Video(clip), "a star", shown=())
    assert (frame, flops) == (here, {})


@pytest.mark.parametrize(
    ("flags", "about"),
    [
        ({}, AboutTools("finder")),
        ({"frames": "unedited"}, AboutTools("finder", "unedited")),
        ({"frames": "random"}, AboutTools("random@3fps")),
        ({"frames": "withheld"}, AboutTools("withheld")),
        ({"max_looks": 0}, AboutTools()),
        ({"max_looks": 0, "insert": 1}, AboutTools("finder")),
        ({"max_looks": 0, "frames": "unedited"}, AboutTools(None, "unedited")),
    ],
)
def test_an_evaluations_tools_are_those_of_the_command(evaluation: Job, flags: Mapping[str, Any], about: AboutTools) -> None:
    settings = changed(evaluation, **flags)
    assert sent(Tools(replace(evaluation, settings=settings)).about()) == about
    assert AboutTools.of(*setup.tools(settings)) == about


def test_where_training_data_are_made_nothing_is_put_in_unasked(job: Job) -> None:
    assert AboutTools.of(*setup.tools(changed(job, max_looks=0, insert=1))) == AboutTools()


def test_the_encoder_and_what_indexes_are_told() -> None:
    @dataclass
    class Encoder:
        fingerprint: str = "0123"

    @dataclass
    class Indexing(OneFrame):
        encoder: Encoder = field(default_factory=Encoder)

        def index(self, video: Video) -> None:
            raise AssertionError("nobody asked for one")

    assert AboutTools.of(Indexing(), None) == AboutTools("one", None, "0123", can_index=True)


def test_how_many_processes_there_are_is_as_the_flags_say() -> None:
    flags = EvalExecutionConfig(workers=9, ray="local", ray_teachers=2, ray_tools=3, ray_indexers=4, ray_teacher_gpus=0.5, ray_tool_gpus=1.0)
    assert Layout.of(flags) == Layout(teachers=2, tools=3, indexers=4, cpus=1.0, teacher_gpus=0.5, tool_gpus=1.0)
    assert Layout.of(EvalExecutionConfig()) == Layout(), "and the defaults are the same"


def test_a_backend_that_is_elsewhere_is_not_asked_here() -> None:
    backend = Elsewhere({"model": "steady-1"})
    assert backend.made_with == {"model": "steady-1"}
    with pytest.raises(BackendError, match="on the cluster"):
        next(backend.decode(Trace("q", "clip.mp4", "What?", ()), ()))


def test_tools_open_a_video_again_that_could_not_be_read(job: Job, clip: Path) -> None:
    tools, path = Tools(job), clip.with_name("other.mp4")
    path.write_bytes(clip.read_bytes())
    tools.find(str(path), "a star", (), 1)
    path.write_bytes(b"no video at all")
    with pytest.raises(VideoError):
        tools.find(str(path), "a star", (), 1)
    path.write_bytes(clip.read_bytes())
    assert tools.find(str(path), "a star", (), 1)


def test_a_job_stays_where_it_is_on_a_node_without_the_folder(job: Job, tmp_path: Path) -> None:
    replace(job, folder=tmp_path / "not here").enter()
    assert Path.cwd() == tmp_path
