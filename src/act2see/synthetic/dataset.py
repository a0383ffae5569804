"""The synthetic data set: questions with human-like reasoning about mp4 files, in two splits without shared clips."""

import hashlib
import json
import os
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, assert_never, cast

from act2see.core.errors import StoreError
from act2see.core.trace import Frame, Generate, Retrieve, Step, Thought
from act2see.synthetic.edits import apply
from act2see.synthetic.hypothetical import GeneratedPicture, Hypothetical, ask_hypothetical, explain_hypothetical, is_unseen, seen
from act2see.synthetic.questions import WORDINGS, Look, Question, ask, explain
from act2see.synthetic.spot_questions import SpotKind, SpotQuestion, ask_spot, explain_spot
from act2see.synthetic.world import UNSEEN_PAIRS, Clip, make_clip

Split = Literal["train", "held-out"]
Kind = Literal["static", "transient", "hypothetical", "order", "flashes", "digit"]
KINDS: tuple[Kind, ...] = ("static", "transient")
"""The default kinds, which need no generator."""
CLIPS, QUESTIONS = "clips", "questions.jsonl"
_NAME = re.compile(r"(train|held-out)-(-?[0-9]{1,18})-(?:(hypothetical|order|flashes|digit)-)?([0-9]{5,9})")


@dataclass(frozen=True, slots=True)
class Item:
    """One clip with one question, determined by name, seed and split alone."""

    name: str
    clip: Clip
    question: Question | Hypothetical | SpotQuestion
    reasoning: str

    @property
    def is_unseen_pair(self) -> bool:
        """Whether the question is about a colour-shape pair that never occurs in training."""
        if isinstance(self.question, Hypothetical):
            return is_unseen(self.question)
        if isinstance(self.question, SpotQuestion):
            return any((actor.colour, actor.shape) in UNSEEN_PAIRS for actor in self.question.actors)
        return (self.question.actor.colour, self.question.actor.shape) in UNSEEN_PAIRS


@dataclass(frozen=True, slots=True)
class Place:
    """An item's position in the data set, which determines the item."""

    split: Split
    seed: int
    kind: Kind
    number: int
    """Index among the items of its kind, from 0."""

    @classmethod
    def of(cls, name: str) -> "Place | None":
        """The place of the item with this name; None for an invalid name."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        split: Split = "train" if match[1] == "train" else "held-out"
        seed, named, number = int(match[2]), cast("Kind | None", match[3]), int(match[4])
        place = cls(split, seed, KINDS[number % len(KINDS)], number // len(KINDS)) if named is None else cls(split, seed, named, number)
        return place if place.name == name else None

    @property
    def name(self) -> str:
        """The item's name: `train-0-00012`, `held-out-0-hypothetical-00003`, `train-0-digit-00001`."""
        if self.kind not in KINDS:
            return f"{self.split}-{self.seed}-{self.kind}-{self.number:05d}"
        return f"{self.split}-{self.seed}-{len(KINDS) * self.number + KINDS.index(self.kind):05d}"


def items(split: Split, count: int, seed: int = 0, kinds: Sequence[Kind] = KINDS) -> Iterator[Item]:
    """`count` items, with the kinds in turn. Held-out clips have their own random state and may show the unseen pairs.

    A question depends only on its kind and its index within that kind: the tenth static question is the same for any selection of kinds.
    """
    for number in range(count):
        yield item(Place(split, seed, kinds[number % len(kinds)], number // len(kinds)))


def item(place: Place) -> Item:
    """The item at a place."""
    match place.kind:
        case "static" | "transient":
            return _question(place)
        case "hypothetical":
            return _hypothetical(place)
        case "order" | "flashes" | "digit":
            return _spot_question(place, place.kind)
        case _:
            assert_never(place.kind)


def _question(place: Place) -> Item:
    split, kind = place.split, place.kind
    rng = random.Random(f"{split} {place.seed} {len(KINDS) * place.number + KINDS.index(kind)}")
    # Drawn before the clip: the questions that a clip allows leak information about its content.
    asked = rng.choice(tuple(WORDINGS))
    while True:
        clip = make_clip(rng, unseen=split == "held-out")
        wanted = [question for question in ask(rng, clip) if question.kind == kind and question.asked == asked]
        if wanted:
            break
    steps = explain(rng, clip, wanted[0], [Look(wanted[0].could_see[0])])
    return Item(place.name, clip, wanted[0], _reasoning(steps))


def _hypothetical(place: Place) -> Item:
    rng = random.Random(f"{place.split} {place.seed} hypothetical {place.number}")
    clip, question = ask_hypothetical(rng, unseen=place.split == "held-out")
    seconds = question.anchors[0]
    edited = apply(question.edit, clip, seconds)
    assert edited is not None
    steps = explain_hypothetical(rng, clip, question, GeneratedPicture(Frame(edited.draw(seconds), None), seen(edited, seconds)))
    return Item(place.name, clip, question, _reasoning(steps))


def _spot_question(place: Place, kind: SpotKind) -> Item:
    rng = random.Random(f"{place.split} {place.seed} {kind} {place.number}")
    clip, question = ask_spot(rng, kind, unseen=place.split == "held-out")
    return Item(place.name, clip, question, explain_spot(rng, question))


def _reasoning(steps: Sequence[Step]) -> str:
    """The scripted reasoning as plain text: what a person who saw the whole clip might write."""
    words = []
    for step in steps:
        match step:
            case Thought(text):
                words.append(text)
            case Retrieve(text) | Generate(text):
                words.append(f" ({text.strip()})")
            case _:
                pass
    return "".join(words).removeprefix("<think>").removesuffix("</think>")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # includes PyAV's errors, for instance on a full disk
        raise StoreError(f"cannot write clips to {folder}: {error.strerror or error}; give a writable folder with enough space") from error


class Record(TypedDict):
    """One line of `questions.jsonl`."""

    id: str
    video: str
    """Relative to the folder."""
    question: str
    choices: list[str]
    answer: str
    """The text of the right choice."""
    kind: str
    asked: str
    reasoning: str
    unseen_pair: bool
    visible_seconds: list[float]


def records(folder: Path, split: Split, count: int, seed: int = 0, kinds: Sequence[Kind] = KINDS) -> Iterator[Record]:
    """The records of `write`, without writing anything."""
    del folder
    for one in items(split, count, seed, kinds):
        yield _record(one)


def write(folder: Path, split: Split, count: int, seed: int = 0, kinds: Sequence[Kind] = KINDS) -> Iterator[Record]:
    """Write clips and `questions.jsonl` to a folder and yield each record. Existing clips are kept, so an interrupted call can be repeated."""
    with _writing(folder):
        (folder / CLIPS).mkdir(parents=True, exist_ok=True)
    done = []
    for one in items(split, count, seed, kinds):
        record = _record(one)
        path = folder / record["video"]
        if not path.exists():
            unfinished = path.with_name(f".{one.name}.{os.getpid()}.mp4")
            with _writing(folder):
                unfinished.unlink(missing_ok=True)  # writing would follow a symbolic link of this name
                one.clip.write(unfinished)
                unfinished.replace(path)
        done.append(record)
        yield record
    text = "".join(json.dumps(record) + "\n" for record in done)
    unfinished = folder / f".{QUESTIONS}.{os.getpid()}"
    with _writing(folder):
        unfinished.unlink(missing_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / QUESTIONS)


def _record(item: Item) -> Record:
    # The file name contains a digest of the content, so that a clip of an older version of the world is never mistaken for this one.
    content = hashlib.sha256(repr(item.clip).encode()).hexdigest()[:10]
    question = item.question
    if isinstance(question, Hypothetical):
        visible = [question.anchors[0], question.anchors[-1]]
    elif isinstance(question, SpotQuestion):
        visible = list(question.seconds)
    else:
        visible = [question.actor.start, min(question.actor.stop, item.clip.duration_seconds)]
    return {
        "id": item.name,
        "video": f"{CLIPS}/{item.name}-{content}.mp4",
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.answer,
        "kind": question.kind,
        "asked": question.asked,
        "reasoning": item.reasoning,
        "unseen_pair": item.is_unseen_pair,
        "visible_seconds": [round(seconds, 3) for seconds in visible],
    }
