"""Where training data come from: what the released sources lack is said in one line, broken lines are named, a disk that fills loses nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from act2see.storage.runs import SAMPLES
from cli_fakes import Act2See
from made_up_sets import write_jsonl
from test_cli_construct import content, flags, rows

RELEASED = Path(__file__).parents[1] / "data" / "benchmarks"
TEACHER = ("--teacher", "eval_fakes:Steady", "--retriever", "none", "--retries", "0")


pytestmark = pytest.mark.usefixtures("own_clip")


def test_minerva_as_it_is_released_can_be_used(act2see: Act2See) -> None:
    done = act2see("construct", "minerva", "--data", RELEASED / "minerva", *TEACHER, "--out", "run", "--json")
    assert done.code == 0
    summary = json.loads(done.out)
    assert summary["questions"] == summary["outcomes"]["video_error"] > 0  # the videos are not ours to pass on
    assert "videos are missing" in done.err
    assert all(row["reasoning"] and row["licence"].startswith("CC BY 4.0") for row in rows("run", SAMPLES))


@pytest.mark.parametrize(
    ("released", "says", "needed"),
    [
        ("causalvqa/MADE_UP_debug_metadata.csv", ("evaluation only", "lack human reasoning"), ["licence", "reasoning"]),
        ("causalvqa/MADE_UP_test_metadata.csv", ("evaluation only", "lack the right answer"), ["licence", "answers", "reasoning"]),
        ("social-genome/MADE_UP_qa_test.json", ("no licence", "lack the right answer"), ["licence", "answers", "reasoning"]),
    ],
)
def test_what_a_release_forbids_or_lacks_is_one_line_and_needs_a_word(
    act2see: Act2See, released: str, says: tuple[str, ...], needed: list[str]
) -> None:
    asked = ("construct", released.partition("/")[0], "--data", RELEASED / released, *TEACHER, "--out", "run")
    complaint = act2see(*asked).complaint
    assert all(part in complaint for part in says)
    assert complaint.rpartition("--allow ")[2].split() == needed
    assert not Path("run").exists()
    assert act2see(*asked, "--allow", *needed).code == 0


def test_questions_of_ones_own_with_their_licences(act2see: Act2See, own_clip: Path) -> None:
    line = {"id": "a", "video": "clip.mp4", "question": "What?", "choices": ["red", "blue"], "answer": "red"}
    more = {"reasoning": "It is red.", "source": "ours", "licence": "CC0-1.0"}
    write_jsonl(own_clip.parent / "questions.jsonl", [{**line, **more}, {**line, **more, "id": "b", "licence": "CC BY 4.0"}])
    assert act2see("construct", "jsonl", "--data", own_clip.parent, *TEACHER, "--out", "run").code == 0
    assert [row["licence"] for row in rows("run", SAMPLES)] == ["CC0-1.0", "CC BY 4.0"]


@pytest.mark.parametrize(("broken", "says"), [('{"id": "b", "vide', "questions.jsonl:2: invalid JSON"), ('{"id": "b"}', "missing field 'video'")])
def test_a_broken_line_is_named_before_anything_is_asked(act2see: Act2See, own_clip: Path, broken: str, says: str) -> None:
    line = {"id": "a", "video": "clip.mp4", "question": "What?", "choices": ["red", "blue"], "answer": "red", "reasoning": "It is red."}
    (own_clip.parent / "questions.jsonl").write_text(f"{json.dumps(line)}\n{broken}\n", encoding="utf-8")
    assert says in act2see("construct", "jsonl", "--data", own_clip.parent, *TEACHER, "--out", "run").complaint
    assert not Path("run").exists()


def test_an_unknown_source_is_one_line(act2see: Act2See) -> None:
    assert "did you mean minerva?" in act2see("construct", "minervva", *TEACHER, "--out", "run").complaint
    assert "needs its data: --data DIR" in act2see("construct", "minerva", *TEACHER, "--out", "run").complaint


def test_a_disk_that_fills_stops_it_in_one_line_and_resuming_completes_it(act2see: Act2See, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of a file stands in for the disk: writing beyond it fails as a full disk's does, in the middle of a line."""
    assert act2see(*flags(), "--out", "whole").code == 0
    blocks = Path("whole/traces.jsonl").stat().st_size // 2 // 1024
    asked = [sys.executable, "-m", "act2see", *flags(), "--out", str(tmp_path / "full")]
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    done = subprocess.run(["bash", "-c", f'ulimit -f {blocks}; exec "$@"', "bash", *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write to" in done.stderr.splitlines()[-1]
    assert "what was there stays as it was" in done.stderr.splitlines()[-1]
    kept = (tmp_path / "full" / "traces.jsonl").read_bytes()
    assert kept.endswith(b"\n")
    assert act2see(*flags(), "--out", "full", "--resume").code == 0
    assert content("full") == content("whole")
