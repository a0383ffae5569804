"""What lmms-eval asks about a question of the synthetic world: its video, its text and its verdict, all in act2see's own words and rules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from act2see.core.chat import chosen, question_text


def video(doc: dict[str, Any]) -> list[str]:
    """The clip's file."""
    return [str(Path(doc["video"]).resolve())]


def text(doc: dict[str, Any], lmms_eval_specific_kwargs: object = None) -> str:
    """The question with its options, as `act2see eval` writes them; the loop puts `Question: ` before it in both."""
    return question_text(doc["question"], doc["choices"]).removeprefix("Question: ")


def verdict(doc: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """1 where the answer names the right choice, by letter or text; 0 else, and where there is none."""
    index = chosen(results[0], doc["choices"])
    return {"accuracy": float(index is not None and doc["choices"][index] == doc["answer"])}
