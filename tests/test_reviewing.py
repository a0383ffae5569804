"""Verdicts by hand: what the page saves is read, and of anything else the line is told."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.core.errors import StoreError
from act2see.curation.review import VerdictByHand, read_verdicts

TRACES = {"a#0", "b#1", "c#0"}
KEEP = '{"trace": "a#0", "verdict": "keep", "note": ""}'
REJECT = '{"trace": "b#1", "verdict": "reject", "note": "a \\"blurred\\" frame"}'


def test_verdicts_by_their_traces(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(f"{KEEP}\n{REJECT}\n", encoding="utf-8")
    found = read_verdicts(path, TRACES)
    assert found == {"a#0": VerdictByHand("a#0", "keep", ""), "b#1": VerdictByHand("b#1", "reject", 'a "blurred" frame')}
    assert [one.is_kept for one in found.values()] == [True, False]


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\r\n\t\n"])
def test_a_file_without_a_verdict(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(content)
    assert read_verdicts(path, TRACES) == {}


def test_of_two_verdicts_on_a_trace_the_later_counts(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text("\n".join((KEEP, REJECT.replace("b#1", "a#0"))), encoding="utf-8")  # the last line without its end
    assert read_verdicts(path, TRACES)["a#0"].verdict == "reject"


@given(st.text(), st.sampled_from(["keep", "reject"]), st.text(), st.booleans())
def test_any_note_on_any_trace_comes_back(trace: str, verdict: str, note: str, ascii_only: bool) -> None:
    """The page writes every character as it is, those too that some take for a line's end."""
    line = json.dumps({"trace": trace, "verdict": verdict, "note": note}, ensure_ascii=ascii_only).encode()
    with tempfile.NamedTemporaryFile() as file:
        file.write(line + b"\r\n")
        file.flush()
        assert read_verdicts(Path(file.name), [trace]) == {trace: VerdictByHand(trace, verdict, note)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "no JSON"),
        ('{"trace": NaN}', "NaN is not allowed"),
        ("[]", "[] where an object is expected"),
        ('{"trace": "a#0", "verdict": "keep"}', 'the field "note" is missing'),
        (KEEP.replace("}", ', "by": "me"}'), 'unknown field "by"; known are trace, verdict, note'),
        (KEEP.replace('""', "null"), ".note is null where a text is expected"),
        (KEEP.replace("keep", "Keep"), 'the verdict is "Keep"; allowed: keep and reject'),
        (KEEP.replace("keep", ""), 'the verdict is ""; allowed: keep and reject'),
        (KEEP.replace("a#0", "a#7"), 'the run has no trace "a#7": are these verdicts from another run?'),
        ("\udcff", "no JSON"),
    ],
)
def test_a_line_that_is_no_verdict_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes("\n".join((KEEP, "", line, REJECT)).encode("utf-8", "surrogateescape"))
    with pytest.raises(StoreError) as caught:
        read_verdicts(path, TRACES)
    said = str(caught.value)
    assert said.startswith(f"{path}:3")
    assert message in said
    assert said.count(str(path)) == 1
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["nothing.jsonl", "."])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read the verdicts"):
        read_verdicts(tmp_path / name, TRACES)
