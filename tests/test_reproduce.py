"""The reproduction: its plan, its teachers, its means and intervals, and the same tables after an interruption."""

import json
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from act2see import cli
from act2see.config import ReproduceConfig
from act2see.core import chat
from act2see.core.engine import LoopOptions, new_trace, reason
from act2see.core.errors import ConfigError
from act2see.core.trace import Frame, Provenance, Thought, Trace
from act2see.evaluation.statistics import share_interval
from act2see.reproduce import application
from act2see.reproduce.faithfulness import judged_pictures
from act2see.reproduce.page import markdown, page
from act2see.reproduce.plan import EXPERIMENTS, FULL, SMALL, TINY, Scale, plan
from act2see.reproduce.stages import Clips, Construct, Evaluate, Tune
from act2see.reproduce.statements import STATEMENTS
from act2see.reproduce.tables import Mean, Result, Source, Table, command_of, mean_of, traces_digest
from act2see.reproduce.teachers import NoisyTeacher, PlainTeacher, TextTeacher, VeryNoisyTeacher
from act2see.reproduce.times import Times
from act2see.storage.runs import Run
from act2see.synthetic import dataset
from act2see.synthetic.edits import apply
from act2see.synthetic.hypothetical import Hypothetical
from act2see.synthetic.questions import Question
from act2see.video import Video

# The plan


@pytest.mark.parametrize("scale", [SMALL, FULL, TINY], ids=lambda scale: scale.name)
@pytest.mark.parametrize("only", [(), *((name,) for name in EXPERIMENTS)], ids=lambda only: "".join(only) or "all")
def test_every_stage_follows_those_that_it_needs(scale: Scale, only: Sequence[str]) -> None:
    found = plan(scale, 2, only)
    done: set[str] = set()
    for wave in found.waves():
        assert all(done.issuperset(stage.needs) for stage in wave)
        done |= {stage.name for stage in wave}
    assert sorted(done) == sorted(stage.name for stage in found.stages)


def test_experiments_share_stages_and_each_alone_is_a_part_of_all() -> None:
    everything = {stage.name: stage for stage in plan(SMALL, 1, ()).stages}
    parts = [stage for name in EXPERIMENTS for stage in plan(SMALL, 1, (name,)).stages]
    assert all(everything[stage.name] == stage for stage in parts)
    assert len(parts) > len(everything)


def test_no_model_is_asked_a_question_that_it_was_trained_on() -> None:
    stages = plan(FULL, 3, ()).stages
    asked = {(one.work.split, one.work.seed) for one in stages if isinstance(one.work, Clips) and "held-out" in one.name}
    assert asked == {("held-out", 0)}
    taught = [(one.work.seed, one.work.teacher) for one in stages if isinstance(one.work, Construct)]
    assert len({seed for seed, teacher in taught if teacher == "TextTeacher"}) == 3
    assert {seed for seed, teacher in taught if teacher == "TextTeacher"}.isdisjoint(seed for seed, teacher in taught if teacher != "TextTeacher")


def test_every_arm_starts_from_the_base_model() -> None:
    tunes = {one.name: one.work for one in plan(SMALL, 1, ()).stages if isinstance(one.work, Tune)}
    assert tunes.pop("seed-0/model-base").start is None
    assert {work.start for work in tunes.values()} == {"seed-0/model-base"}


def test_an_unknown_experiment_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown experiment 'z'; known are a, b"):
        plan(SMALL, 1, ("z",))


def test_a_plan_writes_nothing_and_counts_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ReproduceConfig(out=out, small=True, seeds=1, only=("e",))
    found = application.outline(options)
    assert not out.exists()
    assert len(found.missing) == len(found.plan.stages)
    folder = out / "held-out-factual"
    folder.mkdir(parents=True)
    (folder / dataset.QUESTIONS).touch()
    (out / application.ABOUT).write_text('{"scale": "small"}', encoding="utf-8")
    after = application.outline(options)
    assert {stage.name for stage in found.missing} - {stage.name for stage in after.missing} == {"held-out-factual"}
    assert after.seconds < found.seconds
    assert json.loads(json.dumps(after.row()))["missing"] == len(after.missing)


def test_a_folder_of_another_scale_or_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / application.ABOUT).write_text('{"scale": "full"}', encoding="utf-8")
    with pytest.raises(ConfigError, match="holds a reproduction of scale 'full', not 'small'"):
        application.outline(ReproduceConfig(out=tmp_path, small=True))
    (tmp_path / application.ABOUT).rename(tmp_path / "other.json")
    with pytest.raises(ConfigError, match="is not empty and holds no reproduction"):
        application.outline(ReproduceConfig(out=tmp_path, small=True))
    with pytest.raises(ConfigError, match="is no folder"):
        application.outline(ReproduceConfig(out=tmp_path / "other.json", small=True))


def test_who_interrupts_reads_that_the_same_command_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "_run_all", interrupted)
    out = tmp_path / "out"
    assert cli.main(["reproduce", "--scale", "tiny", "--out", str(out)]) == 130
    told = f"interrupted; what is finished is in {out}, and the same command continues from there"
    assert told in " ".join(capsys.readouterr().err.split())
    assert len(application.outline(ReproduceConfig(out=out, scale="tiny")).missing) > 0  # the folder is taken again


def test_commands_name_what_their_stage_does() -> None:
    stages = {stage.name: stage for stage in plan(SMALL, 1, ()).stages}
    arm = command_of(stages["seed-0/eval-retrieve"])
    assert "eval synthetic --backend huggingface:OUT/seed-0/model-retrieve/model --n 60" in arm
    assert arm.endswith("--tools retrieve --max-looks 1 --out OUT/seed-0/eval-retrieve")
    assert "--tools none --max-looks 1 --insert 1 --out" in command_of(stages["seed-0/eval-base-inserted"])
    assert "--teacher act2see.reproduce.teachers:NoisyTeacher --tools both" in command_of(stages["seed-0/traces-quiet-both"])
    assert all(command_of(stage) for stage in stages.values() if not isinstance(stage.work, Clips))
    assert isinstance(stages["seed-0/looks-oracle"].work, Evaluate)


def test_the_command_shows_its_plan_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.main(["reproduce", "--plan", "--json", "--small", "--seeds", "1", "--only", "b", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["scale"], found["seeds"], found["experiments"]) == ("small", 1, ["b"])
    assert {stage["stage"] for stage in found["stages"]} == {stage.name for stage in plan(SMALL, 1, ("b",)).stages}
    assert cli.main(["reproduce", "--plan", "--small", "--only", "a", "--out", str(out)]) == 0
    assert "CPU minutes" in capsys.readouterr().out.splitlines()[-1]
    assert cli.main(["reproduce", "--only", "z", "--plan"]) == 2
    assert not out.exists()


# The teachers


class TrueFrames:
    """Brings the frame that shows what is asked for, or a true picture of what never happened."""

    name = "true frames"

    def __init__(self, item: dataset.Item) -> None:
        self.item = item

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        question = self.item.question
        seconds = question.could_see[0] if isinstance(question, Question) else question.anchors[0] if isinstance(question, Hypothetical) else 0.0
        return [Frame(self.item.clip.draw(seconds), seconds)]

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        question = self.item.question
        assert isinstance(question, Hypothetical)
        assert anchor.seconds is not None
        edited = apply(question.edit, self.item.clip, anchor.seconds)
        assert edited is not None
        return Frame(edited.draw(anchor.seconds), None, provenance=Provenance(prompt, anchor.seconds, "true", seed))


def answered(teacher: PlainTeacher, item: dataset.Item, folder: Path, tools: tuple[chat.Tool, ...]) -> Trace:
    path = folder / f"{item.name}.mp4"
    if not path.exists():
        item.clip.write(path)
    video = Video(path)
    trace = new_trace(video, item.question.text, item.question.choices, fps=1.0, id=f"{item.name}#0")
    frames = TrueFrames(item)
    for _ in reason(trace, video, teacher, frames, frames, LoopOptions(1, offered=tools)):
        pass
    return trace


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


ITEMS = list(dataset.items("train", 6, 3, ("static", "transient", "hypothetical")))
BOTH: tuple[chat.Tool, ...] = ("retrieve", "generate")
CALLS = {"static": 0, "transient": 1, "hypothetical": 1}


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.name)
def test_the_plain_teacher_calls_where_it_must_and_answers_from_the_frame(item: dataset.Item, clips: Path) -> None:
    trace = answered(PlainTeacher(), item, clips, BOTH)
    assert len(trace.calls) == CALLS[item.question.kind]
    assert (trace.answer or "").strip() == item.question.answer
    assert trace.made_with["tools"] == "retrieve,generate"


@pytest.mark.parametrize("item", ITEMS[:3], ids=lambda item: item.name)
def test_the_text_teacher_is_offered_tools_and_uses_none(item: dataset.Item, clips: Path) -> None:
    trace = answered(TextTeacher(), item, clips, BOTH)
    assert trace.calls == ()
    assert trace.made_with["tools"] == "retrieve,generate"
    said = "".join(step.text for step in trace.steps if isinstance(step, Thought))
    assert ("guess" in said) == (item.question.kind != "static")


def test_the_share_of_faults_is_the_teachers() -> None:
    names = [f"train-0-{number:05d}#0" for number in range(1_000)]
    for teacher, least, most in ((PlainTeacher(), 0, 0), (NoisyTeacher(), 100, 250), (VeryNoisyTeacher(), 400, 750)):
        assert least <= sum(teacher.fault_of(name) != "none" for name in names) <= most


# Means and intervals


def test_one_seed_has_the_interval_of_its_questions() -> None:
    right = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    found = mean_of([right], ["abcdef"])
    assert [found.low, found.high] == share_interval([one == 1.0 for one in right], "abcdef")
    assert (found.mean, found.items, found.seeds) == (0.6667, 6, 1)


def test_seeds_that_differ_widen_the_interval_and_equal_ones_do_not() -> None:
    half = [1.0, 0.0] * 10
    videos = [[str(number) for number in range(20)]] * 3
    same, other = mean_of([half, half, half], videos), mean_of([[1.0] * 20, half, [0.0] * 20], videos)
    assert same.mean == other.mean == 0.5
    assert [same.low, same.high] == share_interval([one == 1.0 for one in half * 3], [*videos[0]] * 3)
    assert other.low is not None
    assert same.low is not None
    assert other.low < same.low
    assert other.low >= 0


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(200):
        rows = [[float(rng.random() < 0.7) for _ in range(40)] for _ in range(3)]
        found = mean_of(rows, [[str(number) for number in range(40)]] * 3)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.7 <= found.high
    assert covered >= 190  # the wide side


def test_means_are_printed_with_their_intervals() -> None:
    assert Mean(0.5, 0.25, 0.75, 4, 1).text() == "50.0 [25.0, 75.0]"
    assert Mean(0.05, -0.1, 0.2, 4, 1, is_signed=True).text() == "+5.0 [-10.0, +20.0]"
    assert Mean(12.5, None, None, 1, 1, is_share=False).text() == "12.5"
    assert mean_of([[]], [[]]).text() == "–"


def test_seeds_may_have_different_questions_and_none() -> None:
    found = mean_of([[1.0, 0.0, 1.0], [0.0], []], [["a", "b", "c"], ["a"], []])
    assert (found.mean, found.items, found.seeds) == (0.5, 3, 3)
    assert found.low is not None


# The pages


RESULTS = [
    Result(
        "a",
        (Table("A <title>", ("name", "all"), (("one | two", Mean(0.5, 0.2, 0.8, 4, 1)),), "A `<note>`."),),
        (Source("seed-0/x", "act2see eval", 4, "ab", ""),),
    )
]
ABOUT = {"command": "act2see reproduce --small", "versions": "act2see 0", "processor": "2 cores"}


def test_the_page_escapes_and_links_its_runs() -> None:
    html = page(RESULTS, plan(SMALL, 1, ("a",)), [Times("Clips", 1, 2.0, 3.0)], ABOUT)
    assert "A &lt;title&gt;" in html
    assert '<a href="seed-0/x/">' in html
    assert "50.0 [20.0, 80.0]" in html
    assert "A <code>&lt;note&gt;</code>." in html
    assert "all (n\N{NO-BREAK SPACE}4)" in html
    assert "<script" not in html
    assert STATEMENTS["a"].says_not in html.replace("&#39;", "'")


def test_markdown_has_short_lines_and_whole_tables() -> None:
    text = markdown(RESULTS, plan(SMALL, 1, ("a",)), [Times("Clips", 1, 2.0, 3.0)], ABOUT)
    assert "| one / two | 50.0 [20.0, 80.0] |" in text
    assert [line for line in text.splitlines() if len(line) > 150 and not line.startswith("|")] == []


# What the tables rest on


def test_a_digest_of_traces_ignores_seconds_and_order_and_sees_words(tmp_path: Path, clips: Path) -> None:
    traces = [answered(PlainTeacher(), item, clips, BOTH) for item in ITEMS[:2]]

    def digest(name: str, changed: Sequence[Trace]) -> str:
        run = Run.create(tmp_path / name, command="eval", config={}, seed=0)
        for trace in changed:
            run.append(trace)
        return traces_digest(run)

    first = digest("first", traces)
    slower = [replace(trace, cost=replace(trace.cost, seconds={"decode": 9.0})) for trace in reversed(traces)]
    assert digest("slower", slower) == first
    assert digest("other", [traces[0], replace(traces[1], steps=[Thought("x"), *traces[1].steps[1:]])]) != first


def test_a_picture_is_faithful_if_it_shows_the_edit(tmp_path: Path, clips: Path) -> None:
    item = ITEMS[2]
    trace = answered(PlainTeacher(), item, clips, BOTH)
    (place,) = [number for number, step in enumerate(trace.steps) if step in trace.observations]
    frame = trace.observations[0].frames[0]
    assert frame.provenance is not None
    assert frame.provenance.anchor_seconds is not None
    unedited = replace(frame, image=item.clip.draw(frame.provenance.anchor_seconds))
    steps = list(trace.steps)
    steps[place] = replace(trace.observations[0], frames=(unedited,))
    for name, one, is_faithful in (("true", trace, True), ("unedited", replace(trace, steps=steps), False)):
        run = Run.create(tmp_path / name, command="eval", config={}, seed=0)
        run.append(replace(one, id=item.name))
        assert [picture.is_faithful for picture in judged_pictures(run)] == [is_faithful]


class _Interrupting:
    """Interrupts before a stage, as Ctrl-C would."""

    def __init__(self, before: str) -> None:
        self.before = before

    def __call__(self, done: int, count: int, name: str, what: str) -> None:
        if name.endswith(self.before) and what != "complete":
            raise KeyboardInterrupt


@pytest.mark.slow
def test_an_interrupted_reproduction_has_the_same_tables(tmp_path: Path) -> None:
    whole, cut = (ReproduceConfig(out=tmp_path / name, scale="tiny", seeds=1, only=("d",), jobs=1) for name in ("whole", "cut"))
    application.reproduce(whole)
    for before in ("model-base", "kept-both", "eval-1"):
        with pytest.raises(KeyboardInterrupt):
            application.reproduce(cut, progress=_Interrupting(before))
        assert not (cut.out / application.PAGE).exists()
    told: list[str] = []
    result = application.reproduce(cut, progress=lambda done, count, name, what: told.append(name))
    assert "seed-0/traces-base" not in told
    assert result.page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (cut.out / application.TABLES).read_bytes() == (whole.out / application.TABLES).read_bytes()
