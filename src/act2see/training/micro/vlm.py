"""Trains the embedded vision-language model from random weights on the synthetic world: patches, captions, then questions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageFilter
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, Qwen3VLForConditionalGeneration

from act2see.backends import pretrained
from act2see.backends.encoder import Encoder
from act2see.backends.pieces import Piece
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
from act2see.training.micro.cpu_kernels import Span, collate_for_cpu, use_cpu_kernels
from act2see.training.micro.model import LIMITS, PICTURE, make_image_processor, make_tokenizer, make_vlm, save_parts
from act2see.training.micro.vision_pretraining import PatchBatches, PatchClassifier
from act2see.training.trainer_loop import LoopSettings, run_trainer


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a curriculum part, for `share` of its steps. A batch holds clips with questions, or, in `frames` of 10 batches, single frames."""

    name: str
    share: float
    frames: int
    """Number of batches, out of 10, that hold `FRAMES` captioned single frames."""
    seconds: tuple[float, float] = (4.0, 12.0)
    """Range of the clips' duration."""
    clips: int = 5
    questions: int = 3
    captions: float = 0.1
    """Probability of each of a clip's two captions."""
    busy: float = 0.0
    """Share of clips whose every frame differs, so that copying the caption of another frame is always wrong."""
    words: int = 1
    """`word_example`s per batch."""
    scenes: int = 0
    """`scene_example`s per batch."""
    checks: int = 0
    """`check_example`s per batch."""


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
"""The curriculum that trained successfully: perception before questions, word matching before it is needed, few frames before many, and a learning
rate restart for the questions."""


class CurriculumBatches(Dataset[list[Example]]):
    """Batch `i` of a part, generated on access. Deterministic, so that a resumed run sees the same data."""

    def __init__(self, encoder: Encoder, seed: int, batches: int, stages: Sequence[Stage]) -> None:
        self.encoder, self.seed, self.batches, self.stages = encoder, seed, batches, stages

    def __len__(self) -> int:
        return self.batches

    def stage(self, index: int) -> Stage:
        """The stage of a batch."""
        done = (index + 0.5) / self.batches
        for stage in self.stages:
            if done < stage.share:
                return stage
            done -= stage.share
        return self.stages[-1]

    def __getitem__(self, index: int) -> list[Example]:
        rng = random.Random(f"train {self.seed} {self.stages[0].name} {index}")
        stage = self.stage(index)
        # Halved, so that two processes get batches of the same kind at the same time.
        if index // 2 % 10 < stage.frames:
            return [frame_example(rng, stage, self.encoder) for _ in range(FRAMES)]
        clips = [clip_example(rng, stage, self.encoder) for _ in range(stage.clips)]
        clips += [scene_example(rng, self.encoder) for _ in range(stage.scenes)]
        clips += [check_example(rng, self.encoder) for _ in range(stage.checks)]
        return clips + [word_example(rng, self.encoder) for _ in range(stage.words)]


def frame_example(rng: random.Random, stage: Stage, encoder: Encoder) -> Example:
    """One frame with its time and caption, outside any conversation: a hundred of these cost as much as ten clips with questions."""
    clip = make_clip(rng, seconds=stage.seconds)
    moments = [rng.uniform(0, clip.duration_seconds - 0.05) for _ in range(4)]
    seconds = max(moments, key=lambda moment: len(clip.visible(moment))) if rng.random() < 0.8 else moments[0]
    frame = Frame(clip.draw(seconds), seconds)
    caption = chat.Text(" " + describe(clip, [seconds]).partition(": ")[2], own=True)
    return pack([encoder.encode([chat.Text(chat.seconds_tag(seconds)), chat.Picture(frame), caption])], encoder.merge)


def word_example(rng: random.Random, encoder: Encoder, count: int = 6) -> Example:
    """Questions with scene listings in text, without pictures; only the token after a word that the question may ask for is trained on.

    This trains matching a listed word with the question's, which is far cheaper without pictures. Half of the words match; after the others the
    continuation is always the same, so that nothing else has to be learned.
    """
    sequences: list[list[Piece]] = []
    while len(sequences) < count:
        for question in ask(rng, make_clip(rng))[:2]:
            parts = [chat.Text("assistant\n"), chat.Text(chat.question_text(question.text, question.choices) + wanted(rng, question))]
            for second, words in enumerate(_some_things(rng, question)):
                begin, after = f" {second}.0 seconds: {words[0]}", words[1:]
                # The continuation of the first word cannot be predicted yet.
                parts += [chat.Text(begin), chat.Text(after[0], own=second > 0), chat.Text("".join(after[1:]) + ";")]
            sequences.append(encoder.encode(parts))
    return pack(sequences, encoder.merge)


def _some_things(rng: random.Random, question: Question) -> list[list[str]]:
    """Random shapes, half of them the one asked for, split where the match mark can be: `blue ring`, ` left`; `red star`, `!`, ` left`."""
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
    """One clip with hypothetical questions, packed."""
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
    """Single images, each with the question whether it shows what a prompt describes; half of them do."""
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
    """An image without a time, with the blur of a generated one."""
    small = picture.resize((PICTURE, PICTURE)).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7)))
    return Frame(small, None)


def _tools(rng: random.Random, *, generate: float) -> tuple[chat.Tool, ...]:
    """The tools of a conversation: none, retrieve, or, with the given probability, also generate."""
    drawn = rng.random()
    return () if drawn < 0.06 else ("retrieve", "generate") if drawn > 1 - generate else ("retrieve",)


def _imagined(rng: random.Random, clip: Clip, question: Hypothetical) -> GeneratedPicture | str:
    """The observation of a generate call: the edited image with a generator's blur, sometimes the unedited frame, or an error."""
    if rng.random() < 0.06:
        reason = rng.choice(("no faithful picture could be made", "no look is left (at most 1)"))
        return f"{reason}: answer from what you have seen"
    seconds = rng.choice(question.anchors)
    edited = apply(question.edit, clip, seconds)
    assert edited is not None
    # A model that always gets what it asked for learns to answer from its own prompt.
    if rng.random() < 0.15 and read(question.fact, seen(clip, seconds)) in question.choices:
        edited = clip
    return GeneratedPicture(_painted(rng, edited.draw(seconds)), seen(edited, seconds))


def _choose(rng: random.Random, questions: list[Question], count: int) -> list[Question]:
    """At most `count` questions, half of them transient if there are enough."""
    transient = [question for question in questions if question.kind == "transient"]
    static = [question for question in questions if question.kind == "static"]
    half = (count + rng.randint(0, 1)) // 2
    chosen = transient[: max(half, count - len(static))] + static[: max(count - half, count - len(transient))]
    return rng.sample(chosen, min(count, len(chosen)))


def _looks(rng: random.Random, clip: Clip, question: Question) -> list[Look]:
    """Observations for a transient question: mostly the right frame, sometimes a wrong one first, sometimes an error."""
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
    """Train one part, resuming from the last checkpoint in `config.out`; returns the folder of the model."""
    torch.manual_seed(config.seed)
    processor = make_image_processor()
    if config.start_from:
        tokenizer = pretrained.load_part(PreTrainedTokenizerFast, config.start_from, f"the tokenizer of {config.start_from}")
        model = pretrained.load_model(Qwen3VLForConditionalGeneration, config.start_from, str(config.start_from), dtype=torch.float32)
    else:
        tokenizer = make_tokenizer()
        model = make_vlm(tokenizer)
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        use_cpu_kernels(model)
    settings = LoopSettings(
        config.out, config.steps, config.seed, config.learning_rate, config.save_every, batches=config.batches, workers=1, warmup=100
    )
    if config.part == "look":
        is_main = run_trainer(PatchClassifier(model), lambda count: PatchBatches(processor, config.seed, count), lambda items: items[0], settings)
    else:
        encoder, stages, pad = Encoder(tokenizer, processor), PARTS[config.part], tokenizer.pad_token_id
        assert isinstance(pad, int)

        def gather(items: list[list[Example]]) -> dict[str, torch.Tensor | list[Span]]:
            return {**collate(items[0], pad)} if on_gpu else collate_for_cpu(items[0], pad)

        is_main = run_trainer(model, lambda count: CurriculumBatches(encoder, config.seed, count, stages), gather, settings)
    finished = config.out / "model"
    if is_main:
        save_parts(finished, tokenizer, processor, LIMITS)
        model.half().save_pretrained(finished)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # the next part finds the model
    return finished
