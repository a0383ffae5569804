"""Trains the embedded retriever, a SigLIP of about 1.3 million parameters, from random weights on the synthetic world."""

import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from act2see.backends import pretrained
from act2see.config import MicroRetrieverConfig
from act2see.synthetic.edits import EDITS, Edit, Move, Recolour, Remove, Swap, apply, prompt_of, random_edit, shapes_of
from act2see.synthetic.world import COLOURS, NAMELESS, PLACE_WORDS, PLACES, SHAPES, UNSEEN_PAIRS, Actor, Clip, colour_for, make_clip, make_scene
from act2see.training.micro.cpu_kernels import use_cpu_kernels
from act2see.training.micro.model import make_tokenizer
from act2see.training.micro.vision_pretraining import shape_grid
from act2see.training.trainer_loop import LoopSettings, run_trainer

_TEXT_LENGTH = 16
_SIDE, _PATCH = 96, 12
_FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
_NAMELESS = 70.0  # RGB distance above which a colour is none of the named ones


@dataclass(frozen=True, slots=True)
class ShapeQuery:
    """A query for a shape; None matches anything."""

    shape: str | None = None
    colour: str | None = None
    place: str | None = None

    def shows(self, clip: Clip, seconds: float) -> bool:
        """Whether the frame at that time matches."""
        return any(self._fits(actor, seconds) for actor in clip.visible(seconds))

    def _fits(self, actor: Actor, seconds: float) -> bool:
        return (
            self.shape in (None, actor.shape)
            and self.colour in (None, actor.colour_at(seconds))
            and self.place in (None, actor.place if actor.target is None else None)
        )

    def words(self, rng: random.Random) -> str:
        """The query in a random wording."""
        noun = self.shape or rng.choice(("thing", "shape", "object", "one"))
        named = f"{self.colour} {noun}" if self.colour else noun
        article = rng.choice(("the ", "the ", "an " if named[0] in "aeiou" else "a ", ""))
        text = article + named
        if self.shape is None and self.colour and rng.random() < 0.4:
            text = f"something {self.colour}"
        if self.place:
            text += f" {PLACE_WORDS[self.place]}"
        return rng.choice(("{}", "{}", "{}", "a frame with {}", "{} appears", "when {} is there", "show me {}", "where {} is")).format(text)


def random_query(rng: random.Random) -> ShapeQuery:
    """A shape, a colour, both, or one of them at a place; never a held-out pair of colour and shape."""
    shape = rng.choice(SHAPES)
    kind = rng.random()
    if kind < 0.45:
        return ShapeQuery(shape=shape)
    if kind < 0.68:
        return ShapeQuery(colour=rng.choice(list(COLOURS)))
    place = rng.choice(list(PLACES)) if kind > 0.85 else None
    if kind > 0.93:
        return ShapeQuery(colour=rng.choice(list(COLOURS)), place=place)
    return ShapeQuery(shape=shape, colour=None if place else colour_for(rng, shape, unseen=False), place=place)


@dataclass(frozen=True, slots=True)
class EditQuery:
    """An edit's prompt as a query. A frame with the prompt's shapes but not the edit is half relevant: it is the anchor that the edit starts from, so
    it must rank above frames without these shapes and below the edited image."""

    edit: Edit

    def shows(self, clip: Clip, seconds: float) -> float:
        """Relevance of the frame at that time: 0, 0.5 or 1."""
        visible = [actor for actor in clip.visible(seconds) if actor.shape in shapes_of(self.edit)]
        match self.edit:
            case Remove():
                return float(not visible)
            case Recolour(_, colour):
                fits = any(actor.colour_at(seconds) == colour for actor in visible)
            case Move(_, place):
                fits = any(_is_at(actor, place, seconds) for actor in visible)
            case Swap(shape, place, other, other_place):
                wanted = {shape: place, other: other_place}
                fits = {actor.shape for actor in visible if _is_at(actor, wanted[actor.shape], seconds)} == set(wanted)
            case _:
                assert_never(self.edit)
        return 1.0 if fits else 0.5 * ({actor.shape for actor in visible} == set(shapes_of(self.edit)))

    def words(self, rng: random.Random) -> str:
        """A random prompt of the edit."""
        return prompt_of(self.edit, rng)


def _is_at(actor: Actor, place: str, seconds: float) -> bool:
    return math.dist(actor.centre(seconds), PLACES[place]) <= 24


class RetrieverBatches(Dataset[dict[str, torch.Tensor]]):
    """Batch `i`: images, texts and their relevance matrix. Deterministic."""

    def __init__(self, config: MicroRetrieverConfig, tokenizer: PreTrainedTokenizerFast, processor: SiglipImageProcessorPil, count: int) -> None:
        self.config, self.tokenizer, self.processor, self.count = config, tokenizer, processor, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"retriever {self.config.seed} {index}")
        shown: list[tuple[Clip, float]] = []
        while len(shown) < self.config.images:
            clip = _with_unnamed_colour(rng, make_clip(rng))
            moments = [rng.uniform(0, clip.duration_seconds - 0.05)]
            # Short flashes would rarely be sampled otherwise.
            moments += [rng.uniform(a.start, min(a.stop, clip.duration_seconds) - 0.01) for a in clip.actors if a.stop - a.start <= 0.6]
            for seconds in moments:
                shown += [(clip, seconds), (_hard_negative(rng, clip, seconds), seconds)]
        shown = shown[: self.config.images]
        queries: list[ShapeQuery | EditQuery] = []
        for place in range(0, min(len(shown) // 2, self.config.texts), 2):
            before, edit, after, seconds = _edited(rng)
            shown[place], shown[place + 1] = (before, seconds), (after, seconds)
            queries.append(EditQuery(edit))
        queries += [random_query(rng) for _ in range(self.config.texts - len(queries))]
        text = self.tokenizer([w.words(rng) for w in queries], padding="max_length", truncation=True, max_length=_TEXT_LENGTH, return_tensors="pt")
        # Augmentation: decoders scale with different filters.
        pictures = [clip.draw(seconds).resize((_SIDE, _SIDE), rng.choice(_FILTERS)) for clip, seconds in shown]
        pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
        truth = torch.tensor([[float(query.shows(clip, seconds)) for query in queries] for clip, seconds in shown])
        outlines = torch.tensor([_outlines(clip, seconds) for clip, seconds in shown])
        return {"pixel_values": pixels, "input_ids": text["input_ids"], "truth": truth, "outlines": outlines}


def _outlines(clip: Clip, seconds: float) -> list[int]:
    """Shape at the centre of each patch, row by row, as an index into `SHAPES`; `len(SHAPES)` for none."""
    over = shape_grid(clip, seconds, _SIDE // _PATCH)
    return [len(SHAPES) if actor is None else SHAPES.index(actor.shape) for actor in over]


def _edited(rng: random.Random) -> tuple[Clip, Edit, Clip, float]:
    while True:
        clip = make_scene(rng)
        seconds = rng.uniform(0, clip.duration_seconds - 0.05)
        edit = random_edit(rng, clip, seconds, rng.choice(EDITS))
        if edit is not None and (after := apply(edit, clip, seconds)) is not None:
            return clip, edit, after, seconds


def _with_unnamed_colour(rng: random.Random, clip: Clip) -> Clip:
    """The clip, in a third of all cases with one shape in an unnamed colour, so that shapes are learned independently of colours."""
    if not clip.actors or rng.random() > 0.33:
        return clip
    actor = rng.choice(clip.actors)
    tint = (rng.randrange(90, 256), rng.randrange(90, 256), rng.randrange(90, 256))
    if min(math.dist(tint, named) for named in COLOURS.values()) < _NAMELESS:
        return clip
    changed = replace(actor, colour=NAMELESS, later_colour=None, tint=tint)
    return replace(clip, actors=tuple(changed if other is actor else other for other in clip.actors))


def _hard_negative(rng: random.Random, clip: Clip, seconds: float) -> Clip:
    """The clip with the shape or colour of one visible actor changed: a hard negative."""
    there = clip.visible(seconds)
    if not there:
        return clip
    actor = rng.choice(there)
    if rng.random() < 0.7:
        allowed = [shape for shape in SHAPES if not {(actor.colour, shape), (actor.later_colour, shape)} & UNSEEN_PAIRS]
        changed = replace(actor, shape=rng.choice(allowed))
    else:
        changed = replace(actor, colour=colour_for(rng, actor.shape, unseen=False), later_colour=None, tint=None)
    return replace(clip, actors=tuple(changed if other is actor else other for other in clip.actors))


class RetrieverLoss(nn.Module):
    """SigLIP's sigmoid loss with exact labels, instead of the assumption that an image matches its own caption only.

    An auxiliary head, dropped after training, classifies the shape at each patch: with image-level texts alone the model hardly distinguished stars
    from triangles.
    """

    def __init__(self, model: SiglipModel) -> None:
        super().__init__()
        self.model = model
        self.outline = nn.Linear(model.vision_model.config.hidden_size, len(SHAPES) + 1)

    def forward(self, pixel_values: torch.Tensor, input_ids: torch.Tensor, truth: torch.Tensor, outlines: torch.Tensor) -> dict[str, torch.Tensor]:
        """Loss and logits (images, texts); `truth` is (images, texts), `outlines` (images, patches)."""
        made = self.model(pixel_values=pixel_values, input_ids=input_ids)
        logits = made.logits_per_image.float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truth.float(), pos_weight=torch.tensor(3.0))
        patches = self.outline(made.vision_model_output.last_hidden_state).float()
        seldom = torch.tensor([1.0] * len(SHAPES) + [0.2])  # nine of ten patches show no shape
        return {"loss": loss + nn.functional.cross_entropy(patches.flatten(0, 1), outlines.flatten(), seldom), "logits": logits}


def make_retriever(vocabulary: int) -> SiglipModel:
    """A SigLIP with random weights, in the embedded retriever's size."""
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    text = shape | {"num_hidden_layers": 2, "projection_size": 128}
    vision = shape | {"num_hidden_layers": 4, "image_size": _SIDE, "patch_size": _PATCH}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = SiglipConfig(text_config={"vocab_size": vocabulary, "max_position_embeddings": _TEXT_LENGTH, **marks, **text}, vision_config=vision)
    model = SiglipModel(config)
    with torch.no_grad():  # SigLIP's paper: scale 10 and bias -10; here -3, since a tenth of all pairs match
        model.logit_scale.fill_(2.3)
        model.logit_bias.fill_(-3.0)
    return model


def train(config: MicroRetrieverConfig) -> Path:
    """Train, resuming from the last checkpoint in `config.out`; returns the folder of the model."""
    torch.manual_seed(config.seed)
    processor = SiglipImageProcessorPil(size={"height": _SIDE, "width": _SIDE})
    if config.start_from:
        tokenizer = pretrained.load_part(PreTrainedTokenizerFast, config.start_from, f"the tokenizer of {config.start_from}")
        model = pretrained.load_model(SiglipModel, config.start_from, str(config.start_from), dtype=torch.float32)
    else:
        tokenizer = make_tokenizer()
        model = make_retriever(len(tokenizer))
    if not torch.cuda.is_available():
        use_cpu_kernels(model)
    is_main = run_trainer(
        RetrieverLoss(model),
        lambda batches: RetrieverBatches(config, tokenizer, processor, batches),
        lambda items: items[0],
        LoopSettings(config.out, config.steps, config.seed, config.learning_rate, config.save_every),
    )
    finished = config.out / "model"
    if is_main:
        tokenizer.save_pretrained(finished)
        processor.save_pretrained(finished)
        model.half().save_pretrained(finished)
    return finished
