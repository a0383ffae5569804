"""How often the embedded generator, or another one, makes the right picture, and whether the check tells right pictures from wrong ones.

    python benchmarks/edits.py [--n 200] [--seed 0] [--generator DIR] [--strength 0.25] [--encoder micro] [--model micro]

Held-out pictures of the synthetic world are edited; what became of them is read from the pixels by drawing what could be there. For each kind: the
share that is right where it changed, whose old place is clear, and of all other shapes that are what they were.
The two checks see the world's own drawings of the right edit, and of the picture unedited or edited otherwise: `gain_auc` is of the encoder's gain
(0.5 is chance); `yes_to_right` and `no_to_wrong` are of a model that is asked whether the picture shows the prompt, `asked_auc` is their mean. Of the
generator's own pictures the model takes the share `passed`, of which `right_of_passed` are right.
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from act2see import registry
from act2see.config import ModelConfig
from act2see.core.interfaces import FrameEncoder
from act2see.synthetic.edits import EDITS, Edit, apply, prompt_of, random_edit
from act2see.synthetic.judging import Judged, judge
from act2see.synthetic.world import Clip, make_scene
from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings
from act2see.tools.generators.vlm_judge import ModelJudge


def main() -> None:
    """Measure and print a line of JSON a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generator", default=str(registry.MICRO / "generator"))
    parser.add_argument("--strength", type=float, default=0.25)
    parser.add_argument("--encoder", default="micro", help="retriever, or none")
    parser.add_argument("--model", default="micro", help="backend, or none")
    given = parser.parse_args()
    painter = DiffusionPainter.load(DiffusionSettings(model=given.generator))
    checks = Checks(
        None if given.encoder == "none" else registry.encoder(given.encoder),
        None if given.model == "none" else ModelJudge(registry.backend(given.model, ModelConfig(greedy=True))),
    )
    for kind in EDITS:
        rng = random.Random(f"held-out edits {given.seed} {kind.__name__}")
        found, checked = [], []
        for number, (clip, seconds, edit, edited) in zip(range(given.n), _edits(rng, kind), strict=False):
            prompt, source = prompt_of(edit, rng), clip.draw(seconds)
            other = _other(rng, clip, seconds, edit)
            picture = painter.paint(prompt, source, seed=number, strength=given.strength)
            found.append(judge(edit, clip, edited, seconds, picture))
            checked.append(checks.check(prompt, source, edited.draw(seconds), other.draw(seconds), picture))
        print(json.dumps({"kind": kind.__name__, **_shares(found), **_checks(checked, [_is_right(one) for one in found])}), flush=True)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks say of one edit: the encoder's gain of the right and the wrong drawing, the model's verdicts on both and on the painted."""

    gains: tuple[float, float] | None
    verdicts: tuple[bool, bool, bool] | None


@dataclass(frozen=True, slots=True)
class Checks:
    """The two ways to check a picture."""

    encoder: FrameEncoder | None
    model: ModelJudge | None

    def check(self, prompt: str, source: Image.Image, right: Image.Image, wrong: Image.Image, painted: Image.Image) -> Checked:
        """Both checks of one edit."""
        gains = verdicts = None
        if self.encoder:
            frames = self.encoder.encode_frames([source, right, wrong])
            before, good, bad = (float(score) for score in self.encoder.scores(frames, self.encoder.encode_text(prompt)))
            gains = good - before, bad - before
        if self.model:
            says = [self.model.judge(prompt, source, picture).passes for picture in (right, wrong, painted)]
            verdicts = says[0], says[1], says[2]
        return Checked(gains, verdicts)


def _is_right(judged: Judged) -> bool:
    return judged.done and judged.cleared


def _checks(checked: list[Checked], right: list[bool]) -> dict[str, float]:
    result: dict[str, float] = {}
    gains = [one.gains for one in checked if one.gains]
    if gains:
        result["gain_auc"] = _auc([good for good, _ in gains], [bad for _, bad in gains])
    verdicts = [one.verdicts for one in checked if one.verdicts]
    if verdicts:
        yes, no = (sum(one[place] for one in verdicts) / len(verdicts) for place in (0, 1))
        passed = [is_right for one, is_right in zip(verdicts, right, strict=True) if one[2]]
        result |= {
            "yes_to_right": round(yes, 4),
            "no_to_wrong": round(1 - no, 4),
            "asked_auc": round((yes + 1 - no) / 2, 4),
            "passed": round(len(passed) / len(verdicts), 4),
            "right_of_passed": round(sum(passed) / max(1, len(passed)), 4),
        }
    return result


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
