"""Published numbers stand beside a run's with every known difference."""

from dataclasses import asdict

from act2see.benchmarks.catalogue import BY_NAME
from act2see.benchmarks.published import PUBLISHED, beside
from act2see.config import EvalConfig


def test_every_setting_of_a_published_number_is_one_of_eval() -> None:
    known = asdict(EvalConfig())
    assert set(PUBLISHED) <= set(BY_NAME)
    assert {name for found in PUBLISHED.values() for one in found for name in one.settings} <= set(known)


def test_differences_are_named_with_both_values() -> None:
    base, ours = beside("video-mme", {**asdict(EvalConfig()), "max_looks": 3, "fps": 1.0})
    assert base["differs"] == {"max_looks": [0, 3]}
    assert ours["differs"] == {"max_looks": [1, 3]}
    assert (base["accuracy"], ours["accuracy"]) == (0.718, 0.742)
    assert "with or without subtitles" in ours["unknown"]


def test_the_papers_own_settings_differ_in_nothing_that_is_known() -> None:
    assert beside("vitib", {**asdict(EvalConfig()), "max_looks": 1})[1]["differs"] == {}


def test_nothing_is_known_of_other_benchmarks() -> None:
    assert beside("synthetic", {}) == []
