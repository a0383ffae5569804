"""Options of one benchmark: declared in the catalogue, parsed from texts, one line for each mistake."""

from pathlib import Path

import pytest

from act2see.benchmarks.catalogue import BY_NAME, CATALOGUE, parse_options
from act2see.benchmarks.options import BenchmarkOption
from act2see.core.errors import ConfigError


def test_options_not_given_have_their_defaults() -> None:
    assert parse_options("video-mme", {})["subtitles"] is False
    assert parse_options("egonormia", {})["given"] == "own"
    assert parse_options("synthetic", {})["kind"] == ("static", "transient")
    judge = parse_options("vcr-bench", {})
    assert (judge["answer_judge"], judge["judge_prompts"], judge["official_judge"]) == (None, None, False)


def test_given_texts_become_typed_values() -> None:
    assert parse_options("video-mme", {"subtitles": "true"})["subtitles"] is True
    assert parse_options("egonormia", {"given": "right"})["given"] == "right"
    assert parse_options("synthetic", {"kind": "transient, hypothetical"})["kind"] == ("transient", "hypothetical")
    judge = parse_options("vcr-bench", {"answer-judge": "openai:judge=1", "judge_prompts": "eval_code/prompt.py", "official_judge": "YES"})
    assert judge["answer_judge"] == "openai:judge=1"
    assert judge["judge_prompts"] == Path("eval_code/prompt.py")
    assert judge["official_judge"] is True


@pytest.mark.parametrize(
    ("benchmark", "given", "message"),
    [
        ("video-mme", {"subtitle": "true"}, "benchmark 'video-mme' has no option \"subtitle\": did you mean subtitles? its options are subtitles"),
        ("vcr-bench", {"kind": "x"}, "benchmark 'vcr-bench' has no option \"kind\": its options are answer_judge, judge_prompts, official_judge"),
        ("minerva", {"subtitles": "true"}, "benchmark 'minerva' has no options: remove \"subtitles\""),
        ("video-mme", {"subtitles": "maybe"}, 'option subtitles: got "maybe", expected true or false'),
        ("egonormia", {"given": "both"}, 'option given: got "both", expected own or right'),
        (
            "synthetic",
            {"kind": "static,moving"},
            'option kind: got "static,moving", expected a comma-separated list of static, transient, hypothetical',
        ),
        ("synthetic", {"kind": ""}, 'option kind: got "", expected a comma-separated list of static, transient, hypothetical'),
        ("vcr-bench", {"judge_prompts": " "}, 'option judge_prompts: got "", expected a path'),
        ("vcr-bench", {"answer_judge": "a", "answer-judge": "b"}, "option answer_judge is given twice, as answer_judge and as answer-judge"),
        ("my.module:Mine", {"subtitles": "1"}, "benchmark 'my.module:Mine' declares no options: remove subtitles (options exist for synthetic, "),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_allowed(benchmark: str, given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(benchmark, given)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_benchmark_without_declared_options_accepts_none() -> None:
    assert parse_options("my.module:Mine", {}) == {}
    assert parse_options("minerva", {}) == {}


@pytest.mark.parametrize("option", [option for entry in CATALOGUE for option in entry.options], ids=lambda option: option.name)
def test_every_declared_default_is_a_value_of_its_type(option: BenchmarkOption) -> None:
    written = {True: "true", False: "false"}.get(option.default, option.default) if isinstance(option.default, bool) else option.default
    if written is None:
        assert option.type in ("text", "path")
    else:
        assert option.parse(",".join(written) if isinstance(written, tuple) else str(written)) == option.default
    assert option.name == option.name.lower().replace("-", "_")
    assert option.help.endswith(".")
    assert "\n" not in option.help


def test_each_option_belongs_to_one_benchmark() -> None:
    names = [option.name for entry in CATALOGUE for option in entry.options]
    assert len(names) == len(set(names))
    assert len(BY_NAME) == len(CATALOGUE)
