"""Train the embedded retriever, a SigLIP of about 1.3 million parameters, from nothing on the synthetic world."""

import math
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, assert_never

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
from act2see.training.micro.cpu_kernels import train_fast_on_cpu
from act2see.training.micro.model import make_tokenizer
from act2see.training.micro.vision_pretraining import things_over
from act2see.training.trainer_loop import fit

_TEXT_LENGTH = 16
_SIDE, _PATCH = 96, 12
_FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
_NAMELESS = 70.0  # distance in RGB from which a colour is taken for none of the named ones


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a text asks for: None stands for anything."""

    shape: str | None = None
    colour: str | None = None
    place: str | None = None

    def shows(self, clip: Clip, seconds: float) -> bool:
        """Whether the picture at that time shows it."""
        return any(self._fits(actor, seconds) for actor in clip.visible(seconds))

    def _fits(self, actor: Actor, seconds: float) -> bool:
        return (
            self.shape in (None, actor.shape)
            and self.colour in (None, actor.colour_at(seconds))
            and self.place in (None, actor.place if actor.target is None else None)
        )

    def words(self, rng: random.Random) -> str:
        """The wish in one of many wordings."""
        noun = self.shape or rng.choice(("thing", "shape", "object", "one"))
        named = f"{self.colour} {noun}" if self.colour else noun
        article = rng.choice(("the ", "the ", "an " if named[0] in "aeiou" else "a ", ""))
        text = article + named
        if self.shape is None and self.colour and rng.random() < 0.4:
            text = f"something {self.colour}"
        if self.place:
            text += f" {PLACE_WORDS[self.place]}"
        return rng.choice(("{}", "{}", "{}", "a frame with {}", "{} appears", "when {} is there", "show me {}", "where {} is")).format(text)


def random_wish(rng: random.Random) -> Wanted:
    """A shape, a colour, both, or one of them at a place; never a pair that training must not show."""
    shape = rng.choice(SHAPES)
    kind = rng.random()
    if kind < 0.45:
        return Wanted(shape=shape)
    if kind < 0.68:
        return Wanted(colour=rng.choice(list(COLOURS)))
    place = rng.choice(list(PLACES)) if kind > 0.85 else None
    if kind > 0.93:
        return Wanted(colour=rng.choice(list(COLOURS)), place=place)
    return Wanted(shape=shape, colour=None if place else colour_for(rng, shape, unseen=False), place=place)


@dataclass(frozen=True, slots=True)
class Described:
    """An edit's prompt as a text to search with. Of a picture that shows the shapes but not as described, it is half true: such a frame is what the
    edit is made from, so it must be found before those that show none of them, and score less than the edited picture."""

    edit: Edit

    def shows(self, clip: Clip, seconds: float) -> float:
        """How true it is of the picture at that time: 0, 0.5 or 1."""
        there = [actor for actor in clip.visible(seconds) if actor.shape in shapes_of(self.edit)]
        match self.edit:
            case Remove():
                return float(not there)
            case Recolour(_, colour):
                fits = any(actor.colour_at(seconds) == colour for actor in there)
            case Move(_, place):
                fits = any(_is_at(actor, place, seconds) for actor in there)
            case Swap(shape, place, other, other_place):
                wanted = {shape: place, other: other_place}
                fits = {actor.shape for actor in there if _is_at(actor, wanted[actor.shape], seconds)} == set(wanted)
            case _:
                assert_never(self.edit)
        return 1.0 if fits else 0.5 * ({actor.shape for actor in there} == set(shapes_of(self.edit)))

    def words(self, rng: random.Random) -> str:
        """One of the edit's prompts."""
        return prompt_of(self.edit, rng)


def _is_at(actor: Actor, place: str, seconds: float) -> bool:
    return math.dist(actor.centre(seconds), PLACES[place]) <= 24


class Batches(Dataset[dict[str, Any]]):
    """Batch `i`, the same every time: pictures, texts and the matrix that says which text is true of which picture."""

    def __init__(self, config: MicroRetrieverConfig, tokenizer: Any, processor: Any, count: int) -> None:
        self.config, self.tokenizer, self.processor, self.count = config, tokenizer, processor, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = random.Random(f"retriever {self.config.seed} {index}")
        shown: list[tuple[Clip, float]] = []
        while len(shown) < self.config.images:
            clip = _tinted(rng, make_clip(rng))
            moments = [rng.uniform(0, clip.duration_seconds - 0.05)]
            # Flashes are short: without this they would hardly ever be seen.
            moments += [rng.uniform(a.start, min(a.stop, clip.duration_seconds) - 0.01) for a in clip.actors if a.stop - a.start <= 0.6]
            for seconds in moments:
                shown += [(clip, seconds), (_mutant(rng, clip, seconds), seconds)]
        shown = shown[: self.config.images]
        wishes: list[Wanted | Described] = []
        for place in range(0, min(len(shown) // 2, self.config.texts), 2):
            before, edit, after, seconds = _edited(rng)
            shown[place], shown[place + 1] = (before, seconds), (after, seconds)
            wishes.append(Described(edit))
        wishes += [random_wish(rng) for _ in range(self.config.texts - len(wishes))]
        text = self.tokenizer([w.words(rng) for w in wishes], padding="max_length", truncation=True, max_length=_TEXT_LENGTH, return_tensors="pt")
        # Decoders scale pictures down in ways of their own: none of them may be the only one that is known.
        pictures = [clip.draw(seconds).resize((_SIDE, _SIDE), rng.choice(_FILTERS)) for clip, seconds in shown]
        pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
        truth = torch.tensor([[float(wish.shows(clip, seconds)) for wish in wishes] for clip, seconds in shown])
        outlines = torch.tensor([_outlines(clip, seconds) for clip, seconds in shown])
        return {"pixel_values": pixels, "input_ids": text["input_ids"], "truth": truth, "outlines": outlines}


def _outlines(clip: Clip, seconds: float) -> list[int]:
    """For each patch of a picture, row by row, which shape lies over its middle: a place in `SHAPES`, or the one after them for none."""
    over = things_over(clip, seconds, _SIDE // _PATCH)
    return [len(SHAPES) if actor is None else SHAPES.index(actor.shape) for actor in over]


def _edited(rng: random.Random) -> tuple[Clip, Edit, Clip, float]:
    while True:
        clip = make_scene(rng)
        seconds = rng.uniform(0, clip.duration_seconds - 0.05)
        edit = random_edit(rng, clip, seconds, rng.choice(EDITS))
        if edit is not None and (after := apply(edit, clip, seconds)) is not None:
            return clip, edit, after, seconds


def _tinted(rng: random.Random, clip: Clip) -> Clip:
    """The clip, in a third of all cases with one shape in a colour that has no name: a shape is known by its outline, whatever its colour."""
    if not clip.actors or rng.random() > 0.33:
        return clip
    actor = rng.choice(clip.actors)
    tint = (rng.randrange(90, 256), rng.randrange(90, 256), rng.randrange(90, 256))
    if min(math.dist(tint, named) for named in COLOURS.values()) < _NAMELESS:
        return clip
    changed = replace(actor, colour=NAMELESS, later_colour=None, tint=tint)
    return replace(clip, actors=tuple(changed if other is actor else other for other in clip.actors))


def _mutant(rng: random.Random, clip: Clip, seconds: float) -> Clip:
    """The clip with another shape, or another colour, for one actor on screen then: what differs is what a text must tell apart."""
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


class WithTruth(nn.Module):
    """SigLIP's sigmoid loss, with the world's exact truth in place of the guess that only a picture's own caption is true of it.

    Besides, each patch tells which shape lies over it, through a layer that is thrown away: a text says of a whole picture that a star is in it, and
    from that alone stars and triangles were hardly told apart.
    """

    def __init__(self, model: SiglipModel) -> None:
        super().__init__()
        self.model = model
        self.outline = nn.Linear(model.vision_model.config.hidden_size, len(SHAPES) + 1)

    def forward(self, pixel_values: torch.Tensor, input_ids: torch.Tensor, truth: torch.Tensor, outlines: torch.Tensor) -> dict[str, torch.Tensor]:
        """Loss and logits (pictures, texts); `outlines` is (pictures, patches)."""
        made = self.model(pixel_values=pixel_values, input_ids=input_ids)
        logits = made.logits_per_image.float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truth.float(), pos_weight=torch.tensor(3.0))
        patches = self.outline(made.vision_model_output.last_hidden_state).float()
        seldom = torch.tensor([1.0] * len(SHAPES) + [0.2])  # nine patches of ten show none
        return {"loss": loss + nn.functional.cross_entropy(patches.flatten(0, 1), outlines.flatten(), seldom), "logits": logits}


def make_retriever(vocabulary: int) -> SiglipModel:
    """A SigLIP with random weights in the embedded retriever's shape."""
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    text = shape | {"num_hidden_layers": 2, "projection_size": 128}
    vision = shape | {"num_hidden_layers": 4, "image_size": _SIDE, "patch_size": _PATCH}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = SiglipConfig(text_config={"vocab_size": vocabulary, "max_position_embeddings": _TEXT_LENGTH, **marks, **text}, vision_config=vision)
    model = SiglipModel(config)
    with torch.no_grad():  # SigLIP's paper: a scale of 10 and a bias of -10, here -3 because a tenth of all pairs is true
        model.logit_scale.fill_(2.3)
        model.logit_bias.fill_(-3.0)
    return model


def train(config: MicroRetrieverConfig) -> Path:
    """Train, going on from the last checkpoint in `config.out` if there is one; returns the folder of the finished model."""
    torch.manual_seed(config.seed)
    processor = SiglipImageProcessorPil(size={"height": _SIDE, "width": _SIDE})
    if config.start_from:
        tokenizer = pretrained.load_part(PreTrainedTokenizerFast, config.start_from, f"the tokenizer of {config.start_from}")
        model = pretrained.load_model(SiglipModel, config.start_from, str(config.start_from), dtype=torch.float32)
    else:
        tokenizer = make_tokenizer()
        model = make_retriever(len(tokenizer))
    if not torch.cuda.is_available():
        train_fast_on_cpu(model)
    is_first = fit(
        WithTruth(model),
        lambda batches: Batches(config, tokenizer, processor, batches),
        lambda items: items[0],
        out=config.out,
        steps=config.steps,
        seed=config.seed,
        learning_rate=config.learning_rate,
        save_every=config.save_every,
    )
    finished = config.out / "model"
    if is_first:
        tokenizer.save_pretrained(finished)
        processor.save_pretrained(finished)
        model.half().save_pretrained(finished)
    return finished
