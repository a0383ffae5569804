"""The audit: arms that share what is before the call and differ in what they are shown, by a model that says what it sees."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see.core.chat import Tool, chosen
from act2see.core.engine import LoopOptions
from act2see.core.errors import BackendError, ToolError
from act2see.core.interfaces import Backend, Benchmark, Continuation, Generator, Retriever, Sample
from act2see.core.protocol import STOPS
from act2see.core.trace import Answer, Cost, Frame, Generate, Observation, Provenance, Retrieve, Trace
from act2see.evaluation.ablation import CONDITIONS, MEANINGS, Audited, Auditor, Condition, ConditionResult, summarise_audit
from act2see.evaluation.evaluator import Evaluator
from act2see.evaluation.statistics import mcnemar
from act2see.report.audit_page import chart, render_audit
from act2see.synthetic.world import Actor, Clip
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


def auditor(benchmark: Benchmark, backend: Backend, retriever: Retriever, generator: Generator | None = None) -> Auditor:
    return Auditor(Evaluator(benchmark, backend, retriever, generator))


def outcomes(made: Auditor, of: Sample) -> dict[Condition, str]:
    return {arm: armed.outcome for arm, armed in made.audit(of).arms.items()}


def test_what_only_the_right_frame_shows_no_other_arm_solves(clip: Path) -> None:
    backend = Sees()
    audited = auditor(One(), backend, AtRight(), Reddens()).audit(sample(clip, "retrieve"))
    found = {arm: armed.outcome for arm, armed in audited.arms.items()}
    assert tuple(found) == CONDITIONS
    wrong = {"off", "withheld", "random", "wrong_time", "blurred"}
    assert {arm for arm, outcome in found.items() if outcome == "wrong"} == wrong
    assert found["real"] == found["unedited"] == "correct"  # nothing was imagined, so there is nothing to leave unedited
    assert (audited.call, audited.looks, audited.frames) == ("retrieve", 1, 4)
    assert audited.is_right("real")
    assert not audited.is_right("blurred")


def test_of_an_imagined_picture_the_unedited_anchor_is_an_arm_too(clip: Path) -> None:
    pictures = Reddens()
    made = auditor(One(), Sees(), AtRight(), pictures)
    found = outcomes(made, sample(clip, "generate"))
    assert {arm for arm, outcome in found.items() if outcome == "correct"} == {"real", "wrong_time", "unedited"}
    assert pictures.anchors[0] == pytest.approx(RIGHT, abs=0.02)
    assert len(pictures.anchors) == 3  # real, wrong time, blurred
    assert abs((pictures.anchors[1] or 0.0) - RIGHT) >= 1.0
    assert found["blurred"] == "wrong"


def test_what_is_before_the_call_is_thought_once(clip: Path) -> None:
    backend = Sees()
    audited = auditor(One(), backend, AtRight(), Reddens()).audit(sample(clip, "retrieve"))
    begun = [tools for steps, tools in backend.decoded if steps == 0]
    assert begun == [("retrieve", "generate"), ()]  # the real one, and last the one without tools
    assert backend.decoded[-1] == (0, ())
    assert audited.arms["real"].cost.tokens_out == 10
    assert {audited.arms[arm].cost.tokens_out for arm in ("off", "withheld", "random", "wrong_time", "blurred")} == {5}
    assert audited.arms["unedited"].cost.tokens_out == 0


def test_without_a_call_no_arm_changes_anything_but_the_tools_are_taken_away(clip: Path) -> None:
    backend = Sees()
    audited = auditor(One(), backend, AtRight()).audit(sample(clip, "Which colour?", "blue"))
    assert {armed.outcome for armed in audited.arms.values()} == {"correct"}
    assert audited.call is None
    assert len(backend.decoded) == 2


def test_an_arm_that_fails_fails_alone(clip: Path) -> None:
    backend = Sees(fails_after_steps=2)
    found = auditor(One(), backend, AtRight()).audit(sample(clip, "retrieve"))
    assert found.arms["off"].outcome == "wrong"
    assert {found.arms[arm].outcome for arm in ("real", "withheld", "blurred")} == {"backend_error"}
    assert found.arms["random"].error == "the server is gone"


@dataclass
class Gone(AtRight):
    """A retriever whose server is gone."""

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        raise BackendError("no answer from the index")


def test_a_tool_that_cannot_be_asked_fails_in_the_arms_that_ask_it(clip: Path) -> None:
    found = outcomes(auditor(One(), Sees(), Gone()), sample(clip, "retrieve"))
    assert {arm for arm, outcome in found.items() if outcome == "tool_error"} == {"real", "wrong_time", "blurred", "unedited"}
    assert {found[arm] for arm in ("off", "withheld", "random")} == {"wrong"}


def test_a_video_that_cannot_be_read_is_one_outcome_in_every_arm(tmp_path: Path) -> None:
    found = auditor(One(), Sees(), AtRight()).audit(sample(tmp_path / "none.mp4", "retrieve"))
    assert {armed.outcome for armed in found.arms.values()} == {"video_error"}
    assert "no such file" in (found.arms["real"].error or "")


def test_what_was_kept_is_not_made_again(clip: Path) -> None:
    kept: dict[Condition, Trace] = {}
    made = auditor(One(), Sees(), AtRight(), Reddens())
    whole = made.audit(sample(clip, "generate"), keep=kept.__setitem__)
    assert set(kept) == set(CONDITIONS)
    again = Sees()
    assert auditor(One(), again, AtRight(), Reddens()).audit(sample(clip, "generate"), done=kept) == whole
    assert again.decoded == []
    parts: tuple[Condition, ...] = ("real", "random")
    resumed = auditor(One(), again, AtRight(), Reddens()).audit(sample(clip, "generate"), done={arm: kept[arm] for arm in parts})
    for arm in CONDITIONS:
        assert resumed.arms[arm].outcome == whole.arms[arm].outcome
        assert resumed.arms[arm].cost.tokens_in == whole.arms[arm].cost.tokens_in
    assert len(again.decoded) == len(CONDITIONS) - 2


def test_every_arm_says_what_it_was_shown(clip: Path) -> None:
    kept: dict[Condition, Trace] = {}
    auditor(One(), Sees(), AtRight(), Reddens()).audit(sample(clip, "retrieve"), keep=kept.__setitem__)
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


@pytest.mark.parametrize(("call", "tool"), [("1 to 2 s", "clip"), ("at 1.5 s", "clip"), ("zoom 0.4 0.4 0.6 0.6 at 1.5 s", "zoom")])
def test_a_look_with_a_time_or_a_place_has_placebos_of_its_own_kind(clip: Path, monkeypatch: pytest.MonkeyPatch, call: str, tool: Tool) -> None:
    monkeypatch.setitem(CALLS, "spot", f"<retrieve> {call} </retrieve>")
    evaluator = Evaluator(One(), Sees(), AtRight(), loop=LoopOptions(offered=("clip", "zoom"), seed=2))
    kept: dict[Condition, Trace] = {}
    audited = Auditor(evaluator).audit(sample(clip, "spot"), keep=kept.__setitem__)
    right = {arm for arm, result in audited.arms.items() if result.outcome == "correct"}
    assert right - {"random"} == {"real", "unedited"}  # a random stretch may meet the right one
    assert (audited.call, audited.looks) == (tool, 1)
    shown = {arm: kept[arm].brought_frames for arm in ("real", "random", "wrong_time", "blurred")}
    assert {len(frames) for frames in shown.values()} == {8 if "to" in call else 1}
    assert {frame.box is None for frames in shown.values() for frame in frames} == {tool == "clip"}
    assert [frame.seconds for frame in shown["blurred"]] == [frame.seconds for frame in shown["real"]]
    assert {arm: trace.made_with.get("retriever") for arm, trace in kept.items()}["random"] == "random@3fps"
    assert list(summarise_audit([audited])["by_call"]) == [tool]


# The summary


def audited(name: str, call: Tool | None, right: str, *, kind: str = "transient", video: str = "v.mp4", looks: int = 1) -> Audited:
    """A question that is right in the arms named in `right`."""
    arms: dict[Condition, ConditionResult] = {
        arm: ConditionResult("correct" if arm in right.split() else "wrong", Cost(10, 2, 5, {"decode": 0.5})) for arm in CONDITIONS
    }
    return Audited(Sample(name, Path(video), "What?", ("a", "b", "c", "d"), "a", kind), call, looks if call else 0, 4, 0, arms)


EVERYWHERE = " ".join(CONDITIONS)
AUDITED = [
    audited("1", "retrieve", "real unedited", video="a.mp4"),  # only looking solves it
    audited("2", "retrieve", "real unedited blurred", video="a.mp4"),  # nor does a blur count against that
    audited("3", "retrieve", EVERYWHERE, video="b.mp4"),  # called without need
    audited("4", "retrieve", "off withheld", video="b.mp4"),  # harmed
    audited("5", None, EVERYWHERE, kind="static", video="c.mp4"),
    audited("6", None, "", kind="static", video="c.mp4"),  # did not call in need
    audited("7", "generate", "real unedited", video="d.mp4"),  # the anchor was enough
    audited("8", "generate", "real wrong_time", video="d.mp4"),
]


def test_gains_harms_and_needs_are_counted_by_hand() -> None:
    summary = summarise_audit(AUDITED)
    assert summary["n"] == 8
    assert summary["chance"] == 0.25
    looking = summary["looking"]
    assert looking == {
        "n": 8,
        "call_rate": 0.75,
        "gains": 0.5,
        "harms": 0.125,
        "only_looking_solves": 0.375,  # 1, 2 and 8: a picture made from another frame is a picture
        "over_calling": round(2 / 3, 4),  # 3 and 4, of 3, 4, 5
        "under_calling": 0.2,  # 6, of 1, 2, 6, 7, 8
    }
    assert summary["looking_by_kind"]["static"]["under_calling"] == 1.0
    assert summary["by_looks"] == {"0": {"n": 2, "accuracy": 0.5}, "1": {"n": 6, "accuracy": round(5 / 6, 4)}}
    assert summary["by_frames"] == {"4": {"n": 8, "accuracy": 0.75}}


def test_an_arm_is_compared_with_the_real_one_question_by_question() -> None:
    summary = summarise_audit(AUDITED)
    off = summary["arms"]["off"]
    assert (off["accuracy"], off["real_minus_arm"]) == (0.375, 0.375)
    assert (off["only_real_right"], off["only_arm_right"]) == (4, 1)
    assert off["mcnemar_p"] == mcnemar(4, 1)
    low, high = off["real_minus_arm_95"]
    assert low < 0.375 < high
    assert off["outcomes"] == {"correct": 3, "wrong": 5}
    assert set(summary["by_call"]) == {"retrieve", "generate", "none"}
    assert summary["by_call"]["generate"]["unedited"]["accuracy"] == 0.5
    assert summary["by_kind"]["static"]["real"]["accuracy"] == 0.5
    assert summary["cost"]["off"] == {"tokens_in": 80, "tokens_reused": 40, "tokens_out": 16, "seconds": 4.0}


def test_of_no_question_there_is_no_share() -> None:
    summary = summarise_audit([])
    assert summary["n"] == 0
    assert summary["arms"]["real"]["accuracy"] is None
    assert summary["looking"]["over_calling"] is None


# The page


def test_the_page_shows_every_arm_where_its_accuracy_is() -> None:
    summary = {"benchmark": "synthetic", **summarise_audit(AUDITED)}
    html = render_audit(summary, MEANINGS)
    assert html.count("<section>") == 1 + 2 + 3 + 4
    made = chart("All", summary["arms"], MEANINGS, summary["chance"])
    assert [mark.name for mark in made.marks] == [arm.replace("_", " ") for arm in CONDITIONS]
    real, off = made.marks[0], made.marks[1]
    assert off.at == 37.5
    assert off.interval is not None
    assert 0 <= off.interval[0] < off.at < sum(off.interval) <= 100
    assert made.chance == 25
    assert (real.difference, off.difference[:5]) == ("", "+37.5")
    for words in (*MEANINGS.values(), "37.5\N{NO-BREAK SPACE}%", "called no tool"):
        assert words.replace("'", "&#39;") in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_names_from_a_data_set_are_text_on_the_page() -> None:
    evil = [audited("1", None, "real", kind="<script>alert(1)</script>"), audited("2", None, "real", kind="static")]
    html = render_audit({"benchmark": "<b>x</b>", **summarise_audit(evil)}, MEANINGS)
    assert "<script>" not in html
    assert "<b>x" not in html
    assert "&lt;script&gt;" in html


def test_a_page_of_nothing_can_be_drawn() -> None:
    assert "0 questions" in render_audit({"benchmark": "none", **summarise_audit([])}, MEANINGS)
