"""Tokens a second and memory of fine-tuning, against TRL's SFTTrainer on the same model, traces and batches.

    python benchmarks/train.py [--traces 24] [--frames 8] [--size 224] [--epochs 2] [--batch 2] [--workers 1] [--json]

Both train all weights of a model of the embedded one's shape, with random weights, in float32 on one thread, each in a process of its own, one after
the other; the first three steps are not counted. TRL reads what `act2see export --format trl` writes; its frames are masked by our chat template. A
token is a token of a trace, padding not counted. Needs the `local`, `train`, `export` and `dev` extras.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from act2see.core.trace import Answer, Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.storage.runs import Run

_WARM = 3
SIDES = ("act2see", "trl")


def main() -> None:
    """Print a table, or a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=24)
    parser.add_argument("--frames", type=int, default=8, help="initial frames of a trace")
    parser.add_argument("--size", type=int, default=224, help="side of a frame in pixels")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="data-loading processes")
    parser.add_argument("--json", action="store_true", help="print only one line of JSON")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.side:
        print(json.dumps({"act2see": ours, "trl": theirs}[given.side](given)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder, given)
        found = {side: _run(side, folder) for side in SIDES}
    mine, peer = found["act2see"], found["trl"]
    result = {
        **found,
        "ratio_tokens_per_second": round(mine["tokens_per_second"] / peer["tokens_per_second"], 3),
        "ratio_memory": round(mine["peak_mib"] / peer["peak_mib"], 3),
        "frames": given.frames,
        "size": given.size,
        "batch": given.batch,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result) if given.json else json.dumps(result, indent=2))


def _run(side: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", str(folder)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def make(folder: Path, given: argparse.Namespace) -> None:
    """The model's folder, the run of traces, and the run as TRL reads it."""
    from act2see.config import ExportConfig
    from act2see.curation.export import export_run
    from act2see.training.micro.model import make_image_processor, make_tokenizer, make_vlm, save_parts

    torch.manual_seed(0)
    tokenizer = make_tokenizer(count=200)
    make_vlm(tokenizer).save_pretrained(folder / "model")
    save_parts(folder / "model", tokenizer, make_image_processor(pixels=given.size**2))
    run = Run.create(folder / "run", command="benchmark", config={}, seed=0)
    rng = np.random.default_rng(0)

    def frame(seconds: float) -> Frame:
        small = Image.fromarray(rng.integers(0, 256, (given.size // 8, given.size // 8, 3), np.uint8))
        return Frame(small.resize((given.size, given.size)), seconds)

    for number in range(given.traces):
        thought = "<think>" + "The star is red. " * int(rng.integers(4, 24))
        seen = Observation(frames=(frame(0.5),))
        steps: list[Step] = [Thought(thought), Retrieve(" the star "), seen, Thought(" There it is.</think>"), Answer(" red")]
        frames = tuple(frame(float(second)) for second in range(given.frames))
        run.append(Trace(f"t{number}", "v.mp4", "What colour is the star?", frames, ("red", "blue"), steps=steps, finish="answer"))
    export_run(run, ExportConfig("trl", folder / "trl"))


class Clock:
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def tick(self) -> None:
        """A step ended now."""
        self.ends.append(time.perf_counter())

    def result(self, tokens: list[int]) -> dict[str, Any]:
        """Tokens a second after the warm steps, whose tokens are the first in `tokens`, and the most memory that this process held."""
        seconds = self.ends[-1] - self.ends[_WARM - 1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "tokens_per_second": round(sum(tokens[_WARM:]) / seconds, 1),
            "seconds": round(seconds, 2),
            "steps": len(self.ends) - _WARM,
            "tokens": sum(tokens[_WARM:]),
            "peak_mib": round(peak),
        }


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """Our training."""
    from act2see.training import sft
    from act2see.training.memory import schedule
    from act2see.training.progress import StepCompleted
    from act2see.training.recipe import Recipe

    parts: Any = ("language", "projector", "vision")
    recipe = Recipe(
        str(given.folder / "model"),
        method="full",
        parts=parts,
        epochs=given.epochs,
        batch_size=given.batch,
        learning_rate=1e-4,
        precision="float32",
        gradient_checkpointing=False,
        workers=given.workers,
        save_every=10**6,
        tensorboard=False,
    )
    prepared = sft.prepare(recipe, [given.folder / "run"])
    clock = Clock()
    sft.train(prepared, given.folder / "out", progress=lambda event: clock.tick() if isinstance(event, StepCompleted) else None)
    lengths = [prepared.survey.items[index].tokens for index in schedule(prepared.survey, recipe, 1)]
    return clock.result([sum(lengths[at : at + given.batch]) for at in range(0, len(lengths), given.batch)])


def theirs(given: argparse.Namespace) -> dict[str, Any]:
    """TRL's."""
    from datasets import load_dataset
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, Qwen3VLProcessor, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class WithoutVideos(Qwen3VLProcessor):
        """Qwen3-VL's processor without the part for videos, which needs torchvision."""

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            """Let the missing part pass."""
            return None if argument_name == "video_processor" else cast("Any", super()).check_argument_for_proper_class(argument_name, argument)

    clock, tokens = Clock(), list[int]()

    class Ticks(TrainerCallback):
        """Tells the clock."""

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            """A step ended."""
            clock.tick()

    model_folder = given.folder / "model"
    data = load_dataset("imagefolder", data_dir=str(given.folder / "trl"), split="train", cache_dir=str(given.folder / "cache"))
    arguments = SFTConfig(
        output_dir=str(given.folder / "theirs"),
        chat_template_path=str(given.folder / "trl" / "chat_template.jinja"),
        assistant_only_loss=True,
        max_length=None,
        num_train_epochs=given.epochs,
        per_device_train_batch_size=given.batch,
        learning_rate=1e-4,
        activation_checkpointing=False,
        bf16=False,
        use_cpu=True,
        train_sampling_strategy="sequential",
        dataloader_num_workers=given.workers,
        dataloader_persistent_workers=given.workers > 0,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    processor = cast("Any", WithoutVideos)(
        image_processor=AutoImageProcessor.from_pretrained(model_folder),
        tokenizer=AutoTokenizer.from_pretrained(model_folder),
        video_processor=None,
    )
    model = AutoModelForImageTextToText.from_pretrained(model_folder, dtype="float32")
    trainer: Any = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=processor, callbacks=[Ticks()])
    trainer.train()
    for batch in [list(range(at, min(at + given.batch, len(data)))) for at in range(0, len(data), given.batch)] * given.epochs:
        tokens.append(int(trainer.data_collator([data[index] for index in batch])["attention_mask"].sum()))
    return clock.result(tokens)


if __name__ == "__main__":
    main()
