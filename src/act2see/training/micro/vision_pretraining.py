"""Vision pretraining, the first part of the embedded VLM's curriculum: the vision encoder learns the shape and colour at each patch.

With image-level captions alone, 1,400 batches were not enough to distinguish the shapes; with labels per patch it takes minutes.
"""

import math
import random

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from act2see.synthetic.world import COLOURS, SHAPES, SIZE, Actor, Clip, make_clip
from act2see.training.micro.model import PICTURE

CLIPS, MOMENTS = 32, 4
"""Clips per batch and frames per clip: drawing the first frame of a clip takes four times as long as drawing another."""


def shape_grid(clip: Clip, seconds: float, count: int) -> list[Actor | None]:
    """The actor at the centre of each of `count` × `count` cells of the frame, row by row; None for background."""
    visible = [(*actor.centre(seconds), actor) for actor in clip.visible(seconds)]
    centres = [(number + 0.5) * SIZE / count for number in range(count)]
    return [next((actor for x, y, actor in visible if math.hypot(x - px, y - py) <= actor.radius), None) for py in centres for px in centres]


class PatchBatches(Dataset[dict[str, torch.Tensor]]):
    """Batch `i`: image patches, with the shape and colour index at each; the last index is background. Deterministic."""

    def __init__(self, processor: Qwen2VLImageProcessorPil, seed: int, batches: int) -> None:
        self.processor, self.seed, self.batches = processor, seed, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"eyes {self.seed} {index}")
        pictures, shapes, colours = [], [], []
        patch, merge = self.processor.patch_size, self.processor.merge_size
        for _ in range(CLIPS):
            clip = make_clip(rng, seconds=(2.0, 6.0), busy=rng.random() < 0.7)
            for _ in range(MOMENTS):
                seconds = max((rng.uniform(0, clip.duration_seconds - 0.05) for _ in range(3)), key=lambda moment: len(clip.visible(moment)))
                pictures.append(clip.draw(seconds))
                over = in_merge_order(shape_grid(clip, seconds, PICTURE // patch), merge)
                shapes += [len(SHAPES) if actor is None else SHAPES.index(actor.shape) for actor in over]
                colours += [len(COLOURS) if actor is None else list(COLOURS).index(actor.colour_at(seconds)) for actor in over]
        made = self.processor(images=pictures, return_tensors="pt")
        return {**made, "shapes": torch.tensor(shapes), "colours": torch.tensor(colours)}


def in_merge_order(parts: list[Actor | None], merge: int) -> list[Actor | None]:
    """Patches given row by row, in the order of Qwen's image processors: the patches of one token are adjacent."""
    count = math.isqrt(len(parts))
    blocks = range(0, count, merge)
    return [parts[(top + y) * count + left + x] for top in blocks for left in blocks for y in range(merge) for x in range(merge)]


class PatchClassifier(nn.Module):
    """The model's vision encoder with two classification heads, which are dropped after training."""

    def __init__(self, model: Qwen3VLForConditionalGeneration) -> None:
        super().__init__()
        self.visual = model.model.visual
        hidden = self.visual.config.hidden_size
        self.shape, self.colour = nn.Linear(hidden, len(SHAPES) + 1), nn.Linear(hidden, len(COLOURS) + 1)
        for merger in (self.visual.merger, *self.visual.deepstack_merger_list):
            merger.requires_grad_(False)  # patches are classified before they are merged into tokens

    def forward(
        self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, shapes: torch.Tensor, colours: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The loss and the predicted shape of each patch; `shapes` and `colours` are (patches,)."""
        seen = self.visual(pixel_values, grid_thw=image_grid_thw).last_hidden_state
        named = self.shape(seen).float()
        loss = torch.zeros(())
        for logits, truth in ((named, shapes), (self.colour(seen).float(), colours)):
            seldom = torch.ones(logits.shape[-1], device=logits.device)
            seldom[-1] = 0.2  # nine of ten patches are background
            loss = loss + nn.functional.cross_entropy(logits, truth, seldom)
        return {"loss": loss, "logits": named.argmax(-1)}
