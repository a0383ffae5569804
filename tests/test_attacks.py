"""The attacks themselves: each kind tries what it promises, what is wrong is noticed, and a sample of them runs here, in this process."""

import json
from collections import Counter

import pytest
from hypothesis import strategies as st

import attack_fakes
import attacks
from attacking import answers, good_videos, parsers, runs, servers, videos
from attacking.harness import Ended, Item, act2see, attempt, faults, run_all
from attacking.right import Found, Refused

SAMPLE = {
    "videos": (
        "libx264 in .mp4",
        "1x1 pixels",
        "uneven times",
        "turned by 90 degrees",
        "matrix 8, full range",
        "no frame, .mkv",
        "a FIFO",
        "a.mp4 cut at 50 %",
        "a ZIP",
    ),
    "servers": (
        "odd: plain",
        "odd: escapes in the answer",
        "errors: a pause of 3600",
        "redirects: a redirect to //example.invalid/v1",
        "streams: a stream that is deep",
    ),
    "runs": (
        "construct: as it is",
        "eval: traces.jsonl is a FIFO",
        "eval: run.json, it is doubled keys",
        "construct: a frame is claiming 60000x60000",
    ),
}
KINDS = attacks.KINDS


@pytest.mark.parametrize(("kind", "least"), [("videos", 150), ("servers", 60), ("runs", 200), ("parsers", 50_000)])
def test_as_much_is_tried_as_is_promised(kind: str, least: int) -> None:
    items = KINDS[kind](0)
    assert sum(item.inputs for item in items) >= least
    assert [name for name, count in Counter(item.name for item in items).items() if count > 1] == []
    assert [item.name for item in KINDS[kind](0)] == [item.name for item in items]  # the workers make them again


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in SAMPLE.items() for name in names])
def test_a_sample(kind: str, name: str) -> None:
    (item,) = [item for item in KINDS[kind](0) if item.name == name]
    assert attempt(item) == []


@pytest.mark.parametrize("name", parsers.LAWS)
def test_a_sample_of_each_law(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count, drawn, law = parsers.LAWS[name]
    monkeypatch.setitem(parsers.LAWS, name, (min(count, 15), drawn, law))
    (item,) = [item for item in KINDS["parsers"](0) if item.name == name]
    assert attempt(item) == []


# What is wrong is noticed


def test_a_hang_and_a_death_are_told_and_the_others_go_on() -> None:
    results = {one.item.name: one.wrong for one in run_all(attack_fakes.KINDS, {"bad": attack_fakes.items(0)}, 0, 1)}
    assert results.pop("right") == []
    assert results.keys() == attack_fakes.WRONG.keys()
    for name, said in attack_fakes.WRONG.items():
        assert results[name][0].startswith(said)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (Ended(1, "", "act2see: a\nact2see: b\n"), "2 error lines"),
        (Ended(1, "", ""), "0 error lines"),
        (Ended(0, "\x1b[2J", ""), "control characters on stdout"),
        (Ended(0, "", "act2see: note: \x07\n"), "control characters on stderr"),
        (Ended(0, "", "something else\n"), "a line on stderr that is not act2see's"),
        (Ended(3, "", ""), "exit code 3 where 0 or 1 is right"),
        (Ended(0, "", "act2see: note: an internal error\n"), "an internal error"),
        (Ended(None, "", "", 'File "/x/act2see/core/trace.py", line 7\nKeyError: 1'), "a traceback: KeyError: 1 (act2see/core/trace.py:7)"),
    ],
)
def test_what_breaks_a_rule_is_told(ended: Ended, said: str) -> None:
    assert any(said in one for one in faults(ended, (0, 1)))


def test_what_breaks_none_is_not() -> None:
    assert faults(Ended(1, "", "act2see: note: a\nact2see: cannot read b\n"), (0, 1), "cannot read") == []
    assert faults(Ended(0, "B. blue\n", "I see it.\n"), (0, 1), steps=True) == []


def test_wrong_frames_colours_and_times_are_noticed() -> None:
    blue_is_right = Found(colour=(0, 0, 255))
    clip = next(make for name, make, _ in good_videos.codecs() if name == "libx264 in .mp4")
    for right in (blue_is_right, Found(frames=(2,)), Found(seconds=(0.0, 0.2)), Found(size=(1, 1)), Refused("empty")):
        assert attempt(Item("x", videos._attack(clip, right))) != []


def test_wrong_answers_of_servers_and_changes_outside_are_noticed() -> None:
    another = answers.answered(answers.says(answers.event(answers.delta("<answer>A</answer>")) + answers.DONE))
    assert "where B is right" in attempt(Item("x", servers._attack(another)))[0]
    outside = runs._attack(
        "eval", lambda run: (run.absolute().parents[1] / "outside" / "new").write_bytes(b""), {"compare": ("compare", "run", "good")}, (0,)
    )
    assert attempt(Item("x", outside)) == ["compare: something outside the run's folder was changed"]


def test_a_law_that_does_not_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(value: object) -> None:
        assert value != "x"

    monkeypatch.setitem(parsers.LAWS, "false", (30, st.sampled_from("xyz"), fails))
    assert "AssertionError" in attempt(Item("false", parsers._attack("false", 0)))[0]
    monkeypatch.setitem(parsers.LAWS, "few", (30, st.just("y"), fails))
    assert attempt(Item("few", parsers._attack("few", 0))) == ["only 1 inputs were drawn"]


# The script


def test_the_script_tells_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert attacks.main(["--only", "videos", "--name", "a FIFO", "--workers", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["table"] == [{"kind": "videos", "tried": 1, "right": 1}]
    assert told["wrong"] == []
    assert told["made_with"]["av"]


def test_a_name_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert attacks.main(["--name", "nothing"]) == 2
    assert "no item is named" in capsys.readouterr().err


def test_the_command_line_is_run_with_what_libraries_write() -> None:
    ended = act2see("retrieve", "none.mp4", "x")
    assert (ended.code, ended.out, ended.raised) == (1, "", "")
    assert ended.err.startswith("act2see: no such file")
