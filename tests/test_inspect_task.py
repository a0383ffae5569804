"""Questions asked by Inspect's own runner, found by its entry point, end as `act2see eval` ends them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from act2see import cli
from act2see.synthetic.world import Clip

TESTS = Path(__file__).parent
SETTINGS = {"backend": "eval_fakes:Steady", "retriever": "cli_fakes:Finder", "generator": "none", "n": "4"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process needs to find the fakes, and a clip for them to ask about."""
    clip = tmp_path_factory.mktemp("clips") / "clip.mp4"
    Clip(2.0, ()).write(clip)
    path = os.pathsep.join([str(TESTS / "cli"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "ACT2SEE_TEST_CLIP": str(clip), "XDG_CONFIG_HOME": str(clip.parent), "XDG_DATA_HOME": str(clip.parent)}


def inspect(folder: Path, environment: dict[str, str], **settings: str) -> "subprocess.CompletedProcess[str]":
    given = [word for name, value in settings.items() for word in ("-T", f"{name}={value}")]
    command = [sys.executable, "-m", "inspect_ai", "eval", "act2see/act2see", "-T", "benchmark=eval_fakes:Many", *given, "--model", "none/none"]
    command += ["--display", "plain", "--log-dir", str(folder / "logs"), "--log-format", "json"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> dict[str, Any]:
    """What Inspect has written down of four questions, one of them on a file that is no video."""
    folder = tmp_path_factory.mktemp("inspect")
    done = inspect(folder, environment, **SETTINGS)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "logs").glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_every_question_ends_as_in_an_evaluation(log: dict[str, Any], environment: dict[str, str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ACT2SEE_TEST_CLIP", "XDG_CONFIG_HOME"):
            patch.setenv(name, environment[name])
        patch.chdir(tmp_path)
        flags = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
        assert cli.main(["eval", "eval_fakes:Many", *flags, "--out", "run"]) == 0
    scores = [json.loads(line) for line in (tmp_path / "run" / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    theirs = {one["id"]: (one["metadata"]["outcome"], one["metadata"]["error"] is None) for one in log["samples"]}
    assert log["status"] == "success"
    assert theirs == {one["id"]: (one["outcome"], one["error"] is None) for one in scores}
    assert len(theirs) == 4
    assert len(set(theirs.values())) > 1
    assert theirs["q003"] == ("video_error", False)


def test_the_verdict_is_inspects_score_and_failures_stay_in_the_denominator(log: dict[str, Any]) -> None:
    letters = {"correct": "C", "no_answer": "N"}
    for one in log["samples"]:
        assert one["scores"]["_ours"]["value"] == letters.get(one["metadata"]["outcome"], "I")
    right = [one["metadata"]["outcome"] == "correct" for one in log["samples"]]
    (score,) = {score["name"]: score for score in log["results"]["scores"]}.values()
    by_name = {name: metric["value"] for name, metric in score["metrics"].items()}
    assert by_name["all"] == pytest.approx(sum(right) / 4)
    assert {"even", "odd"} <= set(by_name)


def test_the_log_holds_the_whole_reasoning_and_tells_of_frames_by_their_times(log: dict[str, Any]) -> None:
    looked = [one for one in log["samples"] if "<retrieve>" in one["output"]["choices"][0]["message"]["content"]]
    assert looked
    for one in looked:
        assert "<retrieve> a star </retrieve><frame>0.50 s</frame><answer>" in one["output"]["choices"][0]["message"]["content"]


def test_a_setting_that_is_not_known_is_refused_by_name(environment: dict[str, str], tmp_path: Path) -> None:
    done = inspect(tmp_path, environment, max_loks="1")
    assert done.returncode != 0
    assert "unknown setting 'max_loks'; allowed:" in done.stdout + done.stderr
