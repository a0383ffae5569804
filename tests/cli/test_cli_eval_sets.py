"""Whole evaluations by the embedded model, from official files to the official scripts' input: every figure is counted again, without our readers.

What the model answered is read out of traces.jsonl as JSON, and compared with what the sets' maker knows.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from act2see.benchmarks.vcrbench_judge import TRIES
from made_up_sets import COUNT
from ran_sets import Ran, call
from sets_of_twenty import DIMENSIONS, SETS, write_clips
from stub_judge import Babbler, Caller, Gone, WordByWord, says_the_same

HOW = ("--max-looks", "1", "--generator", "none")
"""Without a generator: no question here is about what is not, and loading one takes longer than all the questions of a set."""
EMBEDDED = ("--backend", "micro", *HOW)
REMEMBERED = ("--backend", "stub_judge:Remembered", *HOW)
"""The same model, which computes nothing twice: most of the sets ask the same about the same clips."""
SCRIPTED = ("--backend", "cli_fakes:Direct", "--retriever", "none", "--generator", "none")
"""Says `B. red` to everything: for what is asked of the judge alone, and for Video-MME's second form, whose questions are those of its first."""
FLAGS = dict.fromkeys(SETS, REMEMBERED) | {"video-mme": EMBEDDED, "video-mme json": SCRIPTED}
QUESTIONS = dict.fromkeys(SETS, COUNT) | {"egonormia": 3 * COUNT, "causalvqa": 2 * COUNT}
"""EgoNormia's records are three questions each, CausalVQA's are pairs."""
AT_LEAST = {"video-mme": 0.7, "videoespresso": 0.7, "vitib": 0.7, "minerva": 0.7, "causalvqa": 0.7, "jsonl": 0.7}
"""What the embedded model reaches where a set asks in words that it knows, the tenth about the video that cannot be decoded counted as not right."""
QUICK = ("video-mme json", "jsonl")
"""The sets that are not marked slow: one whose model is scripted, and one that the embedded model answers."""
WITH_FILE = ("video-mme", "video-mme json", "videoespresso", "vitib", "egonormia", "vcr-bench")


def each(names: Iterable[str]) -> list[object]:
    """One test for each set, marked slow but for `QUICK`."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module", autouse=True)
def _nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    return write_clips(tmp_path_factory.mktemp("clips-of-sets"))


@pytest.fixture(scope="module")
def evaluated(clips: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """Write a set and evaluate it, each way once."""

    @cache
    def evaluate(name: str, *flags: str) -> Ran:
        folder = tmp_path_factory.mktemp("set")
        golds = SETS[name](folder / "data", clips)
        subtitles = ("--subtitles",) if name.endswith("subtitles") else ()
        where = ("--data", folder / "data", "--out", folder / "run", "--json")
        code, out, err = call("eval", name.partition(" ")[0], *where, *(flags or FLAGS[name]), *subtitles)
        assert (code, out.count("\n")) == (0, 1), err
        return Ran(name, folder, golds, json.loads(out), err)

    return evaluate


# What every set has in common


@pytest.mark.parametrize("name", each(SETS))
def test_every_question_ends_in_one_class_and_stays_in_the_denominator(evaluated: Callable[..., Ran], name: str) -> None:
    ran = evaluated(name)
    told, outcomes = ran.told, Counter(ran.outcome(id) for id in ran.golds)
    assert told["n"] == len(ran.golds) == QUESTIONS[name]
    assert told["outcomes"] == dict(sorted(outcomes.items()))
    assert sum(told["outcomes"].values()) == told["n"]
    assert told["videos"] == (20 if name == "egonormia" else 7)
    assert told["accuracy"]["all"] == round(outcomes["correct"] / len(ran.golds), 4)
    assert told["accuracy"]["all"] >= AT_LEAST.get(name, 0)


@pytest.mark.parametrize("name", each(SETS))
def test_a_video_that_cannot_be_decoded_costs_its_own_questions_alone(evaluated: Callable[..., Ran], name: str) -> None:
    ran = evaluated(name)
    broken = {id for id, gold in ran.golds.items() if gold.is_broken}
    assert ran.golds.keys() - ran.traces.keys() == broken
    assert len(broken) == QUESTIONS[name] // 10
    assert ran.told["outcomes"]["video_error"] == len(broken)
    assert f"note: {len(broken)} of {len(ran.golds)} questions failed; first error: " in ran.said
    scores = [json.loads(line) for line in (ran.run / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["id"] for row in scores if row["outcome"] == "video_error"} == broken
    assert [row["id"] for row in scores] == list(ran.golds)
    assert all("can be decoded: it is damaged" in row["error"] for row in scores if row["id"] in broken)


@pytest.mark.parametrize("name", each(SETS))
def test_the_breakdown_by_kind_is_that_of_the_official_file(evaluated: Callable[..., Ran], name: str) -> None:
    ran = evaluated(name)
    kinds = Counter(gold.kind for gold in ran.golds.values())
    assert kinds.items() <= ran.told["n_by_kind"].items()
    for kind, count in kinds.items():
        right = sum(ran.outcome(id) == "correct" for id, gold in ran.golds.items() if gold.kind == kind)
        assert ran.told["accuracy"][kind] == round(right / count, 4)


@pytest.mark.parametrize("name", each(AT_LEAST))
def test_each_look_is_counted_and_brings_a_new_frame(evaluated: Callable[..., Ran], name: str) -> None:
    """What a look brings stands in the trace, and is none of the frames that the model was given."""
    ran = evaluated(name)
    looked = {id for id, trace in ran.traces.items() if any(step["type"] == "retrieve" for step in trace["steps"])}
    brought = [frame["seconds"] for id in looked for step in ran.traces[id]["steps"] if step["type"] == "observation" for frame in step["frames"]]
    assert ran.told["call_rate"]["all"] == round(len(looked) / len(ran.golds), 4)
    assert ran.told["calls"]["served"] == len(brought)
    assert not {0.0, 1.0, 2.0, 3.0} & {*brought}


# Video-MME


@pytest.mark.slow
def test_parquet_and_json_ask_the_same(evaluated: Callable[..., Ran]) -> None:
    table, lists = evaluated("video-mme"), evaluated("video-mme json")
    asked = [[(trace["id"], trace["question"], trace["choices"], trace["frames"]) for trace in one.traces.values()] for one in (table, lists)]
    assert asked[0] == asked[1]
    assert table.told["n_by_kind"] == lists.told["n_by_kind"]
    assert {"duration: short", "domain: Knowledge", "sub-category: Handicraft"} <= table.told["accuracy"].keys()


@pytest.mark.slow
def test_the_embedded_model_answers_as_it_is_remembered(evaluated: Callable[..., Ran]) -> None:
    """Video-MME's and VideoEspresso's records ask the same, in the same order."""
    computed, remembered = evaluated("video-mme"), evaluated("videoespresso")
    assert [trace["steps"] for trace in computed.traces.values()] == [trace["steps"] for trace in remembered.traces.values()]
    for name in ("tokens", "calls", "outcomes"):
        assert computed.told[name] == remembered.told[name]


@pytest.mark.slow
def test_subtitles_stand_after_the_question(evaluated: Callable[..., Ran]) -> None:
    ran, without = evaluated("video-mme subtitles"), evaluated("video-mme")
    for number, (id, trace) in enumerate(ran.traces.items()):
        question, *lines = trace["question"].splitlines()
        assert question == without.traces[id]["question"]
        said = [f"[0:00] This is clip {number // 3}.", "[0:02] Look!"]
        assert lines[1:] == (said if number // 3 < 5 else [])


# The official side


def _official_letter(ran: Ran, id: str, form: str, rule: str) -> str | None:
    match = re.search(rule, ran.output(id, form))
    return match.group(1) if match else None


def _official(ran: Ran, form: str, rule: str) -> tuple[int, int, float]:
    """How many are counted where what has no letter is left out, how many are not, and the share of the former that is right."""
    read = {id: letter for id in ran.golds if (letter := _official_letter(ran, id, form, rule))}
    return len(read), len(ran.golds) - len(read), round(sum(letter == ran.right_letter(id) for id, letter in read.items()) / len(read), 4)


def _by_pairs(ran: Ran) -> float:
    pairs: dict[str, list[bool]] = {}
    for id in ran.golds:
        pairs.setdefault(id.split("/")[0], []).append(ran.is_right(id))
    return round(sum(all(pair) for pair in pairs.values()) / len(pairs), 4)


def _by_tasks(ran: Ran) -> float:
    tasks: dict[str, list[bool]] = {}
    for id, gold in ran.golds.items():
        tasks.setdefault(gold.kind, []).append(ran.is_right(id))
    return round(sum(sum(task) / len(task) for task in tasks.values()) / len(tasks), 4)


def _by_lmms_eval(ran: Ran) -> float:
    """What has no letter gets one at random, which is worth a fifth."""
    letters = {id: _official_letter(ran, id, "Answer: {}", "([A-E])$") for id in ran.golds}
    return round(sum(0.2 if letter is None else letter == ran.right_letter(id) for id, letter in letters.items()) / len(letters), 4)


def _without_judge(ran: Ran) -> tuple[int, int, float]:
    """Of VCR-Bench: what only a judge could compare is left out; what was never answered is wrong."""
    left_out = {id for id, gold in ran.golds.items() if not gold.choices and ran.answer(id) and ran.outcome(id) == "no_answer"}
    right = sum(ran.outcome(id) == "correct" for id in ran.golds)
    return len(ran.golds) - len(left_out), len(left_out), round(right / (len(ran.golds) - len(left_out)), 4)


def _official_figures(ran: Ran) -> tuple[int, int, float | None]:
    """The official denominator, what it leaves out, and the headline, by rules that are written down here once more."""
    everything = len(ran.golds)
    match ran.told["benchmark"]:
        case "video-mme":
            return _official(ran, "{}", "([A-D])")
        case "videoespresso":
            return everything, 0, round(sum(map(ran.is_right, ran.golds)) / everything, 4)
        case "vitib":
            return everything, 0, _by_tasks(ran)
        case "causalvqa":
            return everything // 2, 0, _by_pairs(ran)
        case "minerva":
            return everything, 0, _by_lmms_eval(ran)
        case "vcr-bench":
            return _without_judge(ran)
        case _:  # EgoNormia keeps an item once all its answers can be read
            items = _read_items(ran)
            entries = json.loads(_official_form(ran))
            both = [entries[item]["vlm"]["best"]["results"] == entries[item]["vlm"]["best"]["correct"] for item in items]
            return len(items), everything // 3 - len(items), round(sum(both) / len(both), 4) if both else None


def _read_items(ran: Ran) -> list[str]:
    """EgoNormia's items of which all three answers can be read: few, because the embedded model does not know the words.

    Its script takes the last number of two of them, whatever stands around it, and a list of the third.
    """

    def is_read(id: str, form: str) -> bool:
        return ran.outcome(id) in ("correct", "wrong") or re.search(form, ran.answer(id) or "") is not None

    forms = {"behaviour": r"\d", "justification": r"\d", "sensible": r"\[.*\]"}
    return [name for name in (f"clip-{number}" for number in range(COUNT)) if all(is_read(f"{name}/{part}", form) for part, form in forms.items())]


@pytest.mark.parametrize("name", each(SETS))
def test_scored_again_it_has_its_official_side(evaluated: Callable[..., Ran], name: str) -> None:
    ran = evaluated(name)
    code, out, _ = call("score", ran.run, "--data", ran.data, "--json")
    told = json.loads(out)
    assert code == 0
    assert {key: told[key] for key in ("n", "outcomes", "accuracy")} == {key: ran.told[key] for key in ("n", "outcomes", "accuracy")}
    if name in ("jsonl", "social-genome"):  # ours, and one whose makers score it
        assert "official" not in told
        return
    official = told["official"]
    assert (official["n"], official["left_out"], official["accuracy"]) == _official_figures(ran)
    kinds = {gold.kind for gold in ran.golds.values()}
    by = {"egonormia": {"behaviour", "justification", "both", "sensible"}, "causalvqa": {"all: single", "anticipation, easy: paired"}}.get(
        name, kinds
    )
    assert by <= official["by"].keys()


def _official_form(ran: Ran) -> str:
    path = ran.folder / "official-form"
    code, _, err = call("score", ran.run, "--data", ran.data, "--official-form", path)
    assert code == 0, err
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", each(["video-mme", "video-mme json"]))
def test_video_mmes_script_gets_videos_with_their_questions(evaluated: Callable[..., Ran], name: str) -> None:
    ran = evaluated(name)
    videos = json.loads(_official_form(ran))
    assert [[question["question_id"] for question in video["questions"]] for video in videos] == [
        [f"{number:03d}-{place}" for place in (1, 2, 3) if number < 7 or place < 3] for number in range(1, 8)
    ]
    lengths = ["short", "medium", "long", "short", "medium", "long", "short"]
    assert [(video["video_id"], video["duration"]) for video in videos] == [(f"{number + 1:03d}", length) for number, length in enumerate(lengths)]
    assert [(video["domain"], video["sub_category"], video["missing"]) for video in videos[:2]] == [
        ("Knowledge", "Astronomy", False),
        ("Life Record", "Handicraft", False),
    ]
    for question in (question for video in videos for question in video["questions"]):
        id = question["question_id"]
        response = ran.output(id, "{}")
        assert question == {"question_id": id, "task_type": ran.golds[id].kind, "answer": ran.right_letter(id), "response": response}


@pytest.mark.parametrize("name", each(["videoespresso", "vitib"]))
def test_videoespressos_and_vitibs_scripts_get_an_output_each(evaluated: Callable[..., Ran], name: str) -> None:
    ran = evaluated(name)
    text, form = _official_form(ran), {"videoespresso": "({})", "vitib": "Answer: {}"}[name]
    rows = json.loads(text) if name == "videoespresso" else [json.loads(line) for line in text.splitlines()]
    assert rows == [
        {"id": id, "task": gold.kind, "correct_answer": f"({ran.right_letter(id)})", "model_output": ran.output(id, form)}
        for id, gold in ran.golds.items()
    ]


@pytest.mark.slow
def test_egonormias_script_gets_an_entry_for_each_item(evaluated: Callable[..., Ran]) -> None:
    """An item of which not all can be read stays empty, as the official evaluation leaves it."""
    ran = evaluated("egonormia")
    items = json.loads(_official_form(ran))
    assert list(items) == [f"clip-{number}" for number in range(COUNT)]
    assert [name for name in items if items[name]] == _read_items(ran)


@pytest.mark.slow
def test_vcr_benchs_judging_gets_all_that_was_written(evaluated: Callable[..., Ran]) -> None:
    ran = evaluated("vcr-bench")
    items = json.loads(_official_form(ran))
    assert [item["id"] for item in items] == list(range(COUNT))
    assert {item["dimension"] for item in items} == {*DIMENSIONS}
    for item in items:
        gold, answer = ran.golds[str(item["id"])], ran.answer(str(item["id"]))
        assert item["multiple-choice"] is bool(gold.choices)
        assert item["choices"] == dict(zip("ABCD", gold.choices, strict=False))
        assert item["answer"] == (ran.right_letter(str(item["id"])) if gold.choices else gold.answer)
        assert len(item["reasoning"]) == 2
        assert 0 < item["duration"] <= 301
        assert "think>" not in item["response"]
        assert item["response"].endswith(f"Answer: {answer.strip()}") if answer else item["response"] == ""


@pytest.mark.parametrize("name", each(sorted({*SETS} - {*WITH_FILE, "video-mme subtitles"})))
def test_where_no_script_takes_a_file_none_is_written(evaluated: Callable[..., Ran], name: str) -> None:
    ran = evaluated(name)
    code, out, err = call("score", ran.run, "--data", ran.data, "--official-form", ran.folder / "official-form")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"benchmark '{name}' has no official answer file" in err
    assert not (ran.folder / "official-form").exists()


# VCR-Bench's judge


def _open_questions(ran: Ran) -> list[str]:
    """What only a judge can decide: open questions that were answered, and not in the same words."""
    return [id for id, gold in ran.golds.items() if (gold.answer or "").startswith("It is") and ran.answer(id) and ran.outcome(id) == "no_answer"]


@pytest.mark.slow
def test_a_judge_decides_the_open_questions_and_no_others(evaluated: Callable[..., Ran]) -> None:
    ran = evaluated("vcr-bench", *REMEMBERED, "--answer-judge", "stub_judge:WordByWord")
    asked = _open_questions(ran)
    verdicts = {id: says_the_same(ran.golds[id].answer or "", ran.answer(id) or "") for id in asked}
    expected = Counter(("correct" if verdicts[id] else "wrong") if id in verdicts else ran.outcome(id) for id in ran.golds)
    assert len(asked) == len(WordByWord.prompts) > 0
    assert {True, False} == {*verdicts.values()}
    assert ran.told["outcomes"] == dict(sorted(expected.items()))
    assert ran.told["accuracy"]["all"] == round(expected["correct"] / COUNT, 4)
    assert ran.told["accuracy"]["answer: open"] > evaluated("vcr-bench").told["accuracy"]["answer: open"]
    assert {f"{gold.kind}" for gold in ran.golds.values()} == {*DIMENSIONS}


@pytest.mark.parametrize(("judge", "most"), [(Babbler, TRIES), (Caller, 4 * TRIES), (Gone, TRIES)])
def test_a_judge_that_never_decides_is_given_up_and_its_questions_stay(evaluated: Callable[..., Ran], judge: type[WordByWord], most: int) -> None:
    ran = evaluated("vcr-bench", *SCRIPTED, "--answer-judge", f"stub_judge:{judge.__name__}")
    asked = _open_questions(ran)
    assert len(asked) == 5
    assert len(asked) <= len(judge.prompts) <= most * len(asked)
    assert ran.told["n"] == sum(ran.told["outcomes"].values()) == COUNT
    scores = {row["id"]: row for row in map(json.loads, (ran.run / "scores.jsonl").read_text(encoding="utf-8").splitlines())}
    assert {scores[id]["outcome"] for id in asked} == {"judge_error"}
    assert ran.told["accuracy"]["answer: open"] == 0.0
    code, out, err = call("score", ran.run, "--data", ran.data, "--json")
    assert (code, out) == (1, "")
    assert f"was scored by the judge 'stub_judge:{judge.__name__}', and score runs no model" in err
