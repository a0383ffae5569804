"""What the embedded models are not asked, and what stands in a trace when they are all the same."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from act2see import registry
from act2see.api import retrieve
from act2see.config import EvalConfig, GenerateConfig, ModelConfig, SearchConfig, recorded
from act2see.core.engine import LoopOptions
from act2see.core.errors import ScopeError
from act2see.core.interfaces import Sample
from act2see.core.trace import Frame, Observation, Provenance, Trace
from act2see.evaluation.evaluator import Evaluator
from act2see.storage.records import decode_trace, encode_trace
from act2see.synthetic.scope import FORCED, NOTICE, Scope, is_of_the_world_alone, not_judged, refusal_to_search
from act2see.synthetic.world import Actor, Clip
from act2see.video import Video
from engine_fakes import ANSWER, Scripted

OWN = Clip(2.0, (Actor("star", "red", "top", 26, 0, 9),)).draw(1.0)
FOREIGN = Image.new("RGB", (256, 256), "grey")


def asked(picture: Image.Image, *choices: str) -> Trace:
    return Trace("a", "clips/mine.mp4", "What?", (Frame(picture, 0.0),), choices)


def test_the_embedded_model_is_asked_about_its_world_with_choices_alone() -> None:
    scope = Scope(backend=True, retriever=True)
    assert scope.refusal(asked(OWN, "a", "b")) is None
    assert scope.notice(asked(OWN, "a", "b")) is None
    foreign, free = scope.refusal(asked(FOREIGN, "a", "b")), scope.refusal(asked(OWN))
    assert foreign is not None
    assert foreign.startswith("mine.mp4 is not of the synthetic world")
    assert free is not None
    assert "--choices" in free
    for line in (foreign, free):
        assert "\n" not in line
        for way in ("huggingface:Qwen/Qwen3-VL-8B-Thinking", "vLLM", "hosted", "--force"):
            assert way in line


def test_force_asks_with_a_notice_where_there_is_something_to_notice() -> None:
    scope = Scope(backend=True, force=True)
    for trace in (asked(FOREIGN, "a", "b"), asked(FOREIGN), asked(OWN)):
        assert scope.refusal(trace) is None
        assert scope.notice(trace) == FORCED
    assert scope.notice(asked(OWN, "a", "b")) is None


def test_choices_in_the_text_are_choices() -> None:
    scope = Scope(backend=True, choices_in_text=True)
    assert scope.refusal(asked(OWN)) is None
    assert scope.refusal(asked(FOREIGN)) is not None


@pytest.mark.parametrize(
    ("scope", "named"),
    [
        (Scope(retriever=True), "retriever knows"),
        (Scope(generator=True), "generator knows"),
        (Scope(retriever=True, generator=True), "retriever and generator know"),
    ],
)
def test_another_model_is_asked_with_a_notice_about_the_embedded_tools(scope: Scope, named: str) -> None:
    assert scope.refusal(asked(FOREIGN)) is None
    assert f"the embedded {named} nothing else" in (scope.notice(asked(FOREIGN)) or "")
    assert scope.notice(asked(OWN)) is None


def test_models_of_others_are_limited_by_nothing() -> None:
    assert not Scope().is_limited
    assert Scope().notice(asked(FOREIGN)) is None


def test_which_models_a_config_names() -> None:
    assert registry.scope(ModelConfig()) == Scope(backend=True, retriever=True, generator=True)
    assert registry.scope(ModelConfig(backend="openai:x")) == Scope(retriever=True)
    assert registry.scope(ModelConfig(backend="openai:x", max_looks=0)) == Scope()
    assert registry.scope(ModelConfig(backend="openai:x", retriever="none", generator="micro")) == Scope(generator=True)
    assert registry.scope(SearchConfig(force=True)) == Scope(retriever=True, force=True)
    assert registry.scope(GenerateConfig(retriever="siglip:elsewhere")) == Scope(generator=True)


def test_a_folder_says_for_itself_what_it_knows(tmp_path: Path) -> None:
    for name in ("vlm", "retriever", "generator"):
        kind = {"vlm": "huggingface", "retriever": "siglip", "generator": "diffusers"}[name]
        assert is_of_the_world_alone(f"{kind}:{registry.MICRO / name}")
    said = tmp_path / "act2see.json"
    for text, alone in (('{"knows": "synthetic"}', True), ('{"knows": "all"}', False), ("[]", False), ("{", False), ("\udcff", False)):
        said.write_text(text, encoding="utf-8", errors="surrogateescape")
        assert is_of_the_world_alone(f"huggingface:{tmp_path}") is alone
    assert not is_of_the_world_alone(f"openai:{registry.MICRO / 'vlm'}")
    assert not is_of_the_world_alone("micro:vlm")


def test_a_runs_settings_are_as_ever_unless_force_is_given() -> None:
    assert "force" not in recorded(ModelConfig(), leave_out=())
    assert recorded(ModelConfig(force=True), leave_out=())["force"] is True


@pytest.fixture
def clip(write_video: Callable[..., Path]) -> Path:
    """A video that is not of the world."""
    return write_video("clip.mp4", [number / 10 for number in range(20)])


@pytest.fixture(scope="module")
def own_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.mp4"
    Clip(2.0, (Actor("star", "red", "top", 26, 0, 9),)).write(path)
    return path


def test_a_video_is_looked_at_before_it_is_searched(own_video: Path, clip: Path) -> None:
    assert refusal_to_search(Video(own_video)) is None
    assert "clip.mp4" in (refusal_to_search(Video(clip)) or "")
    assert len(retrieve(own_video, "the red star")) == 1
    with pytest.raises(ScopeError, match="--retriever siglip:"):
        retrieve(clip, "the red star", retriever="micro")
    assert len(retrieve(clip, "the red star", config=SearchConfig(force=True))) == 1


# Evaluations


class Asks:
    """A benchmark of which nothing is right."""

    def __init__(self, *samples: Sample, name: str = "mine") -> None:
        self.name, self._samples = name, samples

    def samples(self) -> tuple[Sample, ...]:
        return self._samples

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        return False


def test_a_question_about_another_video_ends_unasked_and_the_others_go_on(own_video: Path, clip: Path) -> None:
    samples = [
        Sample(str(video), video, "What?", choices, "a", "any") for video, choices in ((clip, ("a", "b")), (own_video, ("a", "b")), (own_video, ()))
    ]
    backend = Scripted([ANSWER, ANSWER, ANSWER])
    evaluator = Evaluator(Asks(*samples), backend, None, scope=Scope(backend=True), loop=LoopOptions(max_looks=0))
    ended = list(evaluator.run())
    assert [one.outcome for one in ended] == ["no_answer", "wrong", "no_answer"]
    assert "not of the synthetic world" in (ended[0].error or "")
    assert "open questions" in (ended[2].error or "")
    assert (ended[0].trace, ended[2].trace, len(backend.read)) == (None, None, 1)
    assert ended[1].trace is not None
    assert NOTICE not in ended[1].trace.made_with


def test_a_forced_question_has_the_notice_in_its_trace(clip: Path) -> None:
    sample = Sample("a", clip, "What?", ("a", "b"), "a", "any")
    evaluator = Evaluator(Asks(sample), Scripted([ANSWER]), None, scope=Scope(backend=True, force=True), loop=LoopOptions(max_looks=0))
    (ended,) = evaluator.run()
    assert ended.trace is not None
    assert ended.trace.made_with[NOTICE] == FORCED


def test_the_synthetic_benchmark_is_not_looked_at(clip: Path) -> None:
    sample = Sample("a", clip, "What?", ("a", "b"), "a", "any")
    (ended,) = Evaluator(
        Asks(sample, name="synthetic"), Scripted([ANSWER]), None, scope=registry.scope(EvalConfig()), loop=LoopOptions(max_looks=0)
    ).run()
    assert ended.outcome == "wrong"


# Pictures


def test_the_embedded_judge_vouches_for_no_picture_of_another_world() -> None:
    assert not_judged(OWN) is None
    assert "judge" in (not_judged(FOREIGN) or "")


def test_a_provenance_keeps_that_nobody_could_check_it() -> None:
    made = Provenance("a red star", 0.5, "generator", 0, unverified="nobody knows it")
    trace = Trace("a", "b", "c", (), steps=[Observation((Frame(OWN, None, provenance=made),))])
    record = json.loads(json.dumps(encode_trace(trace, lambda frame: "0" * 64 + ".png")))
    (kept,) = record["steps"][0]["frames"]
    assert kept["provenance"]["unverified"] == "nobody knows it"
    (back,) = decode_trace(record, lambda name: OWN).steps
    assert isinstance(back, Observation)
    assert back.frames[0].provenance == made
    del kept["provenance"]["unverified"]  # as it was written before, and is where there is nothing to say
    (old,) = decode_trace(record, lambda name: OWN).steps
    assert isinstance(old, Observation)
    assert old.frames[0].provenance is not None
    assert old.frames[0].provenance.unverified is None
