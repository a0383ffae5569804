"""Data sets of twenty records each in the official formats, about clips of the synthetic world, so that the embedded model can answer them.

Every set asks the same: three questions about each of six clips, and two about a video of which no frame can be decoded.
The right choice goes through all places. What is right is returned beside what is written, so that a test can count without any reader of ours.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from act2see.synthetic.questions import WORDINGS, Asked
from act2see.synthetic.world import COLOURS, PLACES, SHAPES, Actor, Clip
from made_up_sets import COUNT, write_csv, write_json, write_jsonl, write_parquet

VIDEOS = 7
BROKEN = VIDEOS - 1
"""The number of the video that cannot be decoded. The last two of the twenty records are about it."""


def _actor(shape: str, colour: str, place: str, start: float = 0.0, stop: float = 5.0) -> Actor:
    return Actor(shape, colour, place, 25.0, start, stop)


CLIPS = (
    # The square flashes between two of the frames that the model is given: it has to look.
    Clip(4.0, (_actor("star", "red", "top"), _actor("ring", "blue", "left"), _actor("square", "green", "right", 1.3, 1.8)), (40, 40, 60), 1),
    Clip(4.0, (_actor("circle", "white", "bottom"), _actor("cross", "purple", "middle")), (60, 40, 40), 2),
    Clip(4.0, (_actor("triangle", "yellow", "left"), _actor("circle", "cyan", "right")), (30, 50, 40), 3),
    Clip(4.0, (_actor("square", "blue", "middle"), _actor("ring", "green", "top")), (45, 45, 45), 4),
    Clip(4.0, (_actor("cross", "orange", "right"), _actor("star", "purple", "left")), (35, 30, 55), 5),
    Clip(4.0, (_actor("triangle", "red", "bottom"), _actor("square", "white", "left")), (50, 50, 30), 6),
)
_VALUES: dict[Asked, Sequence[str]] = {"colour": tuple(COLOURS), "shape": SHAPES, "place": tuple(PLACES)}


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a video, in the words of the world that the model was trained on."""

    number: int
    text: str
    asked: Asked
    answer: str
    thing: str
    """The whole thing in words: `a red star, top`."""

    @property
    def video(self) -> int:
        """The number of its video."""
        return self.number // 3

    def choices(self, count: int, turn: int = 0) -> list[str]:
        """The answer at a place that goes on with each question (and with `turn`), among the first other values."""
        made = [value for value in _VALUES[self.asked] if value != self.answer][: count - 1]
        made.insert((self.number + turn) % count, self.answer)
        return made


@dataclass(frozen=True, slots=True)
class Gold:
    """What a record's maker knows: the choices as a reader sees them, and the right one, or for an open question the right words."""

    choices: tuple[str, ...]
    answer: str | None
    """None where the data set's makers keep it."""
    kind: str
    is_broken: bool


def _question(number: int) -> Question:
    actors = CLIPS[number // 3 % len(CLIPS)].actors
    # Of the first clip the third question is about what flashes; the video that cannot be decoded is asked about as if it were the first.
    actor = actors[2] if number == 2 else actors[number % 3 % 2]
    asked: Asked = ("colour", "shape", "place")[(number + number // 3) % 3]
    answer = {"colour": actor.colour, "shape": actor.shape, "place": actor.place}[asked]
    text = WORDINGS[asked][number % 4].format(shape=actor.shape, colour=actor.colour)
    return Question(number, text, asked, answer, f"a {actor.colour} {actor.shape}, {actor.place}")


QUESTIONS = tuple(_question(number) for number in range(COUNT))


def write_clips(folder: Path) -> list[Path]:
    """The videos, by number; written once, since every set has copies of them."""
    paths = [folder / f"{number}.mp4" for number in range(VIDEOS)]
    for clip, path in zip(CLIPS, paths[:BROKEN], strict=True):
        clip.write(path)
    # The index is whole, so that the file opens as a video; what it points at is gone.
    whole = paths[0].read_bytes()
    start = whole.index(b"mdat") + 4
    stop = start - 8 + int.from_bytes(whole[start - 8 : start - 4], "big")
    paths[BROKEN].write_bytes(whole[:start] + bytes(stop - start) + whole[stop:])
    return paths


def _copy(clips: Sequence[Path], folder: Path, name: Callable[[int], str], count: int = VIDEOS) -> None:
    """The videos under the names that a set gives them. Where there are more than `VIDEOS`, each record has its own."""
    for number in range(count):
        path = folder / name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clips[number if count == VIDEOS else number // 3], path)


def _letter(choices: Sequence[str], answer: str) -> str:
    return "ABCDE"[choices.index(answer)]


def _gold(question: Question, count: int, kind: str, *, turn: int = 0) -> Gold:
    return Gold(tuple(question.choices(count, turn)), question.answer, kind, question.video == BROKEN)


# Video-MME


def _rows_of_video_mme() -> list[dict[str, Any]]:
    """Three questions a video, as the Hub's table has them."""
    return [
        {
            "video_id": f"{one.video + 1:03d}",
            "duration": ("short", "medium", "long")[one.video % 3],
            "domain": ("Knowledge", "Life Record")[one.video % 2],
            "sub_category": ("Astronomy", "Handicraft")[one.video % 2],
            "url": "https://example.org/never-opened",
            "videoID": f"made-up-{one.video}",
            "question_id": f"{one.video + 1:03d}-{one.number % 3 + 1}",
            "task_type": ("Counting Problem", "Spatial Perception")[one.number % 2],
            "question": one.text,
            "options": [f"{letter}. {choice}" for letter, choice in zip("ABCD", one.choices(4), strict=True)],
            "answer": _letter(one.choices(4), one.answer),
        }
        for one in QUESTIONS
    ]


def _video_mme(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    rows = _rows_of_video_mme()
    write_parquet(folder / "videomme" / "test-00000-of-00001.parquet", rows)
    _copy(clips, folder / "data", "made-up-{}.mp4".format)
    return {row["question_id"]: _gold(one, 4, row["task_type"]) for one, row in zip(QUESTIONS, rows, strict=True)}


def _video_mme_json(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    """The official results' form: a list of videos, each with its questions."""
    golds = _video_mme(folder, clips)
    shutil.rmtree(folder / "videomme")
    about = ("video_id", "duration", "domain", "sub_category", "videoID", "url")
    videos: dict[str, dict[str, Any]] = {}
    for row in _rows_of_video_mme():
        video = videos.setdefault(row["video_id"], {name: row[name] for name in about} | {"questions": []})
        video["questions"].append({name: value for name, value in row.items() if name not in about})
    write_json(folder / "test.json", list(videos.values()))
    return golds


def _video_mme_with_subtitles(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    golds = _video_mme(folder, clips)
    (folder / "subtitle").mkdir()
    for number in range(VIDEOS - 2):  # as in the original, not every video has some
        lines = f"1\n00:00:00,500 --> 00:00:01,500\nThis is clip {number}.\n\n2\n00:00:02,000 --> 00:00:03,000\n<i>Look!</i>\n"
        (folder / "subtitle" / f"made-up-{number}.srt").write_text(lines, encoding="utf-8")
    return golds


# VideoEspresso and ViTIB


def _rows_of_espresso() -> list[dict[str, Any]]:
    """Fourteen tasks of unequal size."""
    return [
        {
            "question": one.text,
            "answer": one.thing,
            "evidence": f"<obj_start>{one.thing} in image 1<obj_end><box_start>[[1, 2, 30, 40]]<box_end>",
            "task": f"Task {min(one.number, 13)}",
            "correct_answer": f"({_letter(one.choices(4), one.answer)})",
            "video_path": f"all_video/Made/{one.video}.mp4",
            "options": [f"({letter}): {choice} " for letter, choice in zip("ABCD", one.choices(4), strict=True)],
        }
        for one in QUESTIONS
    ]


def _golds_of_espresso(name: str) -> dict[str, Gold]:
    return {f"{name}-{one.number + 1:05d}": _gold(one, 4, f"Task {min(one.number, 13)}") for one in QUESTIONS}


def _videoespresso(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    write_json(folder / "bench_hard.json", _rows_of_espresso())
    _copy(clips, folder / "all_video" / "Made", "{}.mp4".format)
    return _golds_of_espresso("videoespresso")


def _vitib(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    rows = [row | {"key_video_path": row["video_path"].replace("all_video", "key_video")} for row in _rows_of_espresso()]
    write_jsonl(folder / "src" / "vitcot_data.jsonl", rows)
    _copy(clips, folder / "src" / "all_video" / "Made", "{}.mp4".format)
    return _golds_of_espresso("vitib")


# EgoNormia


def _egonormia(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    """Three questions a record. One option in five is empty, not always the last, and at every tenth record it is the right one."""
    rows: dict[str, dict[str, Any]] = {}
    golds: dict[str, Gold] = {}
    for one in QUESTIONS:
        name, right = f"clip-{one.number}", one.number % 5
        things = one.choices(5)
        empty = right if one.number % 10 == 9 else (right + 2) % 5
        behaviours, justifications = ([form.format(thing) for thing in things] for form in ("Point at {}.", "Because of {}."))
        behaviours[empty] = justifications[empty] = ""
        sensible = [] if empty == right else sorted({right, (right + 1) % 5})
        rows[name] = {
            "id": name,
            "behaviors": behaviours,
            "justifications": justifications,
            "correct": right,
            "sensibles": sensible,
            "taxonomy": {str(at): ["Safety"] for at in range(5)},
            "desc": one.thing,
        }
        for kind, options in (("behaviour", behaviours), ("justification", justifications)):
            read = tuple(option or "None" for option in options)
            golds[f"{name}/{kind}"] = Gold(read, read[right], kind, one.video == BROKEN)
        golds[f"{name}/sensible"] = Gold((), str([at + 1 for at in sensible]), "sensible", one.video == BROKEN)
    write_json(folder / "final_data.json", rows)
    _copy(clips, folder / "video", "clip-{}/video_prev.mp4".format, COUNT)
    return golds


# VCR-Bench

DIMENSIONS = (
    "Fundamental Temporal Reasoning",
    "Video Temporal Counting",
    "Video Temporal Grounding",
    "Video Knowledge Reasoning",
    "Temporal Spatial Reasoning",
    "Video Plot Analysis",
    "Temporal Spatial Grounding",
)


def _vcr_bench(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    """Seven dimensions: two of them ask for times and for boxes, the others with options and without in turn."""
    rows, golds = [], {}
    for one in QUESTIONS:
        dimension = DIMENSIONS[one.number % 7]
        text, answer, options = one.text, f"It is {one.thing}.", []
        if dimension == "Video Temporal Grounding":
            text, answer = f"When is {one.thing} there?", "[0, 4]"
        elif dimension == "Temporal Spatial Grounding":
            text, answer = f"Where is the box around {one.thing}?", "[103, 23, 153, 73]"
        elif one.number % 3 < 2:
            options = one.choices(4)
            answer = _letter(options, one.answer)
            text += "".join(f"{letter}. {choice}\n" for letter, choice in zip("ABCD", options, strict=True))
        rows.append(
            {
                "id": one.number,
                "video_path": f"video/made/{one.video}.mp4",
                "duration": (60, 300, 300.5)[one.video % 3],
                "dimension": dimension,
                "question": text,
                "multiple-choice": bool(options),
                "choices": dict(zip("ABCD", options or [""] * 4, strict=True)),
                "answer": answer,
                "reasoning": [f"1. 0:00-0:04, there is {one.thing}.", "2. So it is that."],
            }
        )
        golds[str(one.number)] = Gold(tuple(options), one.answer if options else answer, dimension, one.video == BROKEN)
    write_json(folder / "meta_info_video.json", rows)
    _copy(clips, folder / "video" / "made", "{}.mp4".format)
    return golds


# The others


def _minerva(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    rows: list[dict[str, Any]] = [
        {
            "key": f"made-up-{one.video:03d}:{one.number}",
            "video_id": f"made-up-{one.video:03d}" if one.number % 2 else f"https://www.youtube.com/watch?v=made-up-{one.video:03d}",
            "question": one.text,
            "answer": one.answer,
            **{f"answer_choice_{at}": choice for at, choice in enumerate(one.choices(5))},
            "answer_id": one.number % 5,
            "reasoning": f"At 00:01 there is {one.thing}.",
            "question_type": "Counting, Temporal Reasoning",
            "split": ("Sports & Board Games", "Short Films")[one.number % 2],
            "category": "Soccer",
        }
        for one in QUESTIONS
    ]
    write_json(folder / "minerva.json", rows)
    _copy(clips, folder / "videos", "made-up-{:03d}.mp4".format)
    return {row["key"]: _gold(one, 5, row["split"]) for one, row in zip(QUESTIONS, rows, strict=True)}


def _causalvqa(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    """Each question twice, the choices in another order. In the original they are also in other words, which the embedded model would not know."""
    rows: list[dict[str, Any]] = []
    golds: dict[str, Gold] = {}
    for one in QUESTIONS:
        kind = ("Anticipation", "Counterfactual")[one.number % 2]
        sides = (one.choices(5), one.choices(5, turn=2))
        row = {"qid": f"pair-{one.number}", "type": kind, "question": one.text}
        for side, choices in enumerate(sides, start=1):
            row[f"choices{side}"] = "|".join(f"{at}. {choice}" for at, choice in enumerate(choices, start=1))
            right = (one.number + 2 * (side - 1)) % 5
            row[f"correct{side}"] = str(right + 1)
            golds[f"pair-{one.number}/{side}"] = Gold(tuple(choices), choices[right], kind.lower(), one.video == BROKEN)
        rows.append(row | {"difficulty": ("easy", "hard")[one.number // 2 % 2], "renamed_video": f"made_up_{one.video:04d}.mp4"})
    write_csv(folder / "debug" / "metadata.csv", rows)
    _copy(clips, folder / "debug" / "videos", "made_up_{:04d}.mp4".format)
    return golds


def _social_genome(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    """Without answers, as they are published."""
    rows = [
        {
            "qid": f"made-up-{one.video}_q{one.number}_0",
            "q": one.text,
            "vid_name": f"made-up-{one.video}",
            "ts": "0.00-60.019000",
            **{f"a{at}": choice for at, choice in enumerate(one.choices(4))},
        }
        for one in QUESTIONS
    ]
    write_json(folder / "qa_test.json", rows)
    _copy(clips, folder / "videos", "made-up-{}.mp4".format)
    return {row["qid"]: Gold(tuple(one.choices(4)), None, "social", one.video == BROKEN) for one, row in zip(QUESTIONS, rows, strict=True)}


def _jsonl(folder: Path, clips: Sequence[Path]) -> dict[str, Gold]:
    rows: list[dict[str, Any]] = [
        {
            "id": f"q{one.number}",
            "video": f"clips/{one.video}.mp4",
            "question": one.text,
            "choices": one.choices(3),
            "answer": one.answer,
            "source": ("shapes", "colours")[one.number % 2],
            "licence": "CC0-1.0",
        }
        for one in QUESTIONS
    ]
    write_jsonl(folder / "questions.jsonl", rows)
    _copy(clips, folder / "clips", "{}.mp4".format)
    return {row["id"]: _gold(one, 3, row["source"]) for one, row in zip(QUESTIONS, rows, strict=True)}


SETS: dict[str, Callable[[Path, Sequence[Path]], dict[str, Gold]]] = {
    "video-mme": _video_mme,
    "video-mme json": _video_mme_json,
    "video-mme subtitles": _video_mme_with_subtitles,
    "videoespresso": _videoespresso,
    "vitib": _vitib,
    "egonormia": _egonormia,
    "vcr-bench": _vcr_bench,
    "minerva": _minerva,
    "causalvqa": _causalvqa,
    "social-genome": _social_genome,
    "jsonl": _jsonl,
}
"""What writes a set into a folder, with copies of the clips, and tells what is right by the id that each question must get.

The first word of a name is the benchmark's.
"""
