"""The README.md of a filtered run, in the form of the Hugging Face hub's dataset cards: what is in it, from where, under which licences."""

import json
import re
from collections.abc import Mapping
from typing import Any

from act2see.reasons import MEANINGS

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
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
        f"Teacher: `{_plain(construction.get('backend', 'unknown'))}`, at most {construction.get('max_looks', '?')} looks. "
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
        f"Similarity to the person's reasoning: above {limits['reference_similarity']:g} by `{_plain(limits['embedder'])}`.",
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
    return next((name for limit, name in _SIZES if count < limit), "n>1M")


def _plain(text: object) -> str:
    """A name from elsewhere as one line that cannot be Markdown."""
    return re.sub(r"[\[\]<>|`*_\\]", lambda match: f"\\{match.group()}", " ".join(json.dumps(str(text), ensure_ascii=False)[1:-1].split()))
