"""Every benchmark of the catalogue: the sample records load, and made-up sets of twenty go from the file to the verdict."""

import json
import shutil
from pathlib import Path

import pytest

from act2see import registry
from act2see.benchmarks.catalogue import BY_NAME, CATALOGUE
from act2see.benchmarks.official.rules import RULES
from act2see.benchmarks.reading import Findings
from act2see.config import EvalConfig
from act2see.core.chat import letters
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.video import Video
from made_up_sets import MAKERS, QUESTIONS, answered

SAMPLES = Path(__file__).parents[1] / "data" / "benchmarks"
# The file of each folder, and how many questions are in it.
SAMPLE_FILES = {
    "video-mme": [("video-mme/MADE_UP_hf_row.json", 1), ("video-mme/MADE_UP_results_template.json", 1)],
    "videoespresso": [("videoespresso", 1)],
    "vitib": [("vitib", 1)],
    "egonormia": [("egonormia", 15)],
    "vcr-bench": [("vcr-bench", 2)],
    "minerva": [("minerva", 1)],
    "causalvqa": [("causalvqa", 2), ("causalvqa/MADE_UP_debug_metadata.csv", 2), ("causalvqa/MADE_UP_test_metadata.csv", 2)],
    "social-genome": [("social-genome/MADE_UP_qa_test.json", 1)],
}


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each made-up data set under its name."""
    root = tmp_path_factory.mktemp("made-up")
    for name, make in MAKERS.items():
        make(root / name)
    return root


def right_answer(sample: Sample) -> str:
    """What a perfect model says: the letter, or the answer itself."""
    return letters(26)[sample.choices.index(sample.answer)] if sample.choices else sample.answer


def wrong_answer(sample: Sample) -> str:
    """What names another choice for sure."""
    return next(choice for choice in sample.choices if choice != sample.answer)


def test_everything_that_has_a_loader_is_made_up_here() -> None:
    assert set(MAKERS) == {entry.name for entry in CATALOGUE if entry.loader}
    assert all(all(str(value) for value in (entry.about, entry.download, entry.source, entry.licence, entry.why)) for entry in CATALOGUE)
    assert len(BY_NAME) == len(CATALOGUE)
    assert {entry.name for entry in CATALOGUE if entry.training == "yes"} == {"minerva"}


@pytest.mark.parametrize("name", SAMPLE_FILES)
def test_the_sample_records_load(name: str) -> None:
    for place, count in SAMPLE_FILES[name]:
        found = Findings()
        samples = registry.data_set(name, EvalConfig(data=SAMPLES / place)).read(found)
        assert found.problems == []
        assert len(samples) == count
        assert len({sample.id for sample in samples}) == count
        assert all(sample.question and sample.kind for sample in samples)
        withheld = "test" in place
        assert all(bool(sample.answer) != withheld for sample in samples if name in ("causalvqa", "social-genome"))
        assert all(sample.answer in sample.choices for sample in samples if sample.choices and not withheld)


@pytest.mark.parametrize("name", MAKERS)
def test_twenty_made_up_items_go_from_the_file_to_the_verdict(made_up: Path, name: str) -> None:
    data_set = registry.data_set(name, EvalConfig(data=made_up / name))
    assert data_set.name == name
    samples = list(data_set.samples())
    assert len(samples) == QUESTIONS[name]
    assert len({sample.id for sample in samples}) == len(samples)
    assert [sample.id for sample in data_set.samples()] == [sample.id for sample in samples]
    for sample in samples:
        assert sample.video.is_file()
        assert sample.video.is_relative_to(made_up / name)
        for silence in (None, "", "I cannot tell", "A or B", "Z"):
            assert data_set.is_right(sample, answered(sample.id, silence)) is None
        if not sample.answer:
            assert data_set.is_right(sample, answered(sample.id, "A")) is None
            continue
        assert data_set.is_right(sample, answered(sample.id, right_answer(sample))) is True
        if sample.choices:
            assert data_set.is_right(sample, answered(sample.id, sample.answer)) is True
            assert data_set.is_right(sample, answered(sample.id, wrong_answer(sample))) is False
    assert Video(samples[0].video).duration_seconds == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", RULES)
def test_the_official_rules_agree_on_what_is_right_for_sure(made_up: Path, name: str) -> None:
    data_set = registry.data_set(name, EvalConfig(data=made_up / name))
    # What has no official denominator: items whose right list is empty.
    samples = [sample for sample in data_set.samples() if sample.id.partition("/")[0] not in ("clip-9", "clip-19")]
    right = [(sample, answered(sample.id, right_answer(sample), sample.choices)) for sample in samples]
    assert RULES[name].figures(right).accuracy == 1.0
    wrong = [(sample, answered(sample.id, wrong_answer(sample), sample.choices)) for sample in samples if sample.choices]
    assert RULES[name].figures(wrong).accuracy in ((0.0, None) if name == "egonormia" else (0.0,))


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_file_with_a_mark_and_windows_line_ends(made_up: Path, name: str, tmp_path: Path) -> None:
    if name == "video-mme":  # a table in bytes
        return
    before = list(registry.data_set(name, EvalConfig(data=made_up / name)).samples())
    shutil.copytree(made_up / name, tmp_path / name)
    (path,) = [path for path in (tmp_path / name).rglob("*") if path.suffix in (".json", ".jsonl", ".csv")]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    found = Findings()
    after = registry.data_set(name, EvalConfig(data=tmp_path / name)).read(found)
    assert found.problems == []
    assert any("byte order mark" in note for note in found.notes)
    assert [(sample.id, sample.question, sample.choices, sample.answer) for sample in after] == [
        (sample.id, sample.question, sample.choices, sample.answer) for sample in before
    ]


@pytest.mark.parametrize("name", MAKERS)
def test_n_takes_as_many_spread_over_the_set(made_up: Path, name: str) -> None:
    whole = [sample.id for sample in registry.data_set(name, EvalConfig(data=made_up / name)).samples()]
    some = [sample.id for sample in registry.data_set(name, EvalConfig(data=made_up / name, n=6)).samples()]
    assert len(some) == 6
    assert [id for id in whole if id in some] == some
    assert whole.index(some[-1]) >= len(whole) // 2


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("video-mme", "causalvqa")])
def test_a_video_that_leads_out_of_the_folder_is_never_named(made_up: Path, name: str, tmp_path: Path) -> None:
    shutil.copytree(made_up / name, tmp_path / name)
    (path,) = [path for path in (tmp_path / name).rglob("*") if path.suffix in (".json", ".jsonl")]
    field = {"minerva": "video_id", "social-genome": "vid_name", "jsonl": "video", "egonormia": "id"}.get(name, "video_path")
    text = path.read_text()
    rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
    items = list(rows.values()) if isinstance(rows, dict) else rows
    items[1][field], items[2][field] = "../../secret", "/etc/passwd"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) if path.suffix == ".jsonl" else json.dumps(rows))
    found = Findings()
    samples = registry.data_set(name, EvalConfig(data=tmp_path / name)).read(found)
    assert len(samples) == QUESTIONS[name] * 18 // 20
    assert all(sample.video.is_relative_to(tmp_path / name) and ".." not in sample.video.parts for sample in samples)
    assert len(found.problems) == 2
    assert "`..` leaves the data folder" in found.problems[0]
    assert "expected a path relative to the data folder" in found.problems[1]


def test_what_a_benchmark_needs_is_said() -> None:
    with pytest.raises(ConfigError, match=r"benchmark 'video-mme' needs its data: --data DIR, with videomme/test-\*\.parquet .* \(from https://"):
        registry.benchmark("video-mme", EvalConfig(), Path("unused"))
    with pytest.raises(ConfigError, match="'synthetic' makes its own videos and needs no judge: leave --data out"):
        registry.benchmark("synthetic", EvalConfig(data=Path("x")), Path("unused"))
    with pytest.raises(ConfigError, match="benchmark 'minerva' has no subtitles"):
        registry.benchmark("minerva", EvalConfig(data=Path("x"), subtitles=True), Path("unused"))
    with pytest.raises(ConfigError, match="--judge-prompts without a judge"):
        registry.benchmark("vcr-bench", EvalConfig(data=SAMPLES / "vcr-bench", judge_prompts=Path("x")), Path("unused"))
    with pytest.raises(ConfigError, match="benchmark 'minerva' needs no judge: leave --answer-judge out"):
        registry.benchmark("minerva", EvalConfig(data=SAMPLES / "minerva", answer_judge="micro"), Path("unused"))
    with pytest.raises(ConfigError, match="no benchmark 'synthetic' is read from a folder; those that are: video-mme, "):
        registry.data_set("synthetic", EvalConfig(data=Path("x")))
    with pytest.raises(ConfigError, match="did you mean egonormia"):
        registry.check_benchmark("egonorma")
