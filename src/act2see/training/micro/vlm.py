"""Train the embedded vision-language model from nothing on the synthetic world: patches, then captions, then questions, with ever more frames."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageFilter
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from act2see.backends import pretrained
from act2see.backends.qwen_tokens import Encoder, Piece
from act2see.config import MicroVlmConfig
from act2see.core import chat
from act2see.core.trace import Answer, Frame, Step, Thought, Trace
from act2see.synthetic.checking import explain_check
from act2see.synthetic.edits import apply, random_prompts
from act2see.synthetic.hypothetical import GeneratedPicture, Hypothetical, ask_hypothetical, ask_more, explain_hypothetical, read, seen
from act2see.synthetic.questions import INPUT_FPS, RETRIEVE_FPS, Look, Question, ask, describe, explain, wanted
from act2see.synthetic.world import PLACES, SHAPES, UNSEEN_PAIRS, Clip, colour_for, make_clip
from act2see.tools.generators import vlm_judge
from act2see.training.examples import Example, collate, pack, pieces_of
from act2see.training.micro.cpu_kernels import collate_for_cpu, train_fast_on_cpu
from act2see.training.micro.model import LIMITS, PICTURE, make_image_processor, make_tokenizer, make_vlm, save_parts
from act2see.training.micro.vision_pretraining import Eyes, Patches
from act2see.training.trainer_loop import fit


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the curriculum: `share` of all steps. A batch holds clips with questions, or, in `frames` of 10 batches, single frames."""

    name: str
    share: float
    frames: int
    """In how many of 10 batches `FRAMES` single frames are captioned."""
    seconds: tuple[float, float] = (4.0, 12.0)
    """Bounds of a clip's duration."""
    clips: int = 5
    questions: int = 3
    captions: float = 0.1
    """The probability of each of the two captions of a clip."""
    busy: float = 0.0
    """The share of clips that show something else in every frame, so that nothing can be said of one by repeating what was said of another."""
    words: int = 1
    """Examples of `word_example` a batch."""
    scenes: int = 0
    """Clips with questions about what never happened a batch."""
    checks: int = 0
    """Examples of `check_example` a batch."""


FRAMES = 64
PARTS: dict[str, tuple[Stage, ...]] = {
    "see": (
        Stage("frames", 0.35, frames=10),
        Stage("short clips", 0.4, frames=2, seconds=(2.0, 6.0), clips=6, questions=2, captions=0.7, busy=0.8, words=0),
        Stage("clips", 0.25, frames=2, captions=0.35, busy=0.5, words=0),
    ),
    "ask": (
        Stage("words", 0.12, frames=0, clips=0, words=5),
        Stage("short clips", 0.22, frames=2, seconds=(2.0, 6.0), clips=7, busy=0.4),
        Stage("clips", 0.66, frames=2, busy=0.4),
    ),
    "imagine": (
        Stage("scenes", 0.3, frames=1, clips=1, questions=2, busy=0.4, words=0, scenes=3, checks=2),
        Stage("all", 0.7, frames=1, clips=2, busy=0.4, words=0, scenes=2, checks=2),
    ),
}
"""What was found to learn: seeing before asking, matching words before it is needed, few frames before many, and the learning rate raised again for
the asking."""


class Curriculum(Dataset[list[Example]]):
    """Batch `i` of the whole training, made when it is asked for and the same every time, so that a resumed run sees what it would have seen."""

    def __init__(self, encoder: Encoder, seed: int, batches: int, stages: Sequence[Stage]) -> None:
        self.encoder, self.seed, self.batches, self.stages = encoder, seed, batches, stages

    def __len__(self) -> int:
        return self.batches

    def stage(self, index: int) -> Stage:
        """The stage that a batch belongs to."""
        done = (index + 0.5) / self.batches
        for stage in self.stages:
            if done < stage.share:
                return stage
            done -= stage.share
        return self.stages[-1]

    def __getitem__(self, index: int) -> list[Example]:
        rng = random.Random(f"train {self.seed} {self.stages[0].name} {index}")
        stage = self.stage(index)
        # Halved: two processes take batches of the same kind at the same time.
        if index // 2 % 10 < stage.frames:
            return [frame_example(rng, stage, self.encoder) for _ in range(FRAMES)]
        clips = [clip_example(rng, stage, self.encoder) for _ in range(stage.clips)]
        clips += [scene_example(rng, self.encoder) for _ in range(stage.scenes)]
        clips += [check_example(rng, self.encoder) for _ in range(stage.checks)]
        return clips + [word_example(rng, self.encoder) for _ in range(stage.words)]


def frame_example(rng: random.Random, stage: Stage, encoder: Encoder) -> Example:
    """One frame, its time and its caption, without any conversation: a hundred of these cost what ten clips with questions do."""
    clip = make_clip(rng, seconds=stage.seconds)
    moments = [rng.uniform(0, clip.duration_seconds - 0.05) for _ in range(4)]
    seconds = max(moments, key=lambda moment: len(clip.visible(moment))) if rng.random() < 0.8 else moments[0]
    frame = Frame(clip.draw(seconds), seconds)
    caption = chat.Text(" " + describe(clip, [seconds]).partition(": ")[2], own=True)
    return pack([encoder.encode([chat.Text(chat.seconds_tag(seconds)), chat.Picture(frame), caption])], encoder.merge)


def word_example(rng: random.Random, encoder: Encoder, count: int = 6) -> Example:
    """Questions with listings in words, without any picture; only what follows the words that can be asked for is trained on.

    Whether a word is the one that is asked for is a skill of its own, and without pictures it is far cheaper to exercise: half of the words are, and
    what follows the others is always the same, so that nothing else has to be learnt here.
    """
    sequences: list[list[Piece]] = []
    while len(sequences) < count:
        for question in ask(rng, make_clip(rng))[:2]:
            parts = [chat.Text("assistant\n"), chat.Text(chat.question_text(question.text, question.choices) + wanted(rng, question))]
            for second, words in enumerate(_some_things(rng, question)):
                begin, after = f" {second}.0 seconds: {words[0]}", words[1:]
                # What follows the first word cannot be known yet.
                parts += [chat.Text(begin), chat.Text(after[0], own=second > 0), chat.Text("".join(after[1:]) + ";")]
            sequences.append(encoder.encode(parts))
    return pack(sequences, encoder.merge)


def _some_things(rng: random.Random, question: Question) -> list[list[str]]:
    """Random shapes, half of them the asked one, each cut where the mark can stand: `blue ring`, ` left`; `red star`, `!`, ` left`."""
    actor, things = question.actor, []
    shape, place = rng.choice(SHAPES), rng.choice(list(PLACES))
    if question.asked == "shape":
        shape = rng.choice([shape for shape in SHAPES if (actor.colour, shape) not in UNSEEN_PAIRS])
    for _ in range(8):
        is_asked = rng.random() < 0.5
        if question.asked == "shape":
            colour = actor.colour if is_asked else colour_for(rng, shape, unseen=False, avoid=(actor.colour,))
            words = [colour, f" {shape}", f" {place}"]
        else:
            shape = actor.shape if is_asked else rng.choice([other for other in SHAPES if other != actor.shape])
            words = [f"{colour_for(rng, shape, unseen=False)} {shape}", f" {place}"]
        things.append([words[0], *(["!"] if is_asked else []), *words[1:]])
    return things


def clip_example(rng: random.Random, stage: Stage, encoder: Encoder) -> Example:
    """One clip with its captions and questions, packed."""
    busy = rng.random() < stage.busy
    while True:
        clip = make_clip(rng, seconds=stage.seconds, busy=busy)
        questions = _choose(rng, ask(rng, clip), stage.questions)
        if questions or busy:
            break
    times = clip.times(INPUT_FPS)
    frames = tuple(Frame(clip.draw(seconds), seconds) for seconds in times)
    tools = _tools(rng, generate=0.5)
    traces: list[tuple[Trace, chat.Style]] = []
    if busy or rng.random() < stage.captions:
        traces.append((_caption(clip, frames, times, "Describe every frame."), chat.Style()))
    if rng.random() < stage.captions:
        one = rng.choice(times)
        traces.append((_caption(clip, frames, [one], f"Describe the frame at {one:.1f} seconds."), chat.Style()))
    for question in questions:
        style = chat.Style(rendering="user_turn" if rng.random() < 0.12 else "same_turn")
        steps = explain(rng, clip, question, _looks(rng, clip, question), can_look=bool(tools))
        traces.append((_trace(frames, question.text, question.choices, steps), style))
    sequences: list[list[Piece]] = [pieces_of(trace, tools, style, encoder) for trace, style in traces]
    return pack(sequences, encoder.merge)


def scene_example(rng: random.Random, encoder: Encoder) -> Example:
    """One clip with questions about what never happened in it, packed."""
    clip, first = ask_hypothetical(rng, seconds=(2.5, 8.0))
    questions = [first, *ask_more(rng, clip, tries=8)][:4]
    frames = tuple(Frame(clip.draw(seconds), seconds) for seconds in clip.times(INPUT_FPS))
    tools = _tools(rng, generate=0.88)
    sequences = []
    for question in questions:
        style = chat.Style(rendering="user_turn" if rng.random() < 0.12 else "same_turn")
        steps = explain_hypothetical(rng, clip, question, _imagined(rng, clip, question) if "generate" in tools else None)
        sequences.append(pieces_of(_trace(frames, question.text, question.choices, steps), tools, style, encoder))
    return pack(sequences, encoder.merge)


def check_example(rng: random.Random, encoder: Encoder, count: int = 10) -> Example:
    """Single pictures, each with the question whether it shows what a prompt describes: of half of them that is so."""
    sequences: list[list[Piece]] = []
    while len(sequences) < count:
        clip, seconds, made = random_prompts(rng)
        (edit, prompt, edited), (_, _, other) = rng.sample(made, 2)
        shown = edited if rng.random() < 0.5 else rng.choice((clip, other))
        picture = _painted(rng, shown.draw(seconds))
        trace = _trace((picture,), vlm_judge.question(prompt), vlm_judge.CHOICES, explain_check(rng, edit, seen(shown, seconds)))
        sequences.append(pieces_of(trace, (), chat.Style(), encoder))
    return pack(sequences, encoder.merge)


def _painted(rng: random.Random, picture: Image.Image) -> Frame:
    """A picture without a time, as blurred as a generator may leave it."""
    small = picture.resize((PICTURE, PICTURE)).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7)))
    return Frame(small, None)


def _tools(rng: random.Random, *, generate: float) -> tuple[chat.Tool, ...]:
    """The tools that a conversation offers: none, looking, or, with that probability, imagining too."""
    drawn = rng.random()
    return () if drawn < 0.06 else ("retrieve", "generate") if drawn > 1 - generate else ("retrieve",)


def _imagined(rng: random.Random, clip: Clip, question: Hypothetical) -> GeneratedPicture | str:
    """What a call to imagine brings: the edited picture, as blurred as a generator may leave it, sometimes a frame as it is, or an error."""
    if rng.random() < 0.06:
        reason = rng.choice(("no faithful picture could be made", "no look is left (at most 1)"))
        return f"{reason}: answer from what you have seen"
    seconds = rng.choice(question.anchors)
    edited = apply(question.edit, clip, seconds)
    assert edited is not None
    # A model that only ever gets what it asked for learns to answer from the sentence.
    if rng.random() < 0.15 and read(question.fact, seen(clip, seconds)) in question.choices:
        edited = clip
    return GeneratedPicture(_painted(rng, edited.draw(seconds)), seen(edited, seconds))


def _choose(rng: random.Random, questions: list[Question], count: int) -> list[Question]:
    """At most `count` questions, half of them transient where there are as many."""
    transient = [question for question in questions if question.kind == "transient"]
    static = [question for question in questions if question.kind == "static"]
    half = (count + rng.randint(0, 1)) // 2
    chosen = transient[: max(half, count - len(static))] + static[: max(count - half, count - len(transient))]
    return rng.sample(chosen, min(count, len(chosen)))


def _looks(rng: random.Random, clip: Clip, question: Question) -> list[Look]:
    """What the calls of a transient question bring: mostly the frame, sometimes a wrong one first, sometimes nothing."""
    hit = Look(rng.choice(question.could_see))
    missing = [t for t in clip.times(RETRIEVE_FPS) if t not in question.could_see and t not in clip.times(INPUT_FPS)]
    misses = [Look(t) for t in rng.sample(missing, min(len(missing), rng.choice((1, 1, 2))))]
    none_left = Look(None, f"no look is left (at most {rng.randint(1, 4)}): answer from what you have seen")
    nothing = Look(None, rng.choice(("no frame was found: answer from what you have seen", none_left.error)))
    fate = rng.random()
    if fate < 0.74:
        return [hit]
    if fate < 0.87:
        return [*misses, hit]
    return [*misses, none_left] if fate < 0.94 else [nothing]


def _caption(clip: Clip, frames: tuple[Frame, ...], times: Sequence[float], request: str) -> Trace:
    text = describe(clip, times) if len(times) > 1 else describe(clip, times).partition(": ")[2]
    return _trace(frames, request, (), [Thought("<think>I look at what is there.</think>"), Answer(text)])


def _trace(frames: tuple[Frame, ...], question: str, choices: tuple[str, ...], steps: list[Step]) -> Trace:
    return Trace("training", "synthetic", question, frames, choices, steps=steps, finish="answer")


def train(config: MicroVlmConfig) -> Path:
    """Train, going on from the last checkpoint in `config.out` if there is one; returns the folder of the finished model."""
    torch.manual_seed(config.seed)
    processor = make_image_processor()
    if config.start_from:
        tokenizer = pretrained.load_part(PreTrainedTokenizerFast, config.start_from, f"the tokenizer of {config.start_from}")
        model = pretrained.load_model(Qwen3VLForConditionalGeneration, config.start_from, str(config.start_from), dtype=torch.float32)
    else:
        tokenizer = make_tokenizer()
        model = make_vlm(tokenizer)
    gather = collate
    if not torch.cuda.is_available():
        train_fast_on_cpu(model)
        gather = collate_for_cpu
    encoder = Encoder(tokenizer, processor)
    pad: Any = tokenizer.pad_token_id
    looks = config.part == "look"
    is_first = fit(
        Eyes(model) if looks else model,
        lambda batches: Patches(processor, config.seed, batches) if looks else Curriculum(encoder, config.seed, batches, PARTS[config.part]),
        lambda items: items[0] if looks else gather(items[0], pad),
        out=config.out,
        steps=config.steps,
        seed=config.seed,
        learning_rate=config.learning_rate,
        save_every=config.save_every,
        batches=config.batches,
        workers=1,
        warmup=100,
    )
    finished = config.out / "model"
    if is_first:
        save_parts(finished, tokenizer, processor, LIMITS)
        model.half().save_pretrained(finished)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # whoever goes on finds the model there
    return finished
