"""`tradeoff`: accuracy and what it costs, side by side; what another run beats in both does not stand out."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from act2see.config import TradeoffConfig
from act2see.evaluation.tradeoff import tradeoff
from act2see.storage.runs import Run
from cli_fakes import Act2See


def make(name: str, accuracy: float, tokens: float, benchmark: str = "made", dollars: float | None = None) -> None:
    run = Run.create(Path(name), command="eval", config={}, seed=0)
    spread = {"mean": tokens, "p50": tokens, "p90": tokens, "p99": tokens}
    cost = {"tokens_in": spread, "tokens_out": {**spread, "mean": 10}, "frames": {**spread, "mean": tokens / 100}}
    summary: dict[str, Any] = {
        "benchmark": benchmark,
        "n": 10,
        "accuracy": {"all": accuracy},
        "accuracy_95": {"all": [accuracy - 0.1, accuracy + 0.1]},
        "cost": cost,
    }
    run.write_summary(summary, {"n": 10, "seconds": {"all": {"mean": tokens / 50}}, "dollars": dollars})


@pytest.fixture
def three(act2see: Act2See) -> None:
    make("cheap", 0.5, 100, dollars=1.0)
    make("good", 0.8, 300, dollars=4.0)
    make("wasteful", 0.7, 500, dollars=9.0)


@pytest.mark.usefixtures("three")
def test_what_another_beats_in_both_does_not_stand_out(act2see: Act2See) -> None:
    told = json.loads(act2see("tradeoff", "cheap", "good", "wasteful", "--json").out)
    assert {one["run"]: one["is_best"] for one in told["runs"]} == {"cheap": True, "good": True, "wasteful": False}
    assert [one["cost"] for one in told["runs"]] == [110, 310, 510]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("by", "costs"), [("seconds", [2, 6, 10]), ("dollars", [0.1, 0.4, 0.9]), ("frames", [1, 3, 5])])
def test_other_costs(act2see: Act2See, by: str, costs: list[float]) -> None:
    told = json.loads(act2see("tradeoff", "cheap", "good", "wasteful", "--by", by, "--json").out)
    assert [one["cost"] for one in told["runs"]] == costs


@pytest.mark.usefixtures("three")
def test_the_plot_is_a_picture_and_the_same_each_time(act2see: Act2See) -> None:
    act2see("tradeoff", "cheap", "good", "wasteful", "--plot", "cost.png")
    with Image.open("cost.png") as image:
        assert image.width > 600
    for name in ("one.svg", "two.svg"):
        act2see("tradeoff", "cheap", "good", "wasteful", "--plot", name)
    assert Path("one.svg").read_bytes() == Path("two.svg").read_bytes()
    assert b"wasteful" in Path("one.svg").read_bytes()


@pytest.mark.usefixtures("three")
def test_the_table_names_each_run_cheapest_first(act2see: Act2See) -> None:
    lines = act2see("tradeoff", "good", "wasteful", "cheap").out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["* cheap", "* good", "  wasteful"]


def test_what_cannot_be_set_side_by_side_is_one_line(act2see: Act2See) -> None:
    make("a", 0.5, 100)
    make("b", 0.5, 100, benchmark="other")
    assert "'made' and 'other'" in act2see("tradeoff", "a", "b").complaint
    assert "--prices" in act2see("tradeoff", "a", "--by", "dollars").complaint
    Run.create(Path("unfinished"), command="eval", config={}, seed=0)
    assert "not a finished run" in act2see("tradeoff", "unfinished").complaint
    assert "give the folders" in act2see("tradeoff").complaint


@pytest.mark.usefixtures("three")
def test_a_plot_that_cannot_be_drawn_is_refused_before_a_run_is_read(act2see: Act2See) -> None:
    assert "the file name must end in one of .png, .svg, .pdf" in act2see("tradeoff", "no_such_run", "--plot", "cost.gif").complaint
    assert "folder nowhere does not exist" in act2see("tradeoff", "no_such_run", "--plot", "nowhere/cost.png").complaint


@pytest.mark.usefixtures("three")
def test_as_a_function_it_gives_typed_points() -> None:
    found = tradeoff(["cheap", "good", "wasteful"], TradeoffConfig(by="dollars"))
    assert (found.benchmark, found.unit) == ("made", "dollars")
    assert [(point.run, point.accuracy, point.cost, point.is_best) for point in found.points] == [
        ("cheap", 0.5, 0.1, True),
        ("good", 0.8, 0.4, True),
        ("wasteful", 0.7, 0.9, False),
    ]
    assert found.points[0].accuracy_95 == pytest.approx((0.4, 0.6))
