"""Fine-tuning a tiny Qwen3-VL: what changes and what does not, resuming, two processes, interrupts, a full disk, held-out decoding."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from act2see import cli
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.core.chat import Tool
from act2see.core.errors import ConfigError, StoreError
from act2see.core.interfaces import Continuation, Sample
from act2see.core.trace import Answer, Cost, Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.storage.runs import Run
from act2see.training import sft
from act2see.training.evaluation_callback import HeldOutEvaluation, PlateauDetector, is_valid
from act2see.training.micro.model import SPECIAL, make_image_processor, make_tokenizer, save_parts
from act2see.training.models import part_of, targets
from act2see.training.progress import ProgressCallback, StepCompleted, TrainEvent, no_progress
from act2see.training.recipe import Recipe

TRACES = 8


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-VL of 130,000 parameters with random weights, and all that stands beside weights."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    tokenizer = make_tokenizer(count=20)
    ids: dict[str, Any] = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in SPECIAL}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 8, "out_hidden_size": 32}
    config = Qwen3VLConfig(
        text_config={**text, "vocab_size": len(tokenizer), "rope_parameters": rope, "eos_token_id": ids["<|im_end|>"]},
        vision_config={**vision, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    save_parts(folder, tokenizer, make_image_processor(32 * 32))
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traces of different lengths."""
    random = np.random.default_rng(0)

    def frame(seconds: float) -> Frame:
        return Frame(Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)), seconds)

    run = Run.create(tmp_path_factory.mktemp("data") / "run", command="test", config={}, seed=0)
    for number in range(TRACES):
        seen = Observation(frames=(frame(1.3),))
        steps: list[Step] = [Thought("<think>I look."), Retrieve(" the star "), seen, Thought(" Red." * (number + 1) + "</think>"), Answer("A")]
        run.append(Trace(f"t{number}", "v.mp4", "What colour?", (frame(0.0), frame(1.0)), ("red", "blue"), steps=steps, finish="answer"))
    return run.folder


def recipe(base: Path, **changes: Any) -> Recipe:
    settled: dict[str, Any] = {"precision": "float32", "workers": 0, "learning_rate": 1e-3, "log_every": 1, "warmup": 0.0, "tensorboard": False}
    return Recipe(str(base), **{**settled, "gradient_checkpointing": False, **changes})


def trained(base: Path, data: Path, out: Path, *, progress: ProgressCallback = no_progress, **changes: Any) -> Path:
    return sft.train(sft.prepare(recipe(base, **changes), [data]), out, resume=out.exists(), progress=progress)


def losses(out: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def hashes(folder: Path) -> dict[str, str]:
    tensors = load_file(folder / "model.safetensors")
    return {name: hashlib.sha256(tensor.float().numpy().tobytes()).hexdigest() for name, tensor in tensors.items()}


# What changes


def test_adapters_are_trained_and_the_loss_falls(base: Path, data: Path, tmp_path: Path) -> None:
    folder = trained(base, data, tmp_path / "out", epochs=3, gradient_checkpointing=True)
    assert folder == tmp_path / "out" / "adapter"
    found = [loss for _, loss in losses(tmp_path / "out")]
    assert len(found) == 3 * TRACES
    assert np.mean(found[-4:]) < np.mean(found[:4]) - 0.2
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["tokens_per_second"] > 0 for line in lines if "loss" in line)
    adapters = load_file(folder / "adapter_model.safetensors")
    assert {part_of(name) for name in adapters} == {"language"}
    assert all(tensor.abs().max() > 0 for name, tensor in adapters.items() if "lora_B" in name)  # they begin at 0
    settings = HuggingFaceSettings(str(base), adapter=str(folder), temperature=0, max_tokens=3)
    assert HuggingFaceBackend.load(settings).made_with["adapter"] == "adapter"


@pytest.mark.parametrize("part", ["language", "projector", "vision"])
def test_only_the_chosen_part_changes(base: Path, data: Path, tmp_path: Path, part: Any) -> None:
    folder = trained(base, data, tmp_path / "out", method="full", parts=(part,), accumulation=4)
    before, after = hashes(base), hashes(folder)
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert {part_of(name) for name in changed} == {part}
    may_stay = ("embed_tokens", "pos_embed")  # an embedding's rows that no trace has, in full; and positions' grid is interpolated
    assert {name for name in before if part_of(name) == part and not any(word in name for word in may_stay)} <= changed
    HuggingFaceBackend.load(HuggingFaceSettings(str(folder)))


def test_adapters_are_named_as_servers_expect_where_that_tells_parts_apart(base: Path) -> None:
    model = Qwen3VLForConditionalGeneration.from_pretrained(base)
    language = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert targets(model, ("language",)) == language
    assert targets(model, ("language", "projector", "vision")) == sorted([*language, "linear_fc1", "linear_fc2", "proj", "qkv"])
    assert all("merger" in name for name in targets(model, ("projector",)))


def test_full_training_lowers_the_loss(base: Path, data: Path, tmp_path: Path) -> None:
    trained(base, data, tmp_path / "out", method="full", parts=("language", "projector", "vision"), epochs=2, precision="bf16")
    found = [loss for _, loss in losses(tmp_path / "out")]
    assert np.mean(found[-4:]) < np.mean(found[:4]) - 0.2
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["tokens_per_second"] > 0 for line in lines if "loss" in line)


# Resuming


@pytest.fixture(scope="module")
def whole(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    trained(base, data, out, accumulation=2)
    return out


def test_ctrl_c_saves_and_a_resumed_run_has_the_losses_of_an_uninterrupted_one(base: Path, data: Path, tmp_path: Path, whole: Path) -> None:
    def press(event: TrainEvent) -> None:
        if isinstance(event, StepCompleted) and event.step == 2 and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    pressed: list[bool] = []
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        trained(base, data, out, accumulation=2, progress=press)
    last = sft.last_checkpoint(out)
    assert last is not None
    assert last.name in ("checkpoint-2", "checkpoint-3")
    assert not (out / "adapter").exists()
    trained(base, data, out, accumulation=2)
    assert [step for step, _ in losses(out)] == [1, 2, 3, 4]
    assert [loss for _, loss in losses(out)] == pytest.approx([loss for _, loss in losses(whole)], abs=1e-5)
    one, other = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (out, whole))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def test_a_resumed_run_must_be_the_same_run(base: Path, data: Path, whole: Path) -> None:
    with pytest.raises(StoreError, match=r"made with other settings: recipe.lora_rank was 32 and is 8"):
        trained(base, data, whole, accumulation=2, lora_rank=8)
    with pytest.raises(StoreError, match="holds a run already"):
        sft.train(sft.prepare(recipe(base), [data]), whole)


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(base: Path, data: Path, tmp_path: Path, whole: Path) -> None:
    """The kernel refuses to let any file grow further, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: TrainEvent) -> None:
        if isinstance(event, StepCompleted) and event.step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    out = tmp_path / "out"
    try:
        with pytest.raises(StoreError) as caught:
            trained(base, data, out, accumulation=2, save_every=1, progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    checkpoints = out / "checkpoints"
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"cannot write {checkpoints / 'checkpoint-3'}: ")
    assert "File too large" in str(caught.value)
    assert str(caught.value).endswith(f"{checkpoints / 'checkpoint-2'} is kept: free disk space and continue with --resume")
    (checkpoints / "checkpoint-9").mkdir()  # what a killed process leaves
    trained(base, data, out, accumulation=2, save_every=1)
    assert [loss for _, loss in losses(out)] == pytest.approx([loss for _, loss in losses(whole)], abs=1e-5)


def test_a_picture_that_goes_while_it_trains_is_one_line(base: Path, data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "data")
    ready = sft.prepare(recipe(base, workers=1), [copy])
    for path in (copy / "frames").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError) as caught:
        sft.train(ready, tmp_path / "out")
    assert str(caught.value).startswith(f"{copy / 'traces.jsonl'}:")
    assert "cannot be read as a picture" in str(caught.value)
    assert "\n" not in str(caught.value)


# Several processes

TORCHRUN = """
import sys
from dataclasses import asdict
from pathlib import Path
from act2see.training import sft
from act2see.training.recipe import Recipe
base, data, out, sharded = sys.argv[1:]
wanted = Recipe(base, precision="float32", workers=0, learning_rate=1e-3, log_every=1, warmup=0.0, tensorboard=False, gradient_checkpointing=False,
                sharded=sharded == "sharded")
sft.train(sft.prepare(wanted, [Path(data)]), Path(out))
"""


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_accumulation(base: Path, data: Path, tmp_path: Path, whole: Path) -> None:
    """By sharded weights (FSDP over gloo), the harder of the two ways."""
    program = tmp_path / "program.py"
    program.write_text(TORCHRUN)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d"]
    words += ["--rdzv-endpoint", "localhost:0", str(program), str(base), str(data), str(tmp_path / "out"), "sharded"]
    done = subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert dict(losses(tmp_path / "out")) == pytest.approx(dict(losses(whole)), abs=1e-4)
    one, other = (load_file(out / "adapter" / "adapter_model.safetensors") for out in (tmp_path / "out", whole))
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


# Held-out decoding


class Clips:
    """A benchmark of two questions about one clip."""

    name = "clips"

    def __init__(self, video: Path) -> None:
        self.video = video

    def samples(self) -> Iterator[Sample]:
        for number, kind in enumerate(("static", "transient", "static")):
            yield Sample(f"q{number}", self.video, "What?", ("red", "blue"), "red", kind)

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        return trace.answer == "A"


class Scripted:
    """A backend that looks where the kind asks for it."""

    made_with: Mapping[str, str] = {}

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        texts = {
            "q0": ["<answer>A</answer>"],
            "q1": ["<retrieve>x</retrieve>", "<answer>B</answer>"],
            "q2": ["<answer></answer>", "<answer>A</answer>"],
        }
        text = texts[trace.id][sum(isinstance(step, Observation) for step in trace.steps)]
        yield text
        return Continuation(text, "tag", Cost())


class Finds:
    """A retriever of one frame."""

    name = "finds"

    def find(self, video: Any, query: str, *, shown: Any, count: int = 1) -> list[Frame]:
        return [Frame(Image.new("RGB", (32, 32)), 0.3)]


def test_the_evaluation_counts_answers_calls_format_and_looks(write_video: Callable[..., Path]) -> None:
    video = write_video("clip.mp4", [n / 24 for n in range(24)])
    scores, traces = HeldOutEvaluation(Clips(video), Finds(), count=3).run(Scripted())
    assert asdict(scores) == {
        "n": 3, "accuracy": 0.6667, "call_rate": {"static": 0.0, "transient": 1.0}, "format": 0.6667, "looks": 0.3333, "failed": 0,
    }  # fmt: skip
    assert [is_valid(trace) for trace in traces] == [True, True, False]  # an empty answer cannot be read
    gone, _ = HeldOutEvaluation(Clips(video.with_name("gone.mp4")), Finds(), count=2).run(Scripted())
    assert (gone.n, gone.failed, gone.accuracy) == (2, 2, 0.0)


def test_held_out_questions_are_asked_by_decoding_and_change_nothing(
    base: Path, data: Path, tmp_path: Path, whole: Path, write_video: Callable[..., Path]
) -> None:
    video = write_video("clip.mp4", [n / 24 for n in range(24)])
    ready = sft.prepare(recipe(base, accumulation=2, probe_every=2, probe_max_tokens=4), [data])
    sft.train(ready, tmp_path / "out", held_out=HeldOutEvaluation(Clips(video), Finds(), count=1))
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    probes = {line["step"]: line["probe"] for line in lines if "probe" in line}
    assert probes.keys() == {2, 4}
    assert (probes[2]["n"], probes[2]["failed"]) == (1, 0)
    assert losses(tmp_path / "out") == losses(whole)
    assert [trace.id for trace in Run.open(tmp_path / "out").traces()] == ["step-2/q0", "step-4/q0"]


def test_a_falling_loss_with_flat_accuracy_is_warned_about() -> None:
    flat, rising = PlateauDetector(), PlateauDetector()
    assert [flat.update(loss, 0.25) is not None for loss in (4.0, 3.0, 2.0, 1.0)] == [False, False, False, True]
    assert not any(rising.update(loss, score) for loss, score in ((4.0, 0.2), (3.0, 0.2), (2.0, 0.4), (1.0, 0.4)))
    still = PlateauDetector()
    assert not any(still.update(1.0, 0.25) for _ in range(6))


# The command line


def write_recipe(folder: Path, base: Path, data: Path, more: str = "") -> Path:
    path = folder / "recipe.toml"
    settled = 'precision = "float32"\nworkers = 0\naccumulation = 4\nlearning_rate = 1e-3\ntensorboard = false\n'
    path.write_text(f'model = "{base}"\ndata = ["{data}"]\n{settled}{more}')
    return path


def test_the_command_looks_before_it_trains(base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_recipe(tmp_path, base, data)
    assert cli.main(["train", str(path), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["traces"], told["steps"]) == (TRACES, TRACES // 4)
    assert 0 < told["trained"] < told["parameters"]
    assert told["needed"] == pytest.approx(sum(told["memory"].values()), abs=0.01)
    assert cli.main(["train", str(path), "--dry-run"]) == 0
    assert "lora on language" in capsys.readouterr().out
    out = tmp_path / "out"
    assert cli.main(["train", str(path), "--out", str(out), "--resume"]) == 0
    assert capsys.readouterr().out == f"{out / 'adapter'}\n"


@pytest.mark.parametrize(
    ("more", "arguments", "complaint"),
    [
        ("memory_gib = 0.5", ["--dry-run"], "GiB and 0.5 are available; the largest part is overhead"),
        ("", [], "missing --out (a folder), or use --dry-run"),
        ('method = "qlora"', ["--out", "out"], "needs bitsandbytes: pip install bitsandbytes"),
        ("wandb = true", ["--out", "out"], "wandb is enabled but not installed"),
        ("max_tokens = 5", ["--dry-run"], "no traces to train on; 8 of 8 traces skipped, longer than max_tokens 5"),
        ("", ["--dry-run", "--model", "nowhere"], "model 'nowhere': no such folder"),
        ("", ["--dry-run", "--model", "."], "cannot load .: "),
        ("", ["--dry-run", "--data", "nowhere"], "no run in nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_one_line(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    more: str, arguments: list[str], complaint: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path, base, data, more)
    assert cli.main(["train", str(path), *arguments]) == 1
    err = capsys.readouterr().err.strip().splitlines()
    assert complaint in err[-1]
    assert all(line.startswith("act2see: ") for line in err)


def test_a_training_without_data_is_refused(base: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="name run folders with --data"):
        sft.prepare(recipe(base), [])
