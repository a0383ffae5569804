"""The first part of the embedded vision-language model's training: its vision part alone learns which shape of which colour lies over each patch.

From captions alone, which say of a whole picture that a star is in it, 1,400 batches were not enough to tell shapes apart; told for each patch, it is
a matter of minutes.
"""

import math
import random
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Qwen3VLForConditionalGeneration

from act2see.synthetic.world import COLOURS, SHAPES, SIZE, Actor, Clip, make_clip
from act2see.training.micro.model import PICTURE

CLIPS, MOMENTS = 32, 4
"""A batch holds so many moments of so many clips: drawing a clip's first picture takes four times as long as another of its."""


def things_over(clip: Clip, seconds: float, count: int) -> list[Actor | None]:
    """For each of `count` × `count` equal parts of the picture, row by row, the shape that lies over its middle."""
    there = [(*actor.centre(seconds), actor) for actor in clip.visible(seconds)]
    middles = [(number + 0.5) * SIZE / count for number in range(count)]
    return [next((actor for x, y, actor in there if math.hypot(x - px, y - py) <= actor.radius), None) for py in middles for px in middles]


class Patches(Dataset[dict[str, Any]]):
    """Batch `i`, the same every time: pictures as patches, and the shape and the colour over each; the last of each kind stands for none."""

    def __init__(self, processor: Any, seed: int, batches: int) -> None:
        self.processor, self.seed, self.batches = processor, seed, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = random.Random(f"eyes {self.seed} {index}")
        pictures, shapes, colours = [], [], []
        patch, merge = self.processor.patch_size, self.processor.merge_size
        for _ in range(CLIPS):
            clip = make_clip(rng, seconds=(2.0, 6.0), busy=rng.random() < 0.7)
            for _ in range(MOMENTS):
                seconds = max((rng.uniform(0, clip.duration_seconds - 0.05) for _ in range(3)), key=lambda moment: len(clip.visible(moment)))
                pictures.append(clip.draw(seconds))
                over = by_blocks(things_over(clip, seconds, PICTURE // patch), merge)
                shapes += [len(SHAPES) if actor is None else SHAPES.index(actor.shape) for actor in over]
                colours += [len(COLOURS) if actor is None else list(COLOURS).index(actor.colour_at(seconds)) for actor in over]
        made = self.processor(images=pictures, return_tensors="pt")
        return {**made, "shapes": torch.tensor(shapes), "colours": torch.tensor(colours)}


def by_blocks(parts: list[Actor | None], merge: int) -> list[Actor | None]:
    """A picture's patches, given row by row, in the order that Qwen's processors have them: those that become one token stand together."""
    count = math.isqrt(len(parts))
    blocks = range(0, count, merge)
    return [parts[(top + y) * count + left + x] for top in blocks for left in blocks for y in range(merge) for x in range(merge)]


class Eyes(nn.Module):
    """The vision part of a model with two layers on it that are thrown away."""

    def __init__(self, model: Qwen3VLForConditionalGeneration) -> None:
        super().__init__()
        self.visual = model.model.visual
        hidden = self.visual.config.hidden_size
        self.shape, self.colour = nn.Linear(hidden, len(SHAPES) + 1), nn.Linear(hidden, len(COLOURS) + 1)
        for merger in (self.visual.merger, *self.visual.deepstack_merger_list):
            merger.requires_grad_(False)  # what a patch shows is asked before patches become tokens

    def forward(
        self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, shapes: torch.Tensor, colours: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The loss, and which shape each patch is taken for; `shapes` and `colours` are (patches)."""
        seen = self.visual(pixel_values, grid_thw=image_grid_thw).last_hidden_state
        named = self.shape(seen).float()
        loss = torch.zeros(())
        for logits, truth in ((named, shapes), (self.colour(seen).float(), colours)):
            seldom = torch.ones(logits.shape[-1], device=logits.device)
            seldom[-1] = 0.2  # nine patches of ten show none
            loss = loss + nn.functional.cross_entropy(logits, truth, seldom)
        return {"loss": loss, "logits": named.argmax(-1)}
