"""A set that was evaluated, read back without our readers: what the model answered, and how each question ended by a count of the tests' own."""

import contextlib
import io
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from act2see import cli
from sets_of_twenty import Gold


@dataclass(frozen=True)
class Ran:
    """A set that was evaluated: what its maker knows, and what is left of the run."""

    name: str
    folder: Path
    golds: dict[str, Gold]
    told: dict[str, Any]
    """The line of JSON."""
    said: str
    """What stood on stderr."""

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @cached_property
    def traces(self) -> dict[str, dict[str, Any]]:
        lines = (self.run / "traces.jsonl").read_text(encoding="utf-8").splitlines()
        return {trace["id"]: trace for trace in map(json.loads, lines)}

    def answer(self, id: str) -> str | None:
        """What the model answered, as it was written; None where it did not, or was never asked."""
        steps = self.traces[id]["steps"] if id in self.traces else []
        return next((step["text"] for step in reversed(steps) if step["type"] == "answer"), None)

    def letter(self, id: str) -> str | None:
        """The letter of the choice that the answer is, by its text or its letter; None where it is none."""
        said = (self.answer(id) or "").strip().rstrip(".").lower()
        for letter, choice in zip("ABCDE", self.golds[id].choices, strict=False):
            words = choice.rstrip(".").lower()
            if said in (words, letter.lower(), f"{letter.lower()}. {words}"):
                return letter
        return None

    def right_letter(self, id: str) -> str:
        gold = self.golds[id]
        return "ABCDE"[gold.choices.index(gold.answer or "")]

    def is_right(self, id: str) -> bool:
        return self.letter(id) == self.right_letter(id)

    def output(self, id: str, form: str) -> str:
        """What an official script must be given: the letter in its form, else what was answered."""
        letter = self.letter(id)
        return (self.answer(id) or "").strip() if letter is None else form.format(letter)

    def outcome(self, id: str) -> str:
        """How the question ended, by a count of our own."""
        gold, answer = self.golds[id], self.answer(id)
        if id not in self.traces:
            return "video_error"
        if self.traces[id]["finish"] == "length":
            return "truncated"
        if gold.answer is None or answer is None:
            return "no_answer"
        if gold.choices:
            return "no_answer" if self.letter(id) is None else "correct" if self.is_right(id) else "wrong"
        if gold.answer.startswith("["):  # times, boxes and EgoNormia's lists: the embedded model has never seen one
            assert "[" not in answer
            return "wrong" if gold.kind == "sensible" and re.fullmatch(r"\s*[1-5](, ?[1-5])*\s*", answer) else "no_answer"
        return "correct" if answer.strip().rstrip(".").lower() == gold.answer.rstrip(".").lower() else "no_answer"


def call(*arguments: str | Path) -> tuple[int, str, str]:
    """The command line in this process: exit code, stdout, stderr."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = cli.main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()
