"""Supervised fine-tuning on traces: transformers' Trainer over the ids that decoding would have produced."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import is_tensorboard_available, is_wandb_available
from transformers.utils import logging as transformers_logging

from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.loading import SETTINGS_FILE, reader
from act2see.backends.qwen_tokens import Encoder
from act2see.core import chat
from act2see.core.errors import ConfigError, StoreError
from act2see.storage.runs import Run
from act2see.training import memory, models, patches
from act2see.training.evaluation_callback import Plateau, Probe
from act2see.training.examples import collate_single, token_loss
from act2see.training.memory import Plan, schedule
from act2see.training.recipe import Recipe, recorded
from act2see.training.sources import Examples, Survey, limit_pixels, survey
from act2see.training.speed import Speed, peak_of, work_of
from act2see.training.trainer_loop import SaveOnInterrupt

CHECKPOINTS, METRICS = "checkpoints", "metrics.jsonl"
_WHOLE = "whole"
"""An empty file in a checkpoint that was written to its end; one without it is what a crash or a full disk left."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a training tells while it runs: a step done, a line of metrics, or a warning."""

    kind: Literal["step", "metrics", "warning"]
    step: int
    steps: int
    values: dict[str, Any]


Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data and reader of a training, before any weight is loaded."""

    recipe: Recipe
    found: Survey
    encoder: Encoder
    style: chat.Style
    notice: str | None

    def plan(self) -> Plan:
        """What the training is going to be, from the model's config alone."""
        model = models.prepare(models.outline(self.recipe), self.recipe)
        return memory.plan(model, self.found, self.recipe, world_size())


def world_size() -> int:
    """How many processes train together, as torchrun says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def prepare(recipe: Recipe, runs: Sequence[Path]) -> Prepared:
    """Read the data as the model will. Raises `BackendError`, `ConfigError` and `StoreError` with one line."""
    if not runs:
        raise ConfigError("there is nothing to train on: name run folders with --data, or in the recipe's data")
    if not Path(os.path.expanduser(recipe.model)).is_dir() and recipe.model.count("/") != 1:
        raise ConfigError(f"model {recipe.model!r}: no such folder, and no name on the hub, such as Qwen/Qwen3-VL-8B-Thinking")
    encoder, style, notice = reader(recipe.model, recipe.rendering, recipe.frames_as)
    encoder.remembered = 0  # every picture is seen once an epoch
    limit_pixels(encoder, recipe.max_pixels)
    return Prepared(recipe, survey(runs, recipe, encoder, style), encoder, style, notice)


def train(ready: Prepared, out: Path, *, resume: bool = False, probe: Probe | None = None, tell: Tell = lambda event: None) -> Path:
    """Train into `out`; returns the folder of the adapter, or of the model where all weights were trained.

    With `resume`, goes on from the last whole checkpoint, to the same losses as without the break. Ctrl-C writes a checkpoint and raises
    `KeyboardInterrupt`. Raises `StoreError` when the disk is full: the checkpoint before stays.
    """
    recipe = ready.recipe
    if torch.cuda.device_count() > 1 and world_size() == 1:
        raise ConfigError("several GPUs, but one process: start with torchrun --nproc-per-node N -m act2see train …, or set CUDA_VISIBLE_DEVICES")
    if recipe.wandb and not is_wandb_available():
        raise ConfigError("wandb is asked for but not installed: pip install wandb, or leave it out")
    transformers_logging.set_verbosity_error()
    run = _run(ready, out, resume=resume)
    checkpoint = last_checkpoint(out) if resume else None
    model = models.prepare(models.load(recipe), recipe)
    interrupt = SaveOnInterrupt()
    indices = schedule(ready.found, recipe, world_size())
    metrics = _Metrics(out / METRICS, tell, _speed(ready, indices, model))
    callbacks: list[TrainerCallback] = [interrupt, metrics]
    if probe is not None and recipe.probe_every:
        callbacks.append(_Probing(probe, ready, run, metrics))
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, out, ready.found),
        train_dataset=Examples(ready.found.items, indices, _keeping(ready, out), ready.style),
        data_collator=lambda examples: collate_single(examples, ready.encoder.tokenizer.pad_token_id),
        compute_loss_func=token_loss,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)  # the logs' lines go to `tell`
    if recipe.tensorboard and is_tensorboard_available():
        trainer.add_callback(_tensorboard(out))
    _forget_unfinished(out)
    with interrupt.listening():
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except StoreError as error:
            # From a process that prepares pictures it comes with that process's whole traceback in its text.
            raise StoreError(str(error).strip().splitlines()[-1].removeprefix("act2see.core.errors.StoreError: ")) from error
    made = _finish(trainer, ready, out)
    shutil.rmtree(out / patches.FOLDER, ignore_errors=True)
    return made


def _speed(ready: Prepared, indices: Sequence[int], model: nn.Module) -> Speed:
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    per_step = ready.recipe.batch_size * ready.recipe.accumulation * world_size()
    return Speed([ready.found.items[index] for index in indices], per_step, work_of(model), peak_of(device), world_size())


def _keeping(ready: Prepared, out: Path) -> Encoder:
    """The encoder, which makes each picture once as long as there is room for it."""
    read = ready.encoder
    limit = int(ready.recipe.keep_patches_gib * 2**30)
    seen_by = patches.KeptPatches(read.image_processor, out / patches.FOLDER, limit) if limit else read.image_processor
    return Encoder(read.tokenizer, seen_by, read.video_processor, remembered=0)


class _Trainer(Trainer):
    """The Trainer, with checkpoints that are there whole or do not count."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                (folder / _WHOLE).touch()
        except (OSError, RuntimeError, SafetensorError) as error:
            # A torch or safetensors file that cannot be written is no OSError.
            reason = _reason(error, folder)
            shutil.rmtree(folder, ignore_errors=True)
            last = last_checkpoint(folder.parent.parent)
            kept = f"{last} stays: make room and go on with --resume" if last else "there is none before it"
            raise StoreError(f"cannot write {folder}: {reason}; {kept}") from error


def _reason(error: Exception, folder: Path) -> str:
    """What the system said; torch's writer keeps that to itself and speaks of positions in its file."""
    said = (isinstance(error, OSError) and error.strerror) or (str(error).splitlines() or [type(error).__name__])[0]
    if "inline_container" not in said and "PytorchStreamWriter" not in said:
        return said
    there = folder if folder.exists() else folder.parent
    return f"a file could not be written to its end, with {shutil.disk_usage(there).free / 2**20:,.1f} MiB free"


def last_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    whole = [path.parent for path in (out / CHECKPOINTS).glob(f"checkpoint-*/{_WHOLE}")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _forget_unfinished(out: Path) -> None:
    if os.environ.get("RANK", "0") == "0":
        for folder in (out / CHECKPOINTS).glob("checkpoint-*"):
            if not (folder / _WHOLE).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _run(ready: Prepared, out: Path, *, resume: bool) -> Run | None:
    """The run folder; None in all processes but the first, which alone writes to it."""
    if os.environ.get("RANK", "0") != "0":
        return None
    config: dict[str, Any] = {
        "recipe": recorded(ready.recipe),
        "data": ready.found.digest,
        "traces": len(ready.found.items),
        "processes": world_size(),
    }
    make = Run.resume if resume and (out / "run.json").exists() else Run.create
    return make(out, command="train", config=config, seed=ready.recipe.seed)


def _arguments(recipe: Recipe, out: Path, found: Survey) -> TrainingArguments:
    on_gpu = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(recipe.workers, cores)
    sharding: dict[str, Any] = {}
    if recipe.sharded:
        layers = ["Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock"]
        # FSDP checkpoints activations itself: done by transformers too, every layer would be gathered twice.
        config = {"version": 2, "transformer_layer_cls_to_wrap": layers, "activation_checkpointing": recipe.gradient_checkpointing}
        sharding = {"fsdp": True, "fsdp_config": config}
    return TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        num_train_epochs=1,  # all epochs stand in the data set, one after the other
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        warmup_steps=round(recipe.warmup * memory.steps_of(len(found.items), recipe, world_size())),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim=recipe.optimizer,
        bf16=recipe.precision == "bf16",
        use_cpu=not on_gpu,
        activation_checkpointing=recipe.gradient_checkpointing and not recipe.sharded,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=recipe.log_every,
        logging_nan_inf_filter=False,
        save_steps=recipe.save_every,
        save_total_limit=recipe.keep_checkpoints,
        seed=recipe.seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to=["wandb"] if recipe.wandb else [],
        **sharding,
    )


def _tensorboard(out: Path) -> TrainerCallback:
    callback = TensorBoardCallback()
    callback.logging_dir = str(out / "tensorboard")
    return callback


def _finish(trainer: Trainer, ready: Prepared, out: Path) -> Path:
    """Write what was trained, whole or not at all, with what a reader of the folder needs beside it."""
    full = ready.recipe.method == "full"
    folder = out / ("model" if full else "adapter")
    unfinished = out / f".{folder.name}.unfinished"
    try:
        trainer.save_model(str(unfinished))  # every process takes part when weights are sharded
        if trainer.is_world_process_zero():
            said = {"frames_as": ready.style.frames_as, "rendering": ready.style.rendering} | ({"notice": ready.notice} if ready.notice else {})
            (unfinished / SETTINGS_FILE).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
            for part in (ready.encoder.tokenizer, ready.encoder.image_processor, ready.encoder.video_processor) if full else ():
                if part is not None:
                    part.save_pretrained(unfinished)
            (unfinished / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json tells the same
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason(error, out)
        shutil.rmtree(unfinished, ignore_errors=True)
        last = last_checkpoint(out)
        raise StoreError(f"cannot write {folder}: {reason}; make room and go on with --resume from {last}") from error
    trainer.accelerator.wait_for_everyone()
    return folder


class _Metrics(TrainerCallback):
    """Every line of logs into metrics.jsonl, and to whoever listens. A resumed run's lines go on after its checkpoint's."""

    def __init__(self, path: Path, tell: Tell, speed: Speed) -> None:
        self.path, self.tell, self.speed = path, tell, speed
        self.losses: list[float] = []
        """Since the last probe."""
        self._last: float | None = None
        self._began = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Drop the lines of steps that are going to be done again."""
        self._began = time.monotonic()
        self.speed.begin()
        if state.is_world_process_zero and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
            unfinished = self.path.with_name(f".{self.path.name}")
            unfinished.write_text("".join(kept), encoding="utf-8")
            unfinished.replace(self.path)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tell of the step."""
        self.speed.step(state.global_step)
        if state.is_world_process_zero:
            self.tell(Event("step", state.global_step, state.max_steps, {"loss": self._last}))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Write a line."""
        if logs and "loss" in logs:
            self._last = float(logs["loss"])
            self.losses.append(self._last)
            logs = {**logs, **self.speed.read()}
        if logs:
            self.write(state, {"seconds": round(time.monotonic() - self._began, 2), **logs})

    def write(self, state: TrainerState, values: dict[str, Any]) -> None:
        """Add a line, in the first process. Raises `StoreError` when the disk is full."""
        if not state.is_world_process_zero:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **values}) + "\n")
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}; make room and go on with --resume") from error
        self.tell(Event("metrics", state.global_step, state.max_steps, values))


class _Probing(TrainerCallback):
    """Held-out decoding every so many steps. All processes ask the same, so that sharded weights are gathered by all at once."""

    def __init__(self, probe: Probe, ready: Prepared, run: Run | None, metrics: _Metrics) -> None:
        self.probe, self.ready, self.run, self.metrics = probe, ready, run, metrics
        self.plateau = Plateau()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask, when it is time."""
        if state.global_step % self.ready.recipe.probe_every and state.global_step != state.max_steps:
            return
        model = kwargs["model"]
        settings = HuggingFaceSettings(self.ready.recipe.model, temperature=0.0, max_tokens=self.ready.recipe.probe_max_tokens)
        encoder = Encoder(self.ready.encoder.tokenizer, self.ready.encoder.image_processor, self.ready.encoder.video_processor)
        cpu, gpus = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        model.eval()
        try:
            scores, traces = self.probe.ask(HuggingFaceBackend(settings, model, encoder, self.ready.style))
        finally:
            model.train()
            torch.set_rng_state(cpu)
            if gpus:
                torch.cuda.set_rng_state_all(gpus)
        self._tell(state, scores)
        if self.run is not None:
            for trace in traces:
                trace.id = f"step-{state.global_step}/{trace.id}"
                self.run.append(trace)

    def _tell(self, state: TrainerState, scores: dict[str, Any]) -> None:
        self.metrics.write(state, {"probe": scores})
        recent, self.metrics.losses = self.metrics.losses, []
        if not recent:
            return
        warning = self.plateau.warning(sum(recent) / len(recent), scores["accuracy"])
        if warning and state.is_world_process_zero:
            self.metrics.write(state, {"warning": warning})
            self.metrics.tell(Event("warning", state.global_step, state.max_steps, {"warning": warning}))


def as_json(ready: Prepared, plan: Plan) -> dict[str, Any]:
    """A dry run's plan as one value."""
    return {**asdict(plan), "needed": plan.needed, "skipped": {reason: len(names) for reason, names in ready.found.skipped.items()}}
