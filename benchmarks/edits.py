"""How often the embedded generator, or another one, makes the right picture, and whether the check tells right pictures from wrong ones.

    python benchmarks/edits.py [--n 200] [--seed 0] [--generator DIR] [--strength 0.25] [--judge micro]

Held-out pictures of the synthetic world are edited; what became of them is read from the pixels by drawing what could be there. For each kind: the
share that is right where it changed (for removals that is `cleared`), whose old place is clear, and of all other shapes that are what they were.
`gain_auc` is of the encoder's gain, over the world's own drawings of the right edit and of the unedited or otherwise edited picture: 0.5 is chance.
"""

import argparse
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from act2see import registry
from act2see.generators.diffusion import DiffusionPainter, DiffusionSettings
from act2see.synthetic.edits import EDITS, Edit, apply, prompt_of, random_edit
from act2see.synthetic.judging import judge
from act2see.synthetic.world import Clip, make_scene


def main() -> None:
    """Measure and print a line of JSON a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generator", default=str(registry.MICRO / "generator"))
    parser.add_argument("--strength", type=float, default=0.25)
    parser.add_argument("--judge", default="micro")
    given = parser.parse_args()
    painter = DiffusionPainter.load(DiffusionSettings(model=given.generator))
    encoder = registry.encoder(given.judge)
    for kind in EDITS:
        rng = random.Random(f"held-out edits {given.seed} {kind.__name__}")
        found, right, wrong = [], [], []
        for number, (clip, seconds, edit, edited) in zip(range(given.n), _edits(rng, kind), strict=False):
            prompt, source = prompt_of(edit, rng), clip.draw(seconds)
            picture = painter.paint(prompt, source, seed=number, strength=given.strength)
            found.append(judge(edit, clip, edited, seconds, picture))
            frames = encoder.encode_frames([source, edited.draw(seconds), _other(rng, clip, seconds, edit).draw(seconds)])
            before, good, bad = encoder.scores(frames, encoder.encode_text(prompt))
            right.append(good - before)
            wrong.append(bad - before)
        print(json.dumps({"kind": kind.__name__, **_shares(found), "gain_auc": _auc(right, wrong)}), flush=True)


def _edits(rng: random.Random, kind: type[Edit]) -> Iterator[tuple[Clip, float, Edit, Clip]]:
    while True:
        clip = make_scene(rng, unseen=True)
        seconds = rng.uniform(0, clip.duration_seconds - 0.05)
        edit = random_edit(rng, clip, seconds, kind, unseen=True)
        if edit is not None and (edited := apply(edit, clip, seconds)) is not None:
            yield clip, seconds, edit, edited


def _other(rng: random.Random, clip: Clip, seconds: float, edit: Edit) -> Clip:
    """The clip with another edit, or as it is."""
    other = random_edit(rng, clip, seconds, rng.choice(EDITS), unseen=True) if rng.random() < 0.6 else None
    return (apply(other, clip, seconds) if other not in (None, edit) and other is not None else None) or clip


def _shares(found: list[Any]) -> dict[str, float]:
    count = len(found)
    return {
        "n": count,
        "right": round(sum(one.done for one in found) / count, 4),
        "cleared": round(sum(one.cleared for one in found) / count, 4),
        "kept": round(sum(one.kept for one in found) / max(1, sum(one.others for one in found)), 4),
    }


def _auc(right: list[float], wrong: list[float]) -> float:
    one, other = np.array(right)[:, None], np.array(wrong)[None]
    return round(float(((one > other) + 0.5 * (one == other)).mean()), 4)


if __name__ == "__main__":
    main()
