"""Prompts of VCR-Bench's judge: ours, or those of the data set's own file. Scores depend on them, so a score records which were used."""

import ast
import hashlib
import os
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from act2see.core.errors import ConfigError

SLOTS = {
    "extract": ("question", "response"),
    "compare": ("question", "extracted", "answer"),
    "recall": ("question", "answer", "response", "reasoning"),
    "precision": ("question", "response", "reasoning"),
}
"""Slots of each of the four prompts."""

# Names in the official file: a fixed prefix, the template, and the template's slot names with ours.
_OFFICIAL: dict[str, tuple[str | None, str, dict[str, str]]] = {
    "extract": ("Answer_Extraction_Prompt_part1", "Answer_Extraction_Prompt_part2", {"question": "question", "response": "response"}),
    "compare": (
        "Answer_Scoring_Prompt_part1",
        "Answer_Scoring_Prompt_part2",
        {"question": "question", "extract_answer": "extracted", "gt_answer": "answer"},
    ),
    "recall": (
        None,
        "Recall_Evaluation_Prompt",
        {"question": "question", "answer": "answer", "solution": "response", "gt_annotation": "reasoning"},
    ),
    "precision": (None, "Precision_Evaluation_Prompt", {"question": "question", "solution": "response", "gt_annotation": "reasoning"}),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt: a fixed prefix and a template. `names` maps the template's slot names to ours."""

    template: str
    before: str = ""
    names: Mapping[str, str] | None = None

    def filled(self, **values: str) -> str:
        """The complete prompt. Values are inserted verbatim; braces in them are kept."""
        parts = [self.before]
        for text, name, _, _ in string.Formatter().parse(self.template):
            parts += [text, "" if name is None else values[(self.names or {}).get(name, name)]]
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The four prompts, and their origin."""

    name: str
    extract: Prompt
    compare: Prompt
    recall: Prompt
    precision: Prompt
    as_list: bool = False
    """Whether the reference steps are inserted as the repr of a Python list."""


_STEPS = """Each entry has the keys "step" (the step in a few words), "step_type" and "judgment".
step_type is one of
"Video Description Steps": tells what can be seen, with its time;
"Logical Inference Steps": concludes one new thing;
"Background Review Steps": repeats the question, or adds nothing.
judgment is one of
{judgments}
Write nothing but the list, as JSON between a line ```json and a line ```."""

OURS = Prompts(
    name="our prompts",
    extract=Prompt(
        "Below are a question about a video and what somebody answered. Find the final answer and write it alone, in as few words as it has.\n"
        "If the question has options, write the letter of the one that was meant. If the answer is a stretch of time, write its start and end\n"
        "in seconds, as [75, 90]. If it is a box, write its four numbers, as [10, 20, 110, 220]. If there is no final answer, write Z.\n\n"
        "The question: {question}\n\nWhat was answered: {response}"
    ),
    compare=Prompt(
        "Do these two answers to the question say the same? With options, a letter and that option's text are the same. Other units of the\n"
        "same quantity, and other words for the same thing, are the same; a part of the answer, or more than it, is not.\n"
        "Write 1 if they do and 0 if they do not, and nothing else.\n\n"
        "The question: {question}\n\nThe right answer: {answer}\n\nThe given answer: {extracted}"
    ),
    recall=Prompt(
        "Somebody reasoned about a question on a video. Below are also the steps of a right solution. Go through these steps in order,\n"
        "leaving none out, and say of each whether the reasoning contains it with all its details, or says something that it follows from.\n"
        + _STEPS.replace("{judgments}", '"Matched" (it is there) or "Unmatched" (it is not).')
        + "\n\nThe question: {question}\n\nThe right answer: {answer}\n\nThe reasoning: {response}\n\nThe right solution's steps: {reasoning}"
    ),
    precision=Prompt(
        "Somebody reasoned about a question on a video. Below are also the steps of a right solution. Cut the reasoning into single steps\n"
        "in order, at most 35, its final answer included, and judge each by the right solution. A time is right within 3 seconds;\n"
        "a description without one is wrong.\n"
        + _STEPS.replace(
            "{judgments}",
            '"Matched" (right by the solution, or sound and helpful),\n"Wrong" (against it) or "Redundant" (does not help, as background does not).',
        )
        + "\n\nThe question: {question}\n\nThe reasoning: {response}\n\nThe right solution's steps: {reasoning}"
    ),
)


def official_prompts(path: Path) -> Prompts:
    """The prompts of the data set's own `eval_code/prompt.py`. The file is parsed and never executed. Raises `ConfigError`."""
    try:
        content = Path(os.path.expanduser(path)).read_bytes()
        tree = ast.parse(content)
    except OSError as error:
        raise ConfigError(f"cannot read the judge prompts {path}: {error.strerror}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path} is not a Python file with judge prompts: {error}") from error
    texts: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts |= {target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)}
    made = {name: _prompt(path, texts, *parts) for name, parts in _OFFICIAL.items()}
    return Prompts(name=f"prompts of {path.name}, sha256 {hashlib.sha256(content).hexdigest()[:12]}", as_list=True, **made)


def _braced(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def _prompt(path: Path, texts: Mapping[str, str], before: str | None, main: str, names: Mapping[str, str]) -> Prompt:
    for name in filter(None, (before, main)):
        if name not in texts:
            raise ConfigError(f"{path} has no string {name}: pass VCR-Bench's eval_code/prompt.py")
    try:
        slots = {name for _, name, _, _ in string.Formatter().parse(texts[main]) if name is not None}
    except ValueError as error:
        raise ConfigError(f"{path}: {main} is not a valid template: {error}") from error
    if unknown := sorted(slots - names.keys()):
        raise ConfigError(f"{path}: {main} has unknown slots {_braced(unknown)}; allowed are {_braced(names)}")
    return Prompt(texts[main], texts[before] if before else "", dict(names))
