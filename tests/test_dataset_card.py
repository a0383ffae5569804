"""The dataset card: its head is what the hub reads, and no name from elsewhere can be more than a name in it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from act2see.core.rejection_reasons import MEANINGS
from act2see.curation.dataset_card import dataset_card

SIZES = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M"]
"""As the hub names them."""
HOSTILE = (
    "a | b",
    "a\\| b \\",
    "| x |\n|---|\n| y |",
    "---\nlicense: mit\n---",
    "</td><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "![](https://evil.example/x.png)",
    "<https://evil.example>",
    "`code` ``` fence",
    "**bold** _soft_ ~~gone~~",
    "# heading",
    "- list",
    "1. list",
    "~~~",
    "&lt;b&gt;",
    'quoted "so"',
    "\x00\x1b[31m\x85\u2028\u202e",
    "x\ud800",
)


def summary(
    sources: Sequence[str] = ("world",), licences: Mapping[str, int] | None = None, traces: int = 3, embedder: str = "bge-m3", **cost: float | None
) -> dict[str, Any]:
    row = {"traces": 5, "kept": 3, "acceptance": 0.6, "call_rate": 0.5, "call_rate_kept": 0.5}
    return {
        "settings": {"reference_similarity": 0.8, "embedder": embedder, "ignore": [], "leak_words": 8},
        "paper_counts": {"traces": traces, "with_a_frame": 2, "share_with_a_frame": 0.6667, "with_retrieved": 1, "with_generated": 1},
        "by_source": dict.fromkeys(sources, row),
        "by_reason": {"leak": {"first": 2, "any": 4}},
        "licences": {"MIT": 3} if licences is None else licences,
        "cost": {"per_kept_trace": {"tokens_in": 1234.5, "tokens_out": 99.0, "tokens_reused": 0.0, "seconds": 1.0, "dollars": None} | cost},
    }


def head(card: str) -> Any:
    """The YAML between the first two lines of dashes, as the hub splits it off."""
    match = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert match is not None
    return yaml.safe_load(match.group(1))


def parsed(card: str) -> list[Any]:
    """What a Markdown parser makes of all that follows the head."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(card.split("---\n", 2)[2])


def structure(card: str) -> list[tuple[str, ...]]:
    """The kinds of everything in it, without the words."""
    return [(token.type, *(child.type for child in token.children or () if child.type != "text_special")) for token in parsed(card)]


def texts(card: str) -> list[str]:
    """The words of every paragraph and cell, as a reader sees them."""
    return ["".join(child.content for child in token.children) for token in parsed(card) if token.type == "inline"]


def test_the_head_is_what_the_hub_reads() -> None:
    assert head(dataset_card(summary(), {})) == {
        "license": "mit",
        "task_categories": ["video-text-to-text"],
        "tags": ["act2see", "video-reasoning"],
        "size_categories": ["n<1K"],
    }


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ({"MIT": 3}, "mit"),
        ({"CC BY 4.0": 1, "CC-BY-4.0": 2}, "cc-by-4.0"),
        ({"Apache-2.0 for the annotations": 3}, "apache-2.0"),
        ({"MIT": 1, "CC BY 4.0": 2}, "other"),
        ({"MIT\nlicense: apache-2.0": 3}, "other"),
        ({}, "other"),
    ],
)
def test_the_licence_is_told_where_there_is_only_one(licences: Mapping[str, int], expected: str) -> None:
    assert head(dataset_card(summary(licences=licences), {}))["license"] == expected


@pytest.mark.parametrize(
    ("traces", "size"),
    [(0, 0), (999, 0), (1000, 1), (9_999, 1), (10_000, 2), (99_999, 2), (100_000, 3), (999_999, 3), (1_000_000, 4), (10_000_000, 5)],
)
def test_sizes_as_the_hub_names_them(traces: int, size: int) -> None:
    assert head(dataset_card(summary(traces=traces), {}))["size_categories"] == [SIZES[size]]


def test_the_numbers_stand_in_it() -> None:
    card = dataset_card(summary(dollars=0.01234), {"backend": "openai:some-model", "max_looks": 1})
    assert (
        "3 traces of a model that reasons about a video and may ask to see a frame: 2 with one, 1 with a retrieved, 1 with a generated one." in card
    )
    said = texts(card)
    rows = [said[at : at + 3] for at in range(len(said) - 2)]
    assert ["world", "5", "3"] in rows
    assert [MEANINGS["leak"], "2", "4"] in rows
    assert "MIT: 3 traces" in said
    assert any("A kept trace took 1,234 tokens in and 99 out and 0.0123 dollars" in line for line in said)
    assert any(line.startswith("Teacher: openai:some-model, at most 1 looks. The person's reasoning was not shown to it.") for line in said)
    assert "dollars" not in dataset_card(summary(), {})


def test_it_says_loudly_that_the_reasoning_was_shown() -> None:
    assert "**The teacher was shown the person's reasoning.**" in dataset_card(summary(), {"show_reference": True})


def test_nothing_was_kept() -> None:
    card = dataset_card(summary((), {}, traces=0, tokens_in=None, tokens_out=None, tokens_reused=None, seconds=None), {})
    assert head(card)["license"] == "other"
    assert "A kept trace took 0 tokens in and 0 out, the rejected ones' included." in " ".join(texts(card)).replace("\n", " ")


# Names from elsewhere


@pytest.mark.parametrize("name", ["openai:my_model", "package.my_module:My_Class", "huggingface:a*b*c"])
def test_a_models_name_stands_as_it_is(name: str) -> None:
    card = dataset_card(summary(embedder=name), {"backend": name})
    assert sum(f"Teacher: {name}," in text or f"by {name}." in text for text in texts(card)) == 2


@pytest.mark.parametrize("name", ["CC BY 4.0", "made_up: what if?", "a [b] <c> | d", "50% *off*", 'the "world"', "C:\\videos"])
def test_a_sources_name_is_read_as_it_was_written(name: str) -> None:
    said = texts(dataset_card(summary((name,), {name: 3}), {}))
    assert name in said
    assert f"{name}: 3 traces" in said


def check_contained(name: str) -> None:
    plain = dataset_card(summary(("world",), {"licence": 3}, embedder="some"), {"backend": "some", "max_looks": "some"})
    card = dataset_card(summary((name,), {name: 3}, embedder=name), {"backend": name, "max_looks": name})
    card.encode()  # it can be written
    assert head(card) == head(plain) | {"license": "other"}
    assert structure(card) == structure(plain)
    assert not any(child.type in ("link_open", "image", "html_inline") for token in parsed(card) for child in token.children or ())


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_no_more_than_a_name(name: str) -> None:
    check_contained(name)


@given(st.text("|-_*`<>[]()!#~&:/\\\"' \n\tab1.", min_size=1))
def test_no_name_changes_what_the_card_is_made_of(name: str) -> None:
    check_contained("x" + name)
