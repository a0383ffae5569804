"""The audit: arms that share what is before the call and differ in what they are shown, by a model that says what it sees."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see.audit import ARMS, Arm, Auditor
from act2see.chat import STOPS, Tool, chosen
from act2see.errors import BackendError, ToolError
from act2see.interfaces import Continuation, Sample
from act2see.synthetic.world import Actor, Clip
from act2see.trace import Answer, Cost, Frame, Generate, Observation, Provenance, Retrieve, Trace
from act2see.video import Video

RIGHT = 1.5
CALLS = {"retrieve": "<retrieve> the star </retrieve>", "generate": "<generate> a red star </generate>"}


@dataclass
class Sees:
    """Writes the call that the question names, if it may, and then `red` when something reddish was brought; what cannot be seen is `blue`."""

    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "sees"})
    decoded: list[tuple[int, tuple[Tool, ...]]] = field(default_factory=list)
    fails_after_steps: int | None = None

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        self.decoded.append((len(trace.steps), tuple(tools)))
        if len(trace.steps) == self.fails_after_steps:
            raise BackendError("the server is gone")
        last = trace.steps[-1] if trace.steps else None
        if last is None and tools and trace.question in CALLS:
            text = CALLS[trace.question]
        else:
            brought = last.frames if isinstance(last, Observation) else ()
            text = f"<answer>{'red' if any(reddish(frame.image) for frame in brought) else 'blue'}</answer>"
        yield text
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", Cost(100, 5, 80))


def reddish(image: Image.Image) -> bool:
    pixels = np.asarray(image.convert("RGB"), np.float32)
    return bool((pixels[..., 0] - pixels[..., 1:].max(axis=2)).max() > 120)


@dataclass
class AtRight:
    """Finds the frame in which the star is; while `broken`, none."""

    name: str = "at right"
    broken: bool = False

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        if self.broken:
            raise ToolError("no frame was found")
        return [video.frame_at(RIGHT)]


@dataclass
class Reddens:
    """Paints the middle of its anchor red."""

    name: str = "reddens"
    anchors: list[float | None] = field(default_factory=list)

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        self.anchors.append(anchor.seconds)
        image = anchor.image.copy()
        image.paste((255, 0, 0), (118, 118, 138, 138))
        return Frame(image, None, provenance=Provenance(prompt, anchor.seconds, "reddens", seed))


@dataclass
class One:
    """A benchmark that knows how to score."""

    name: str = "one"

    def samples(self) -> Sequence[Sample]:
        return ()

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        index = chosen(trace.answer, sample.choices)
        return None if index is None else sample.choices[index] == sample.answer


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds, with a red star from 1.4 to 1.8 s."""
    path = tmp_path_factory.mktemp("audit") / "clip.mp4"
    Clip(4.0, (Actor("star", "red", "middle", 26, 1.4, 1.8),)).write(path)
    return path


def sample(clip: Path, question: str, answer: str = "red") -> Sample:
    return Sample(question, clip, question, ("red", "blue"), answer, "transient")


def outcomes(auditor: Auditor, of: Sample) -> dict[Arm, str]:
    return {arm: armed.outcome for arm, armed in auditor.audit(of).arms.items()}


def test_what_only_the_right_frame_shows_no_other_arm_solves(clip: Path) -> None:
    backend = Sees()
    audited = Auditor(One(), backend, AtRight(), Reddens()).audit(sample(clip, "retrieve"))
    found = {arm: armed.outcome for arm, armed in audited.arms.items()}
    assert tuple(found) == ARMS
    wrong = {"off", "withheld", "random", "wrong_time", "blurred"}
    assert {arm for arm, outcome in found.items() if outcome == "wrong"} == wrong
    assert found["real"] == found["unedited"] == "correct"  # nothing was imagined, so there is nothing to leave unedited
    assert (audited.call, audited.looks, audited.frames) == ("retrieve", 1, 4)
    assert audited.is_right("real")
    assert not audited.is_right("blurred")


def test_of_an_imagined_picture_the_unedited_anchor_is_an_arm_too(clip: Path) -> None:
    pictures = Reddens()
    auditor = Auditor(One(), Sees(), AtRight(), pictures)
    found = outcomes(auditor, sample(clip, "generate"))
    assert {arm for arm, outcome in found.items() if outcome == "correct"} == {"real", "wrong_time", "unedited"}
    assert pictures.anchors[0] == pytest.approx(RIGHT, abs=0.02)
    assert len(pictures.anchors) == 3  # real, wrong time, blurred
    assert abs((pictures.anchors[1] or 0.0) - RIGHT) >= 1.0
    assert found["blurred"] == "wrong"


def test_what_is_before_the_call_is_thought_once(clip: Path) -> None:
    backend = Sees()
    audited = Auditor(One(), backend, AtRight(), Reddens()).audit(sample(clip, "retrieve"))
    begun = [tools for steps, tools in backend.decoded if steps == 0]
    assert begun == [("retrieve", "generate"), ()]  # the real one, and last the one without tools
    assert backend.decoded[-1] == (0, ())
    assert audited.arms["real"].cost.tokens_out == 10
    assert {audited.arms[arm].cost.tokens_out for arm in ("off", "withheld", "random", "wrong_time", "blurred")} == {5}
    assert audited.arms["unedited"].cost.tokens_out == 0


def test_without_a_call_no_arm_changes_anything_but_the_tools_are_taken_away(clip: Path) -> None:
    backend = Sees()
    audited = Auditor(One(), backend, AtRight()).audit(sample(clip, "Which colour?", "blue"))
    assert {armed.outcome for armed in audited.arms.values()} == {"correct"}
    assert audited.call is None
    assert len(backend.decoded) == 2


def test_an_arm_that_fails_fails_alone(clip: Path) -> None:
    backend = Sees(fails_after_steps=2)
    found = Auditor(One(), backend, AtRight()).audit(sample(clip, "retrieve"))
    assert found.arms["off"].outcome == "wrong"
    assert {found.arms[arm].outcome for arm in ("real", "withheld", "blurred")} == {"backend_error"}
    assert found.arms["random"].error == "the server is gone"


def test_a_video_that_cannot_be_read_is_one_outcome_in_every_arm(tmp_path: Path) -> None:
    found = Auditor(One(), Sees(), AtRight()).audit(sample(tmp_path / "none.mp4", "retrieve"))
    assert {armed.outcome for armed in found.arms.values()} == {"video_error"}
    assert "no such file" in (found.arms["real"].error or "")


def test_what_was_kept_is_not_made_again(clip: Path) -> None:
    kept: dict[Arm, Trace] = {}
    auditor = Auditor(One(), Sees(), AtRight(), Reddens())
    whole = auditor.audit(sample(clip, "generate"), keep=kept.__setitem__)
    assert set(kept) == set(ARMS)
    again = Sees()
    assert Auditor(One(), again, AtRight(), Reddens()).audit(sample(clip, "generate"), done=kept) == whole
    assert again.decoded == []
    parts: tuple[Arm, ...] = ("real", "random")
    resumed = Auditor(One(), again, AtRight(), Reddens()).audit(sample(clip, "generate"), done={arm: kept[arm] for arm in parts})
    for arm in ARMS:
        assert resumed.arms[arm].outcome == whole.arms[arm].outcome
        assert resumed.arms[arm].cost.tokens_in == whole.arms[arm].cost.tokens_in
    assert len(again.decoded) == len(ARMS) - 2


def test_every_arm_says_what_it_was_shown(clip: Path) -> None:
    kept: dict[Arm, Trace] = {}
    Auditor(One(), Sees(), AtRight(), Reddens()).audit(sample(clip, "retrieve"), keep=kept.__setitem__)
    assert {arm: trace.made_with.get("retriever") for arm, trace in kept.items()} == {
        "real": "at right",
        "withheld": "withheld",
        "random": "random@3fps",
        "wrong_time": "wrong time@3fps of at right",
        "blurred": "blurred of at right",
        "off": None,
    }
    assert all(trace.steps[0] == Retrieve(" the star ") for arm, trace in kept.items() if arm != "off")
    assert isinstance(kept["off"].steps[0], Answer)
    assert not any(isinstance(step, Generate) for trace in kept.values() for step in trace.steps)
