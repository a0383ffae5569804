"""The synthetic world as a data set: questions with human-like reasoning about real mp4 files, in two splits that share no clip."""

import hashlib
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from act2see.synthetic.questions import WORDINGS, Kind, Look, Question, ask, explain
from act2see.synthetic.world import UNSEEN_PAIRS, Clip, make_clip
from act2see.trace import Retrieve, Thought

Split = Literal["train", "held-out"]
KINDS: tuple[Kind, ...] = ("static", "transient")
CLIPS, QUESTIONS = "clips", "questions.jsonl"


@dataclass(frozen=True, slots=True)
class Item:
    """One clip with one question. `index` and the data set's seed and split make it; nothing else does."""

    index: int
    clip: Clip
    question: Question
    reasoning: str

    @property
    def is_unseen_pair(self) -> bool:
        """Whether the question asks about a colour on a shape that training never shows."""
        return (self.question.actor.colour, self.question.actor.shape) in UNSEEN_PAIRS


def items(split: Split, count: int, seed: int = 0) -> Iterator[Item]:
    """`count` items, static and transient in turn. Held-out clips have random numbers of their own, and may show the unseen pairs."""
    for index in range(count):
        rng = random.Random(f"{split} {seed} {index}")
        # Drawn before the clip: what can be asked about a clip tells something of what is in it.
        asked = rng.choice(tuple(WORDINGS))
        while True:
            clip = make_clip(rng, unseen=split == "held-out")
            wanted = [question for question in ask(rng, clip) if question.kind == KINDS[index % len(KINDS)] and question.asked == asked]
            if wanted:
                break
        yield Item(index, clip, wanted[0], _told(rng, clip, wanted[0]))


def _told(rng: random.Random, clip: Clip, question: Question) -> str:
    """The scripted teacher's reasoning as plain text: what a person who saw the whole clip might write."""
    steps = explain(rng, clip, question, [Look(question.could_see[0])])
    words = [step.text if isinstance(step, Thought) else f" ({step.query.strip()})" for step in steps if isinstance(step, Thought | Retrieve)]
    return "".join(words).removeprefix("<think>").removesuffix("</think>")


def write(folder: Path, split: Split, count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Write clips and `questions.jsonl` into a folder, yielding each record; what is already there is kept, so an interrupted call can be repeated.

    A record: id, video (relative to the folder), question, choices, answer (a choice's text), kind, asked, reasoning, unseen_pair, visible_seconds.
    """
    (folder / CLIPS).mkdir(parents=True, exist_ok=True)
    records = []
    for item in items(split, count, seed):
        # The file's name tells what is in it: a clip that an older version of the world left behind is never taken for this one.
        content = hashlib.sha256(repr(item.clip).encode()).hexdigest()[:10]
        name = f"{split}-{seed}-{item.index:05d}"
        path = folder / CLIPS / f"{name}-{content}.mp4"
        if not path.exists():
            unfinished = path.with_name(f".{name}.{os.getpid()}.mp4")
            item.clip.write(unfinished)
            unfinished.replace(path)
        records.append({"id": name, "video": f"{CLIPS}/{path.name}", **_record(item)})
        yield records[-1]
    text = "".join(json.dumps(record) + "\n" for record in records)
    unfinished = folder / f".{QUESTIONS}.{os.getpid()}"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(folder / QUESTIONS)


def _record(item: Item) -> dict[str, Any]:
    question = item.question
    visible = [question.actor.start, min(question.actor.stop, item.clip.duration_seconds)]
    return {
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.answer,
        "kind": question.kind,
        "asked": question.asked,
        "reasoning": item.reasoning,
        "unseen_pair": item.is_unseen_pair,
        "visible_seconds": [round(seconds, 3) for seconds in visible],
    }
