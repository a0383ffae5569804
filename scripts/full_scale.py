"""Estimate what the paper's experiments cost at full size, from FLOPs and stated assumptions, and print the tables of docs/full-scale.md.

python scripts/full_scale.py
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from act2see.backends.flops import VisionLanguageModel
from act2see.tools.encoders.flops import EncoderFlops
from act2see.tools.generators.flops import StableDiffusion3

# Of the published configs of Qwen3-VL-8B-Thinking, blip2-itm-vit-g-coco and stable-diffusion-3.5-large, what FLOPs depend on.
_TEXT = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8}
_VISION = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}
_QWEN = {
    "model_type": "qwen3_vl",
    "text_config": {**_TEXT, "head_dim": 128, "vocab_size": 151936},
    "vision_config": {**_VISION, "out_hidden_size": 4096, "deepstack_visual_indexes": [8, 16, 24]},
}
_FORMER = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "cross_attention_frequency": 2, "encoder_hidden_size": 1408}
_BLIP2 = {
    "model_type": "blip-2",
    "vision_config": {"hidden_size": 1408, "intermediate_size": 6144, "num_hidden_layers": 39, "image_size": 364, "patch_size": 14},
    "qformer_config": _FORMER,
    "num_query_tokens": 32,
    "image_text_hidden_size": 256,
}
_MMDIT = {"num_attention_heads": 38, "attention_head_dim": 64, "num_layers": 38, "patch_size": 2, "in_channels": 16, "joint_attention_dim": 4096}
_CODEC = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16, "in_channels": 3, "out_channels": 3}
_PAINTER = StableDiffusion3(
    transformer=_MMDIT | {"caption_projection_dim": 2432, "pooled_projection_dim": 2048},
    vae=_CODEC | {"use_quant_conv": False, "use_post_quant_conv": False},
    is_tiny=False,
    clips=[
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "projection_dim": 768},
        {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "projection_dim": 1280},
    ],
    t5={"d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24, "feed_forward_proj": "gated-gelu"},
    scale=8,
    clip_tokens=77,
)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the estimates rest on. Our choices, none of them measured."""

    peak: float = 989e12
    """FLOPS of an H200 or H100 SXM in bf16, dense, from its data sheet."""
    matrices: float = 0.40
    """Share of it that prefill, the vision tower, BLIP-2 and denoising reach."""
    decoding: float = 0.05
    """Share that decoding reaches with 64 conversations at once: it is bound by memory."""
    training: float = 0.35
    """Share that training reaches; recomputing activations is counted as work."""
    dollars_per_hour: float = 3.0
    """Price of an hour of one GPU."""
    side: int = 448
    """Frames are 448 x 448 pixels: 196 tokens."""
    around: int = 8
    """Tokens of a frame's time and marks."""
    prompt: int = 400
    """Tokens of instruction, question and choices."""
    written: int = 1500
    """Tokens of an answer's reasoning."""
    retrieved: float = 0.30
    """Share of answers with a retrieved frame: 1,026 of 3,373 traces in the paper."""
    generated: float = 0.17
    """Share with a generated one: 582 of 3,373."""


GIVEN = Assumptions()


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions about videos. Numbers of questions are the benchmarks', mean lengths are assumptions unless the paper states them."""

    name: str
    count: int
    frames: float
    """Initial frames of a question at 1 fps, on average, at most 512."""
    videos: int
    seconds: float
    """Length of a video, on average."""


SETS = {
    one.name: one
    for one in (
        Questions("Video-MME", 2700, 355, 900, 1020),
        Questions("VideoEspresso", 1382, 3, 1382, 100),
        Questions("EgoNormia", 5559, 15, 1853, 15),
        Questions("VCR-Bench", 1034, 210, 859, 210),
        Questions("ViTIB", 1382, 60, 1382, 100),
        Questions("MINERVA", 1515, 127, 223, 720),
    )
}


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs by the utilisation that they reach."""

    matrices: float = 0.0
    decoding: float = 0.0
    training: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.matrices + other.matrices, self.decoding + other.decoding, self.training + other.training)

    def __mul__(self, times: float) -> "Work":
        return Work(self.matrices * times, self.decoding * times, self.training * times)

    def hours(self, given: Assumptions = GIVEN) -> float:
        """Hours of one GPU."""
        return sum((self.matrices / given.matrices, self.decoding / given.decoding, self.training / given.training)) / given.peak / 3600


def _model() -> VisionLanguageModel:
    made = VisionLanguageModel.of(_QWEN)
    assert made is not None
    return made


def _encoder() -> EncoderFlops:
    made = EncoderFlops.of(_BLIP2)
    assert made is not None
    return made


MODEL, ENCODER = _model(), _encoder()
_GRID = (1, GIVEN.side // 16, GIVEN.side // 16)
FRAME_TOKENS = (GIVEN.side // 32) ** 2 + GIVEN.around


def prompt(frames: float) -> int:
    """Tokens of a prompt."""
    return round(frames * FRAME_TOKENS) + GIVEN.prompt


def reading(frames: float) -> float:
    """The vision tower and the prefill."""
    return frames * MODEL.vision.picture(_GRID) + MODEL.language.forward(prompt(frames), prompt(frames))


def answer(frames: float, looks: float = 0.0) -> Work:
    """One answer, with so many looks on average; the KV cache keeps what was read before a look."""
    look = MODEL.vision.picture(_GRID) + MODEL.language.forward(FRAME_TOKENS, prompt(frames) + GIVEN.written // 2)
    return Work(reading(frames) + looks * look, MODEL.language.decode(GIVEN.written, prompt(frames)))


def picture() -> Work:
    """One picture of 1344 x 752 pixels: 17 of 28 steps at strength 0.6, with guidance."""
    size = (1344, 752)
    return Work(_PAINTER.denoising(17, size, 256, guided=True) + _PAINTER.texts(2, 256) + _PAINTER.encoding(size) + _PAINTER.decoding(size))


def indexing(of: Questions) -> Work:
    """BLIP-2 over each video's frames at 3 fps, once."""
    return Work(of.videos * of.seconds * 3 * ENCODER.frame)


def evaluation(name: str, *, retrieves: bool = True, generates: bool = True, rate: float = 1.0) -> Work:
    """One run over a benchmark, without its index; `rate` is that of the initial frames."""
    of = SETS[name]
    looks = GIVEN.retrieved * retrieves + GIVEN.generated * generates
    drawn = picture() * GIVEN.generated if generates else Work()
    return (answer(of.frames * rate if of.frames > 3 else of.frames, looks) + drawn) * of.count


def training(traces: int, frames: float = 127) -> Work:
    """One epoch of LoRA: a forward pass, another for checkpointing, and the gradient through the language model; a forward pass of the tower."""
    tokens = prompt(frames) + GIVEN.written + FRAME_TOKENS
    return Work(training=traces * (3 * MODEL.language.forward(tokens, tokens) + frames * MODEL.vision.picture(_GRID)))


def experiments() -> Mapping[str, Work]:
    """The experiments of docs/full-scale.md; an index is made once, in the first row, and reused."""
    five, ablations = [name for name in SETS if name != "MINERVA"], ("Video-MME", "VCR-Bench")
    none, both = {"retrieves": False, "generates": False}, {"retrieves": True, "generates": True}
    arms = [none, both | {"generates": False}, both | {"retrieves": False}, both]
    pair = ("Video-MME", "ViTIB")
    return {
        "indexes of all videos, BLIP-2 at 3 fps": _sum([indexing(SETS[name]) for name in SETS if SETS[name].frames > 3]),
        "pictures of the construction, 1,970 tries": picture() * (1970 * GIVEN.generated),
        "training on 3,373 traces": training(3373),
        "the main table: base and trained model, five benchmarks": _sum([evaluation(name, **how) for name in five for how in (none, both)]),
        "a. four trainings on 1,000 traces, Video-MME and VCR-Bench": training(1000) * 4
        + _sum([evaluation(name, **arm) for arm in arms for name in ablations]),
        "b. one inserted frame without training, Video-MME and ViTIB": _sum([evaluation(name, **none) for name in pair]),
        "c. four filters: four trainings on 1,000 traces, Video-MME": (training(1000) + evaluation("Video-MME")) * 4,
        "d. 300, 1,000, 3,000 and 10,000 traces, Video-MME": _sum([training(n) + evaluation("Video-MME") for n in (300, 1000, 3000, 10_000)]),
        "e. three frame rates and five selections, VCR-Bench": _sum([evaluation("VCR-Bench", rate=rate) for rate in (1.0, 0.5, 0.25)])
        + evaluation("VCR-Bench") * 5,
        "f. audit of VCR-Bench: the answers, and each look again four ways": evaluation("VCR-Bench")
        + Work(0, answer(210).decoding / 2) * (1034 * 0.47 * 4),
    }


def _sum(parts: Sequence[Work]) -> Work:
    return sum(parts, Work())


def teacher_dollars(frames: float = 127, tries: float = 1970, written: float = 2500) -> float:
    """A hosted teacher at examples/prices.toml, 258 tokens a frame, and the prompt read again after a look."""
    read = (frames * 258 + GIVEN.prompt) * (1 + GIVEN.retrieved + GIVEN.generated)
    return tries * (read * 1.25 + written * 10.0) / 1e6


def tables() -> str:
    """Both tables, as the page has them."""
    pieces = {
        "an answer from 355 frames (Video-MME): vision tower and prefill": reading(355),
        "an answer from 210 frames (VCR-Bench): vision tower and prefill": reading(210),
        "the same at 0.5 fps": reading(105),
        "1,500 tokens of reasoning after 210 frames": answer(210).decoding,
        "one retrieved frame, over the KV cache": answer(210, 1.0).matrices - answer(210).matrices,
        "an index of 210 s at 3 fps": 630 * ENCODER.frame,
        "one generated picture, 1344 x 752": picture().matrices,
    }
    lines = ["| what | TFLOPs |", "|---|---:|", *(f"| {name} | {flops / 1e12:,.0f} |" for name, flops in pieces.items())]
    lines += ["", "| experiment | GPU hours | dollars |", "|---|---:|---:|"]
    found = experiments()
    for name, work in found.items():
        lines.append(f"| {name} | {_rounded(work.hours())} | {_rounded(work.hours() * GIVEN.dollars_per_hour)} |")
    whole = _sum(list(found.values())).hours()
    lines.append(f"| teacher of the construction: a hosted model, 1,970 tries of MINERVA's 1,515 questions | | {_rounded(teacher_dollars())} |")
    lines.append(f"| all of it | {_rounded(whole)} | {_rounded(whole * GIVEN.dollars_per_hour + teacher_dollars())} |")
    return "\n".join(lines)


def _rounded(value: float) -> str:
    """Two digits: the estimate has no more."""
    return f"{float(f'{value:.2g}'):,.{0 if value >= 10 else 1}f}"


if __name__ == "__main__":
    print(tables())
