"""Cases of official verdicts: all that are known agree, and a case that is broken, unknown or not ours to open is one clear line."""

import json
from pathlib import Path
from typing import Any

import pytest

from act2see.benchmarks.official.cases import Result, agrees, run_case, run_cases
from act2see.core.errors import ConfigError

CASES = Path(__file__).parents[1] / "data" / "scoring_cases.jsonl"
LETTER = {
    "id": "one",
    "benchmark": "video-mme",
    "kind": "mcq",
    "model_output": "C",
    "gold": "C",
    "official_extracted": "C",
    "official_verdict": "correct",
}


def one(path: Path, *lines: Any) -> list[Result]:
    """The results of a file with these lines."""
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), encoding="utf-8")
    return list(run_cases(path))


def case(benchmark: str, kind: str, output: Any, gold: Any, verdict: Any, **others: Any) -> dict[str, Any]:
    return {"id": "x", "benchmark": benchmark, "kind": kind, "model_output": output, "gold": gold, "official_verdict": verdict, **others}


def test_all_known_cases_agree() -> None:
    results = list(run_cases(CASES))
    assert [result for result in results if result.problem] == []
    assert len(results) == 143


@pytest.mark.parametrize("line", range(0, 143, 7))
def test_a_case_with_another_verdict_differs(line: int, tmp_path: Path) -> None:
    known = json.loads(CASES.read_text(encoding="utf-8").splitlines()[line])
    (result,) = one(tmp_path / "cases.jsonl", {**known, "official_verdict": "something else"})
    assert result.id == known["id"]
    assert str(result.problem).startswith(f"cases.jsonl:1: {known['id']}: official_verdict is 'something else', ours is ")


@pytest.mark.parametrize(("field", "value"), [("official_extracted", "D"), ("official_extracted", None), ("official_verdict", "excluded")])
def test_what_was_read_counts_as_the_verdict_does(field: str, value: Any, tmp_path: Path) -> None:
    (result,) = one(tmp_path / "cases.jsonl", {**LETTER, field: value})
    assert f"{field} is {value!r}, ours is " in str(result.problem)


@pytest.mark.parametrize(("field", "value"), [("judge_called", True), ("answer_scoring", 1)])
def test_how_an_answer_was_scored_counts_too(field: str, value: Any, tmp_path: Path) -> None:
    known = case("vcr-bench", "match_answer", "[0, 10]", "[0, 10]", "correct", judge_called=False, answer_scoring="1")
    good, bad = one(tmp_path / "cases.jsonl", known, {**known, field: value})
    assert good.problem is None
    assert field in str(bad.problem)


# Broken lines


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON"),
        ('{"id": "cut', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "[] where an object is expected"),
        ("7", "7 where an object is expected"),
        ("\udcff", "no JSON"),
        ({**LETTER, "benchmark": "video-mne"}, 'no official rule for the benchmark "video-mne"; there are video-mme, videoespresso, vitib'),
        ({**LETTER, "benchmark": None}, "no official rule for the benchmark null"),
        ({**LETTER, "benchmark": ["video-mme"]}, "no official rule"),
        ({**LETTER, "kind": "open"}, 'video-mme has no cases of the kind "open"; there are mcq'),
        ({**LETTER, "benchmark": "minerva", "kind": {}}, "minerva has no cases of the kind {}; there are mcq, gold_letter"),
        ({name: value for name, value in LETTER.items() if name != "gold"}, "the field 'gold' is missing"),
        ({name: value for name, value in LETTER.items() if name != "official_verdict"}, "the field 'official_verdict' is missing"),
    ],
)
def test_a_line_that_is_no_case_is_one_that_differs(line: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    text = line if isinstance(line, str) else json.dumps(line)
    path.write_bytes(b"\n".join([json.dumps(LETTER).encode(), b"", text.encode("utf-8", "surrogateescape"), json.dumps(LETTER).encode()]))
    first, broken, last = run_cases(path)
    assert first == last == Result("one", None)
    assert broken.id == ("one" if isinstance(line, dict) else "cases.jsonl:3")
    assert str(broken.problem).startswith("cases.jsonl:3: ")
    assert words in str(broken.problem)
    assert "\n" not in str(broken.problem)


@pytest.mark.parametrize("name", [None, 7, ""])
def test_a_case_without_a_name_is_named_by_its_place(name: Any, tmp_path: Path) -> None:
    (result,) = one(tmp_path / "cases.jsonl", {**LETTER, "id": name})
    assert result == Result("cases.jsonl:1", None)


def test_windows_line_ends_and_no_last_line_end_are_no_faults(tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_bytes(f"{json.dumps(LETTER)}\r\n\r\n{json.dumps(LETTER)}".encode())
    assert [result.problem for result in run_cases(tmp_path / "cases.jsonl")] == [None, None]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_a_case_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cases.jsonl").write_bytes(content)
    with pytest.raises(ConfigError, match="holds no cases"):
        list(run_cases(tmp_path / "cases.jsonl"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.jsonl", tmp_path):
        with pytest.raises(ConfigError, match="cannot read the cases"):
            list(run_cases(path))


@pytest.mark.parametrize("named", ["file: /etc/passwd", "file: other.json (4 real items)", "https://example.org", ""])
def test_no_file_that_a_case_names_is_opened(named: str) -> None:
    for kind in ("aggregate_acc", "aggregate_cot"):
        with pytest.raises(ConfigError, match="no file that a case names is opened"):
            run_case(case("vcr-bench", kind, named, None, {}))


# Outputs and right answers that the official code was not made for


@pytest.mark.parametrize(
    ("benchmark", "kind", "output", "gold", "error"),
    [
        ("video-mme", "mcq", None, "C", "AttributeError"),
        ("vitib", "mcq", None, "(C)", "AttributeError"),
        ("vitib", "mcq", "Answer: C", None, "AttributeError"),
        ("causalvqa", "mcq", None, "C", "AttributeError"),
        ("causalvqa", "mcq", "C", None, "AttributeError"),
        ("causalvqa", "aggregate", [], None, "ZeroDivisionError"),
        ("causalvqa", "aggregate", [{"qid": "q"}], None, "KeyError"),
        ("causalvqa", "aggregate", [{"qid": "q", "score": None}], None, "TypeError"),
        ("causalvqa", "format_choices", "1. a||3. c", "1", "IndexError"),
        ("causalvqa", "format_choices", "1. a|2. b", None, "KeyError"),
        ("minerva", "gold_letter", None, {"answer_id": "²"}, "ValueError"),
        ("vcr-bench", "precision", ["```json\n[]\n```"], None, "ZeroDivisionError"),
        ("vcr-bench", "aggregate_cot", [{"Video_recall": None}], None, "TypeError"),
        ("vcr-bench", "aggregate_acc", [{"duration": None}], None, "TypeError"),
    ],
)
def test_a_fault_of_the_official_code_is_a_verdict(benchmark: str, kind: str, output: Any, gold: Any, error: str, tmp_path: Path) -> None:
    known = case(benchmark, kind, output, gold, {"error": f"{error}: in other words", "effect": "it stops"}, official_extracted=None)
    as_text = {**known, "official_verdict": f"stops ({error})"}
    wrong = {**known, "official_verdict": {"error": "OSError: no"}}
    agreed, agreed_too, differs = one(tmp_path / "cases.jsonl", known, as_text, wrong)
    assert (agreed.problem, agreed_too.problem) == (None, None)
    assert differs.problem


def test_a_judge_that_never_writes_a_list_ends_all_the_same() -> None:
    found = run_case(case("vcr-bench", "recall", ["no", None, "never"], None, {}))
    assert found == {"official_verdict": {"error": "JudgeError: no reply can be read"}}


def test_an_order_may_be_left_out_and_a_number_may_be_no_number() -> None:
    answers = {"behavior_response": "3", "justification_response": "x"}
    assert run_case(case("egonormia", "pick_best", answers, 2, {}))["official_extracted"] == (-1, -1)
    assert run_case(case("egonormia", "pick_best", {**answers, "justification_response": "3"}, 2, {}))["official_verdict"]["both"] == 1


def test_an_empty_overlap_is_the_fault_that_the_original_has(tmp_path: Path) -> None:
    verdict = {"results": [], "correct": [], "iou": "ZeroDivisionError (with a remark)"}
    good, bad = one(
        tmp_path / "cases.jsonl",
        case("egonormia", "pick_sensible", "[]", [], verdict),
        case("egonormia", "pick_sensible", "[]", [], {**verdict, "iou": 0.0}),
    )
    assert good.problem is None
    assert bad.problem


# What counts as the same


@pytest.mark.parametrize(
    ("ours", "official"),
    [
        (1 / 3, 0.3333333333333333),
        (0.1 + 0.2, 0.3),
        (True, 1),
        ((1, 2), [1, 2]),
        ({"a": (1.0, "")}, {"a": [1, ""]}),
        (10**400, 10**400),
        (None, None),
    ],
)
def test_the_same(ours: Any, official: Any) -> None:
    assert agrees(ours, official)


@pytest.mark.parametrize(
    ("ours", "official"),
    [
        (0.5, 0.51),
        ("1", 1),
        (None, ""),
        ("", 0),
        ((1, 2), [1]),
        ([1], 1),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": 1}, [1]),
        (10**400, 1.0),
        ({"error": "KeyError: 'a'"}, {"a": 1}),
        ("C", {"error": "KeyError"}),
        ({"error": "KeyError: 'a'"}, "correct"),
    ],
)
def test_not_the_same(ours: Any, official: Any) -> None:
    assert not agrees(ours, official)
