"""Seconds and peak memory of one imagined frame, by model, steps and strength, and what remembering saves over a ladder of strengths.

    python benchmarks/generate.py [--models random random-klein DIR ...] [--steps 4 8] [--side 256] [--repeat 5] [--json]

`random` is a Stable Diffusion 3 with random weights in the embedded generator's shape, `random-klein` a FLUX.2-klein of the real classes with few and
narrow layers: their times are those of trained weights of that shape, their pictures noise. A
folder, a preset's name or a hub name is loaded as `act2see generate` would. The ladder is three strengths on one anchor and prompt; the peer is
diffusers' own pipeline, called three times. Both stand in one run, each figure is the median of the repeats.
"""

import argparse
import json
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from act2see.synthetic.world import make_scene
from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings

LADDER = (0.5, 0.65, 0.8)
PROMPT = "the star on the left"


def main() -> None:
    """Measure and print a line a model and number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["random", "random-klein"])
    parser.add_argument("--steps", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory", default="auto", choices=("auto", "none", "model-offload", "group-offload", "nf4"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    machine = {"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    if torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in given.models:
            made_here = {"random": _random, "random-klein": random_klein}
            named = str(made_here[model](Path(scratch))) if model in made_here else model
            for steps in given.steps:
                rows.append({"model": model, "steps": steps, **_measure(named, steps, given.side, given.repeat, given.memory)})
                if not given.json:
                    print("  ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in rows[-1].items()))
    print(json.dumps({**machine, "rows": rows}) if given.json else "  ".join(f"{name} {value}" for name, value in machine.items()))


def _random(folder: Path) -> Path:
    from act2see.training.micro.generator import make_codec, make_text_encoder, make_text_tokenizer, make_transformer, save_pipeline

    torch.manual_seed(0)
    tokenizer = make_text_tokenizer()
    encoders = [make_text_encoder(len(tokenizer), width) for width in (96, 32)]
    save_pipeline(folder / "random", tokenizer, make_transformer(), encoders[0], encoders[1], make_codec())
    return folder / "random"


def random_klein(folder: Path) -> Path:
    """A FLUX.2-klein of the real classes, with random weights and as few of them as the pipeline works with."""
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from act2see.training.micro.model import make_tokenizer

    torch.manual_seed(0)
    tokenizer = make_tokenizer(count=50)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    layers = 28  # the pipeline reads the text after the 9th, the 18th and the 27th
    text = Qwen3Config(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=layers, tie_word_embeddings=True, **heads)
    channels = 4
    transformer = Flux2Transformer2DModel(
        in_channels=4 * channels,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * 16,
        axes_dims_rope=(4, 4, 4, 4),
        timestep_guidance_channels=16,
        guidance_embeds=False,
    )
    pipeline = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), latent_channels=channels, norm_num_groups=4, layers_per_block=1, sample_size=64),
        text_encoder=Qwen3ForCausalLM(text),
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=True,
    )
    pipeline.save_pretrained(folder / "random-klein")
    return folder / "random-klein"


def _measure(model: str, steps: int, side: int, repeat: int, memory: Any) -> dict[str, Any]:
    import random

    clip = make_scene(random.Random(0))
    anchors = [clip.draw(number / 4).resize((side, side)) for number in range(repeat + 1)]
    painter = DiffusionPainter.load(DiffusionSettings(model=model, steps=steps, memory=memory))
    first = painter.strengths[0]
    one = _median(lambda number: painter.paint(PROMPT, anchors[number], seed=number, strength=first), repeat)
    rungs = painter.strengths if first is None else LADDER

    def ladder(number: int) -> None:
        for strength in rungs:
            painter.paint(PROMPT, anchors[number], seed=number + 100, strength=strength)

    remembered = _median(ladder, repeat)
    plain = _median(lambda number: _plain(model, steps, anchors[number], rungs, number), repeat)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": one, "ladder_seconds": remembered, "diffusers_ladder_seconds": plain, "ratio": remembered / plain, "peak_GiB": peak / 2**30}


_loaded: dict[str, Any] = {}


def _plain(model: str, steps: int, anchor: Any, strengths: Any, seed: int) -> None:
    """The ladder as diffusers' users write it."""
    if model not in _loaded:
        _loaded[model] = DiffusionPainter.load(DiffusionSettings(model=model, steps=steps))
        pipeline = _loaded[model]._pipeline
        pipeline.encode_prompt = type(pipeline).encode_prompt.__get__(pipeline)
        pipeline.vae.encode = type(pipeline.vae).encode.__get__(pipeline.vae)
    painter = _loaded[model]
    for strength in strengths:
        painter.paint(PROMPT, anchor, seed=seed + 100, strength=strength)


def _median(run: Callable[[int], Any], repeat: int) -> float:
    run(repeat)  # what is made once, and warm caches
    times = []
    for number in range(repeat):
        started = time.perf_counter()
        run(number)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
