"""Where FLOPs are reported: by the loop, by tools, in summaries. The formulas are compared with torch's counter beside the tests of the models."""

from pathlib import Path

import pytest

import full_scale
from act2see import registry
from act2see.backends.huggingface import BatchedBackend, HuggingFaceBackend
from act2see.config import ModelConfig
from act2see.core.engine import LoopOptions, new_trace, reason
from act2see.core.flops import add, count, counted_as, counting, in_units, total
from act2see.core.trace import Cost
from act2see.evaluation.scores import summarise_costs
from act2see.video import Video

CLIP = Path(__file__).parents[1] / "src" / "act2see" / "synthetic" / "demo" / "clip-3.mp4"


def fresh() -> HuggingFaceBackend:
    made = registry.backend("micro", ModelConfig())
    assert isinstance(made, HuggingFaceBackend)
    return made


@pytest.fixture(scope="module")
def backend() -> HuggingFaceBackend:
    return fresh()


# Vision-language models


def test_an_answer_with_a_look_has_the_flops_of_every_part(backend: HuggingFaceBackend) -> None:
    video = Video(CLIP)
    trace = new_trace(video, "Where can the cross be seen?", ("middle", "bottom", "left", "right"), fps=1.0, id="a", backend=backend)
    retriever = registry.retriever("micro", ModelConfig(cache=False))
    assert [*reason(trace, video, backend, retriever, None, LoopOptions(1))]
    assert trace.looks == 1
    assert {*trace.cost.flops} == {"vision", "prefill", "decode", "retriever"}
    assert trace.cost.total_flops == sum(value or 0.0 for value in trace.cost.flops.values()) > 1e9


def test_the_batched_path_reports_the_same(backend: HuggingFaceBackend) -> None:
    together, alone = _answered(backend.batched(2)), _answered(fresh())
    assert together.flops == alone.flops
    assert together.total_flops is not None


def _answered(backend: "HuggingFaceBackend | BatchedBackend") -> Cost:
    video = Video(CLIP)
    trace = new_trace(video, "Where can the cross be seen?", ("middle", "left"), fps=0.5, id="b", backend=backend)
    assert [*reason(trace, video, backend, None)]
    return trace.cost


def test_what_a_cache_holds_is_not_counted(backend: HuggingFaceBackend) -> None:
    _answered(backend)
    again = _answered(backend)
    assert again.tokens_reused == again.tokens_in - 1
    assert again.flops["vision"] == 0
    assert again.flops["prefill"] == pytest.approx((again.flops["decode"] or 0) / (again.tokens_out - 1), rel=0.2)


# The counter


def test_what_a_tool_spends_is_counted_by_part_and_only_where_somebody_counts() -> None:
    count("retriever", 1.0)
    with counting() as outer:
        count("retriever", 2.0)
        with counting() as inner:
            count("retriever", 4.0)
        with counted_as("judge"):
            count("retriever", 8.0)
        count("generator", None)
        count("generator", 16.0)
    assert (outer, inner) == ({"retriever": 2.0, "judge": 8.0, "generator": None}, {"retriever": 4.0})


def test_an_unknown_part_makes_the_sum_unknown_and_so_does_a_backend_that_says_nothing() -> None:
    assert total({"decode": 1.0, "prefill": 2.0}) == 3.0
    assert total({"decode": 1.0, "generator": None}) is None
    assert total({"retriever": 1.0}) is None
    assert total({}) is None
    one = {"decode": 1.0}
    add(one_or_none := dict[str, float | None](one), {"decode": None, "vision": 2.0})
    assert one_or_none == {"decode": None, "vision": 2.0}


def test_flops_are_told_with_three_digits() -> None:
    told = [in_units(value) for value in (877e12, 2_885_887_360.0, 1.234e15, 12.0, 0.0)]
    assert told == ["877 TFLOPs", "2.89 GFLOPs", "1.23 PFLOPs", "12.0 FLOPs", "0.00 FLOPs"]


# Summaries


def test_a_summary_has_the_spread_of_each_part_and_of_all() -> None:
    costs = [Cost(flops={"prefill": 10.0, "decode": 2.0}), Cost(flops={"prefill": 20.0, "decode": 2.0, "generator": 6.0})]
    found = summarise_costs(costs)["flops"]
    assert {name: spread["mean"] for name, spread in found.items()} == {"all": 20.0, "prefill": 15.0, "decode": 2.0, "generator": 3.0}


def test_a_summary_says_nothing_about_servers_and_null_where_one_answer_is_unknown() -> None:
    assert "flops" not in summarise_costs([Cost(1, 2)])
    found = summarise_costs([Cost(flops={"decode": 2.0}), Cost(flops={"retriever": 6.0})])["flops"]
    assert found["all"] is None
    assert found["retriever"]["mean"] == 3.0


def test_the_page_on_full_size_has_the_tables_of_its_script() -> None:
    page = (Path(__file__).parents[1] / "docs" / "full-scale.md").read_text(encoding="utf-8")
    assert full_scale.tables() in page
