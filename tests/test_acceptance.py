"""What a filtering came to in numbers, counted by hand on a small set."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from act2see.core.rejection_reasons import Reason
from act2see.core.trace import Answer, Cost, Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.curation.filter_statistics import BINS, Counted, facts_of, summarise
from act2see.curation.filters import Judged
from act2see.curation.qa_records import Reference

PIXEL = Image.new("RGB", (1, 1))
REAL: tuple[Step, ...] = (Retrieve("a star"), Observation((Frame(PIXEL, 0.5),)))
IMAGINED: tuple[Step, ...] = (Generate("a star"), Observation((Frame(PIXEL, None, provenance=Provenance("a star", 0.0, "m", 0)),)))
FAILED: tuple[Step, ...] = (Retrieve("a star"), Observation(error="none"))


def one(
    name: str,
    *steps: Step,
    reasons: Mapping[Reason, str] | None = None,
    source: str = "world",
    kind: str = "colour",
    licence: str = "MIT",
    similarity: float | None = 0.9,
    cost: Cost | None = None,
) -> Counted:
    trace = Trace(f"{name}#0", "v.mp4", "?", (Frame(PIXEL, 0.0),), steps=[Thought("hm"), *steps, Answer("B")], finish="answer", cost=cost or Cost())
    reference = Reference(name, source, licence, "v.mp4", "?", (), "B", kind, "so")
    return Counted(Judged(trace.id, name, reasons or {}, similarity), facts_of(trace, reference))


def test_counts_as_the_paper_gives_them() -> None:
    """A trace with both kinds of frame counts once in each, and once among those with a frame; a failed call brings none."""
    kept = [one("none"), one("real", *REAL, *REAL), one("imagined", *IMAGINED), one("both", *REAL, *IMAGINED), one("failed", *FAILED)]
    everything = [*kept, one("wrong", *REAL, reasons={"wrong_answer": "red"})]
    summary = summarise(everything, questions=9, failed=[Cost(), Cost()])
    assert summary["paper_counts"] == {"traces": 5, "with_a_frame": 3, "share_with_a_frame": 0.6, "with_retrieved": 2, "with_generated": 2}
    whole = {name: summary[name] for name in ("questions", "unfinished", "traces", "kept", "acceptance", "call_rate", "call_rate_kept")}
    assert whole == {"questions": 9, "unfinished": 2, "traces": 6, "kept": 5, "acceptance": 0.8333, "call_rate": 0.8333, "call_rate_kept": 0.8}


def test_the_papers_own_share() -> None:
    """1,608 of its 3,373 traces have a frame: 1,026 a retrieved and 582 a generated one."""
    kept = [one("r", *REAL)] * 1026 + [one("g", *IMAGINED)] * 582 + [one("n")] * (3373 - 1608)
    counts = summarise(kept, 3373)["paper_counts"]
    assert counts == {"traces": 3373, "with_a_frame": 1608, "share_with_a_frame": 0.4767, "with_retrieved": 1026, "with_generated": 582}


def test_questions_are_counted_once_whatever_their_tries() -> None:
    assert summarise([one("q"), one("q"), one("p"), one("r", reasons={"leak": "x"})], 3)["kept_questions"] == 2


def test_each_source_and_kind_is_a_group_of_its_own() -> None:
    everything = [
        one("1"),
        one("2", *REAL, reasons={"leak": "x"}),
        one("3", *REAL, source="other", kind="other"),
        one("4", kind="shape"),
        one("5", *REAL, kind="shape"),
    ]
    by_source = summarise(everything, 5)["by_source"]
    assert list(by_source) == ["other", "world: colour", "world: shape"]
    assert by_source["world: colour"] == {"traces": 2, "kept": 1, "acceptance": 0.5, "call_rate": 0.5, "call_rate_kept": 0.0}
    assert by_source["world: shape"] == {"traces": 2, "kept": 2, "acceptance": 1.0, "call_rate": 0.5, "call_rate_kept": 0.5}


def test_reasons_that_come_first_and_that_come_at_all() -> None:
    everything = [
        one("1", reasons={"wrong_answer": "", "leak": ""}),
        one("2", reasons={"leak": ""}),
        one("3", reasons={"leak": "", "by_hand": ""}),
        one("4"),
    ]
    by_reason = summarise(everything, 4)["by_reason"]
    assert by_reason == {"wrong_answer": {"first": 1, "any": 1}, "leak": {"first": 2, "any": 3}, "by_hand": {"first": 0, "any": 1}}
    assert list(by_reason) == ["wrong_answer", "leak", "by_hand"]


def test_licences_are_those_of_what_was_kept() -> None:
    everything = [one("1", licence="MIT"), one("2", licence="CC BY 4.0"), one("3", licence="MIT"), one("4", licence="secret", reasons={"leak": ""})]
    assert summarise(everything, 4)["licences"] == {"CC BY 4.0": 1, "MIT": 2}


# Similarities


@pytest.mark.parametrize(("similarity", "place"), [(-0.2, 0), (-0.01, 0), (0.0, 0), (0.0499, 0), (0.999, 19), (1.0, 19), (1.0000001, 19)])
def test_the_histograms_edges(similarity: float, place: int) -> None:
    expected = [int(number == place) for number in range(BINS)]
    found = summarise([one("1", similarity=similarity)], 1)["similarity"]
    assert found == {"n": 1, "mean": round(similarity, 4), "bins": expected, "kept": expected}


@pytest.mark.parametrize("number", range(BINS))
def test_a_bin_begins_with_its_lower_edge(number: int) -> None:
    assert summarise([one("1", similarity=number / BINS)], 1)["similarity"]["bins"][number] == 1


@given(st.lists(st.tuples(st.none() | st.floats(-1, 1), st.booleans()), max_size=20))
def test_every_known_similarity_is_in_one_bin(found: list[tuple[float | None, bool]]) -> None:
    everything = [one(str(n), similarity=value, reasons={} if keep else {"leak": ""}) for n, (value, keep) in enumerate(found)]
    histogram = summarise(everything, 20)["similarity"]
    known = [(value, keep) for value, keep in found if value is not None]
    assert histogram["n"] == sum(histogram["bins"]) == len(known)
    assert sum(histogram["kept"]) == sum(keep for _, keep in known)
    assert all(kept <= count for kept, count in zip(histogram["kept"], histogram["bins"], strict=True))
    if known:
        assert histogram["mean"] == pytest.approx(sum(value for value, _ in known) / len(known), abs=6e-5)
    else:
        assert histogram["mean"] is None


# Cost


def test_a_kept_trace_costs_what_all_tries_cost() -> None:
    everything = [
        one("1", cost=Cost(100, 10, 20, {"decode": 1.0, "retrieve": 0.5}, 0.25)),
        one("2", cost=Cost(200, 30, 0, {"decode": 2.0}, 0.5), reasons={"leak": ""}),
        one("3", cost=Cost(300, 20, 0, {"decode": 3.0}, None)),
    ]
    cost = summarise(everything, 3)["cost"]
    assert cost["total"] == {"tokens_in": 600, "tokens_out": 60, "tokens_reused": 20, "seconds": 6.5, "dollars": 0.75}
    assert cost["per_kept_trace"] == {"tokens_in": 300, "tokens_out": 30, "tokens_reused": 10, "seconds": 3.25, "dollars": 0.375}


def test_what_a_failure_ended_is_paid_for_and_judged_nowhere() -> None:
    failed = [Cost(40, 2, 4, {"decode": 0.5}, 0.25), Cost(10)]
    summary = summarise([one("1", cost=Cost(50, 8, 0, {"decode": 1.0}, 0.5)), one("2", reasons={"leak": ""})], 3, failed)
    assert (summary["unfinished"], summary["traces"], summary["kept"]) == (2, 2, 1)
    expected = {"tokens_in": 100, "tokens_out": 10, "tokens_reused": 4, "seconds": 1.5, "dollars": 0.75}
    assert summary["cost"] == {"total": expected, "per_kept_trace": expected}
    assert failed == [Cost(40, 2, 4, {"decode": 0.5}, 0.25), Cost(10)]


def test_without_a_price_there_are_no_dollars() -> None:
    cost = summarise([one("1", cost=Cost(1, 1))], 1)["cost"]
    assert cost["total"]["dollars"] is None
    assert cost["per_kept_trace"]["dollars"] is None


def test_counting_changes_no_traces_cost() -> None:
    cost = Cost(1, 1, 1, {"decode": 1.0}, 1.0)
    everything = [one("1", cost=cost), one("2", cost=cost)]
    assert summarise(everything, 2) == summarise(everything, 2)
    assert cost == Cost(1, 1, 1, {"decode": 1.0}, 1.0)


@pytest.mark.parametrize("everything", [[], [one("1", *REAL, reasons={"leak": ""}, cost=Cost(5, 1, 0, {}, 0.1))]])
def test_nothing_was_kept(everything: list[Counted]) -> None:
    summary: dict[str, Any] = summarise(everything, 1)
    assert summary["kept"] == summary["kept_questions"] == 0
    assert summary["call_rate_kept"] is None
    assert summary["paper_counts"] == {"traces": 0, "with_a_frame": 0, "share_with_a_frame": None, "with_retrieved": 0, "with_generated": 0}
    assert set(summary["cost"]["per_kept_trace"].values()) == {None}
    assert summary["licences"] == {}
    assert summary["acceptance"] == (0.0 if everything else None)
