"""Odd videos through `retrieve` and `ask`: the right frame with its time and colour, or one line that says what is wrong with the file."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from attacking.bad_videos import damaged, no_videos, odd_names, places
from attacking.clips import RED
from attacking.fakes import as_text, mean_colour
from attacking.good_videos import codecs, colours, shapes, times
from attacking.harness import Ended, Item, act2see, act2see_process, faults
from attacking.right import Either, Found, Makes, Refused, Right

FLAGS = ("--retriever", "attacking.fakes:Colours", "--retrieve-fps", "10", "--select", "argmax", "--json")


def items(seed: int) -> list[Item]:
    """All of them."""
    cases = [*codecs(), *shapes(), *times(), *colours(), *no_videos(), *places(), *odd_names(), *damaged(seed)]
    found = [Item(name, _attack(make, right)) for name, make, right in cases]
    sample = [case for number, case in enumerate(cases) if number % 25 == 7]
    found += [Item(f"{name}, in a process of its own", _attack(make, right, process=True), limit_seconds=240) for name, make, right in sample]
    return [*found, *(Item(f"{name}, by the embedded models", _embedded(make), limit_seconds=120) for name, make, _ in cases if name in _EMBEDDED)]


# What is right


def _attack(make: Makes, right: Right, *, process: bool = False) -> Callable[[Path], list[str]]:
    def attack(folder: Path) -> list[str]:
        made = make(folder)
        if isinstance(made, Path) and not os.path.lexists(made):
            return [f"the attack itself failed: there is no {made}"]
        run = act2see_process if process else act2see
        query = as_text(right.colour if isinstance(right, Found) and right.colour else RED)
        found = run("retrieve", made, query, *FLAGS, "--out", folder / "frames")
        asked = run("ask", made, query, *FLAGS, "--backend", "attacking.fakes:Witness", "--generator", "none")
        codes = {Found: (0,), Refused: (1,), Either: (0, 1)}[type(right)]
        said = right.says if not isinstance(right, Either) else None
        wrong = [*faults(found, codes, said), *(f"ask: {one}" for one in faults(asked, codes, said, steps=True))]
        if found.code != asked.code and not isinstance(right, Either):
            wrong.append(f"retrieve ends with {found.code}, ask with {asked.code}")
        if isinstance(right, Found) and not wrong:
            wrong = [*_frame_is_right(found, right), *_answer_is_right(asked, right)]
        elif found.code == 1 and found.out:
            wrong.append("an error, and something on stdout")
        return wrong

    return attack


def _frame_is_right(ended: Ended, right: Found) -> list[str]:
    frame = json.loads(ended.out)["frames"][0]
    wrong = []
    with Image.open(frame["file"]) as picture:
        colour, size = mean_colour(picture.convert("RGB")), picture.size
    if frame["frame_index"] not in right.frames:
        wrong.append(f"frame {frame['frame_index']} where {right.frames} is right")
    if right.seconds is not None and not right.seconds[0] - 0.051 <= frame["seconds"] < right.seconds[1]:
        wrong.append(f"{frame['seconds']} s where {right.seconds} is right")
    if right.colour is not None and not _alike(colour, right.colour, right.tolerance):
        wrong.append(f"colour {colour} where {right.colour} is right")
    if right.size is not None and size != right.size:
        wrong.append(f"{size} pixels where {right.size} is right")
    return wrong


def _answer_is_right(ended: Ended, right: Found) -> list[str]:
    answer = json.loads(ended.out)["answer"]
    colour = tuple(int(part) for part in answer.partition("then ")[2].split()) if "nothing" not in answer else None
    if right.colour is not None and (colour is None or not _alike(colour, right.colour, right.tolerance)):
        return [f"ask: {answer!r} where {right.colour} is right"]
    return []


def _alike(one: Sequence[int], other: Sequence[int], tolerance: int) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


_EMBEDDED = ("1x1 pixels", "4096x16 pixels", "libx264 in .mp4", "one frame", "pictures that change their size")


def _embedded(make: Makes) -> Callable[[Path], list[str]]:
    """The embedded models know no such video: an answer, one line, or no answer."""

    def attack(folder: Path) -> list[str]:
        made = make(folder)
        asked = act2see("ask", made, "What colour is the star?", "--choices", "red", "blue", "--json")
        found = act2see("retrieve", made, "the red star", "--json")
        return [*faults(asked, (0, 1, 3), steps=True), *faults(found, (0, 1, 3))]

    return attack
