"""The README.md of a filtered run, a Hugging Face dataset card with contents, sources and licences."""

import re
from collections.abc import Mapping
from typing import Any

from act2see.core.rejection_reasons import MEANINGS

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"), (10**8, "10M<n<100M"))
# Control characters, marks that reorder a text, and halves of characters, which no file can hold.
_NOT_FOR_A_CARD = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKS = re.compile(r"[\[\]<>|`*_\\&~#!$@]|:(?=//)|(?<=www)\.")
_FIRST = re.compile(r"^(\d*)([-+=.)])")
_HUB_LICENCES: Mapping[str, str] = {"apache-2.0": "apache-2.0", "cc by 4.0": "cc-by-4.0", "cc-by-4.0": "cc-by-4.0", "mit": "mit"}


def dataset_card(summary: Mapping[str, Any], construction: Mapping[str, Any]) -> str:
    """The card, in Markdown. `summary` is the filter's, `construction` the configuration of the run that was filtered."""
    counts, cost = summary["paper_counts"], summary["cost"]["per_kept_trace"]
    licences, limits = list(summary["licences"]), summary["settings"]
    hub = {_HUB_LICENCES.get(name.casefold().split(" for ")[0], "other") for name in licences}
    lines = ["---", f"license: {hub.pop() if len(hub) == 1 else 'other'}", "task_categories:", "- video-text-to-text", "tags:", "- act2see"]
    lines += ["- video-reasoning", f"size_categories:\n- {_size(counts['traces'])}", "---", "", "# Traces that look", ""]
    lines += [
        f"{counts['traces']:,} traces of a model that reasons about a video and may ask to see a frame:"
        f" {counts['with_a_frame']:,} with one, {counts['with_retrieved']:,} with a retrieved, {counts['with_generated']:,} with a generated one.",
        "",
        f"Teacher: {_code(construction.get('backend', 'unknown'))}, at most {_plain(construction.get('max_looks', '?'))} looks. "
        + (
            "**The teacher was shown the person's reasoning.**"
            if construction.get("show_reference")
            else "The person's reasoning was not shown to it."
        ),
        "",
        "## Sources and licences",
        "",
        "| source | traces tried | kept |",
        "|---|---|---|",
        *(f"| {_plain(name)} | {row['traces']:,} | {row['kept']:,} |" for name, row in summary["by_source"].items()),
        "",
        *(f"- {_plain(name)}: {count:,} traces" for name, count in summary["licences"].items()),
        "",
        "The videos themselves are not in here; the frames that the teacher saw are.",
        "",
        "## How they were chosen",
        "",
        f"Similarity to the person's reasoning: above {limits['reference_similarity']:g} by {_code(limits['embedder'])}.",
        "",
        "| reason against a trace | counted under it | all that it speaks against |",
        "|---|---|---|",
        *(f"| {MEANINGS[reason]} | {row['first']:,} | {row['any']:,} |" for reason, row in summary["by_reason"].items()),
        "",
        f"`rejected.jsonl` names every trace that is not in here, with its reasons. A kept trace took {cost['tokens_in'] or 0:,.0f} tokens in and"
        f" {cost['tokens_out'] or 0:,.0f} out"
        + (f" and {cost['dollars']:.4f} dollars" if cost["dollars"] is not None else "")
        + ", the rejected ones' included.",
        "",
        "## Format",
        "",
        "`traces.jsonl` holds one trace a line and `frames/` the pictures that it names; act2see trains on the folder and exports it:",
        "",
        "```bash",
        "act2see train recipes/act2see-8b.toml --data FOLDER --out RUN",
        "act2see export FOLDER --format trl --out EXPORT",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _size(count: int) -> str:
    return next((name for limit, name in _SIZES if count < limit), "other")


def _plain(text: object) -> str:
    """An untrusted name as one line, with Markdown escaped."""
    return _FIRST.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", _one_line(text)))


def _code(text: object) -> str:
    """A model's name as code, without backticks, which cannot be escaped there."""
    return f"`{_one_line(text).replace('`', chr(39)) or '?'}`"


def _one_line(text: object) -> str:
    return " ".join(_NOT_FOR_A_CARD.sub(" ", str(text)).split())
