"""Made-up data sets in each official format, with tiny clips of the synthetic world: questions of our own, no official text."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from act2see.core.trace import Answer, Trace
from act2see.synthetic.world import Clip

COLOURS = ("red", "green", "blue", "yellow", "white")
COUNT = 20


def clip(path: Path) -> Path:
    """Half a second of an empty world, at a path whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Clip(0.5, ()).write(path)
    return path


def answered(id: str, text: str | None, choices: tuple[str, ...] = ()) -> Trace:
    """A trace that ended with this answer, or without one."""
    steps = [] if text is None else [Answer(text)]
    return Trace(id, "clip.mp4", "?", (), choices=choices, steps=[*steps], finish="end" if text is None else "answer")


def turned(number: int, count: int) -> list[str]:
    """`count` colours, beginning with another one at each number: the right choice is always red."""
    return [COLOURS[(number + at) % count] for at in range(count)]


def rows_of_video_mme() -> list[dict[str, Any]]:
    """As the Hub's table has them: four questions a video."""
    return [
        {
            "video_id": f"{number // 4 + 1:03d}",
            "duration": ("short", "medium", "long")[number % 3],
            "domain": ("Knowledge", "Multilingual")[number % 2],
            "sub_category": ("Astronomy", "Multilingual")[number % 2],
            "url": "https://example.org/never-opened",
            "videoID": f"made-up-{number // 4}",
            "question_id": f"{number // 4 + 1:03d}-{number % 4 + 1}",
            "task_type": ("Counting Problem", "OCR Problems")[number % 2],
            "question": f"Which colour is meant by {number}?",
            "options": [f"{letter}. {colour.title()}." for letter, colour in zip("ABCD", turned(number, 4), strict=True)],
            "answer": "ABCD"[turned(number, 4).index("red")],
        }
        for number in range(COUNT)
    ]


def rows_of_espresso() -> list[dict[str, Any]]:
    """Fourteen tasks, of unequal size."""
    return [
        {
            "question": f"Which colour is meant by {number}?",
            "answer": "red",
            "evidence": "a <obj_start>thing<obj_end><box_start>[[1, 2, 3, 4]]<box_end>",
            "task": f"Task {min(number, 13)}",
            "correct_answer": f"({'ABCD'[turned(number, 4).index('red')]})",
            "video_path": f"all_video/Made/{number % 5}.mp4",
            "options": [f"({letter}): {colour} " for letter, colour in zip("ABCD", turned(number, 4), strict=True)],
        }
        for number in range(COUNT)
    ]


def rows_of_egonormia() -> dict[str, dict[str, Any]]:
    """Five behaviours and justifications; one of them is empty, not always the last."""
    rows = {}
    for number in range(COUNT):
        behaviours = [f"do {colour}" for colour in turned(number, 5)]
        justifications = [f"because of {colour}" for colour in turned(number, 5)]
        empty = behaviours.index("do white")
        behaviours[empty] = justifications[empty] = ""
        right = empty if number % 10 == 9 else behaviours.index("do red")
        rows[f"clip-{number}"] = {
            "id": f"clip-{number}",
            "behaviors": behaviours,
            "justifications": justifications,
            "correct": right,
            "sensibles": [] if number % 10 == 9 else sorted({right, behaviours.index("do green")}),
            "taxonomy": {str(at): ["Safety", "Politeness"] for at in range(5)},
            "desc": "an empty world",
        }
    return rows


def rows_of_vcr_bench() -> list[dict[str, Any]]:
    """Options, intervals, boxes and open questions in turn."""
    rows = []
    for number in range(COUNT):
        options = dict(zip("ABCD", turned(number, 4), strict=True))
        inline = "".join(f"{letter}. {option}\n" for letter, option in options.items())
        form = number % 4
        rows.append(
            {
                "id": number,
                "video_path": f"video/made/{number % 5}.mp4",
                "duration": (60, 300, 301.5)[number % 3],
                "dimension": ("Video Plot Analysis", "Temporal Grounding", "Spatial Grounding", "Knowledge")[form],
                "question": (f"Which colour is meant by {number}?{inline}", "When is it red?", "Where is it red?", "Why is it red?")[form],
                "multiple-choice": form == 0,
                "choices": options if form == 0 else dict.fromkeys("ABCD", ""),
                "answer": ("ABCD"[turned(number, 4).index("red")], "[10, 20]", "[10, 10, 110, 110]", "Because of the light.")[form],
                "reasoning": ["1. 0:03-0:10, a light turns red.", "2. Therefore it is red."],
            }
        )
    return rows


def rows_of_minerva() -> list[dict[str, Any]]:
    """Five options; ids and addresses of videos in turn."""
    return [
        {
            "key": f"made-up-{number % 5:03d}:{number}",
            "video_id": f"made-up-{number % 5:03d}" if number % 2 else f"https://www.youtube.com/watch?v=made-up-{number % 5:03d}&t=3s",
            "question": f"Which colour is meant by {number}?",
            "answer": "red",
            **{f"answer_choice_{at}": colour for at, colour in enumerate(turned(number, 5))},
            "answer_id": turned(number, 5).index("red"),
            "reasoning": "At 00:01 it is red.",
            ("question_type" if number % 3 else "question type"): "Counting, Temporal Reasoning",
            "split": ("Sports", "Short Films")[number % 2],
            "category": "Soccer",
        }
        for number in range(COUNT)
    ]


def rows_of_causalvqa() -> list[dict[str, Any]]:
    """Ten pairs; numbers as a table with gaps would write them."""
    rows = []
    for number in range(COUNT // 2):
        first, second = turned(number, 5), turned(number + 1, 5)
        rows.append(
            {
                "qid": f"pair-{number}",
                "type": ("Anticipation", "counterfactual")[number % 2],
                "question": f"Which colour, said as {number}, follows?",
                "choices1": "|".join(f"{at}. It is {colour}." for at, colour in enumerate(first, start=1)),
                "correct1": first.index("red") + 1,
                "choices2": "|".join(f"{at}. {colour} it is." for at, colour in enumerate(second, start=1)),
                "correct2": f"{second.index('red') + 1}.0",
                "difficulty": ("easy", "Hard")[number % 2],
                "renamed_video": f"made-up-{number % 3}.mp4",
            }
        )
    return rows


def rows_of_jsonl() -> list[dict[str, Any]]:
    """Our own format, reasoning and licence on some lines."""
    return [
        {
            "id": f"q{number}",
            "video": f"clips/{number % 3}.mp4",
            "question": f"Which colour is meant by {number}?",
            "choices": turned(number, 3),
            "answer": "red",
            **({"reasoning": "It is red.", "source": "ours", "licence": "CC0-1.0"} if number % 2 else {}),
        }
        for number in range(COUNT)
    ]


def rows_of_social_genome() -> list[dict[str, Any]]:
    """Without answers, as they are published."""
    return [
        {
            "qid": f"made-up_q{number}",
            "q": f"Which colour is meant by {number}?",
            "vid_name": f"made-up-{number % 5}",
            "ts": "0.00-60.0",
            **{f"a{at}": colour for at, colour in enumerate(turned(number, 4))},
        }
        for number in range(COUNT)
    ]


def write_json(path: Path, value: Any) -> Path:
    """A JSON file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
    return path


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A line a row, the folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A table with its names in the first line, the folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A table as the Hub stores it, the folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def _video_mme(folder: Path) -> None:
    write_parquet(folder / "videomme" / "test-00000-of-00001.parquet", rows_of_video_mme())
    for number in range(COUNT // 4):
        clip(folder / "data" / f"made-up-{number}.mp4")


def _videoespresso(folder: Path) -> None:
    write_json(folder / "bench_hard.json", rows_of_espresso())
    for number in range(5):
        clip(folder / "all_video" / "Made" / f"{number}.mp4")


def _vitib(folder: Path) -> None:
    rows = [{**row, "key_video_path": row["video_path"].replace("all_video", "key_video")} for row in rows_of_espresso()]
    write_jsonl(folder / "src" / "vitcot_data.jsonl", rows)
    for number in range(5):
        clip(folder / "src" / "all_video" / "Made" / f"{number}.mp4")


def _egonormia(folder: Path) -> None:
    write_json(folder / "final_data.json", rows_of_egonormia())
    for number in range(COUNT):
        clip(folder / "video" / f"clip-{number}" / "video_prev.mp4")


def _vcr_bench(folder: Path) -> None:
    write_json(folder / "meta_info_video.json", rows_of_vcr_bench())
    for number in range(5):
        clip(folder / "video" / "made" / f"{number}.mp4")


def _minerva(folder: Path) -> None:
    write_json(folder / "minerva.json", rows_of_minerva())
    for number in range(5):
        clip(folder / "videos" / f"made-up-{number:03d}.{'mp4' if number % 2 else 'mkv'}")


def _causalvqa(folder: Path) -> None:
    write_csv(folder / "debug" / "metadata.csv", rows_of_causalvqa())
    for number in range(3):
        clip(folder / "debug" / "videos" / f"made-up-{number}.mp4")


def _social_genome(folder: Path) -> None:
    write_json(folder / "qa_test.json", rows_of_social_genome())
    for number in range(5):
        clip(folder / "videos" / f"made-up-{number}.mp4")


def _jsonl(folder: Path) -> None:
    write_jsonl(folder / "questions.jsonl", rows_of_jsonl())
    for number in range(3):
        clip(folder / "clips" / f"{number}.mp4")


MAKERS: dict[str, Callable[[Path], None]] = {
    "video-mme": _video_mme,
    "videoespresso": _videoespresso,
    "vitib": _vitib,
    "egonormia": _egonormia,
    "vcr-bench": _vcr_bench,
    "minerva": _minerva,
    "causalvqa": _causalvqa,
    "social-genome": _social_genome,
    "jsonl": _jsonl,
}
"""What writes each data set into a folder, whole."""

QUESTIONS = dict.fromkeys(MAKERS, COUNT) | {"egonormia": 3 * COUNT}
