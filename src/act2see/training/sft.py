"""Supervised fine-tuning on traces: transformers' Trainer on exactly the token ids that decoding produces."""

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import is_tensorboard_available, is_wandb_available
from transformers.utils import logging as transformers_logging

from act2see.backends.encoder import Encoder
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.loading import SETTINGS_FILE, check_trainable, reader
from act2see.core import chat
from act2see.core.errors import ConfigError, StoreError
from act2see.storage.runs import JSON, Run
from act2see.training import memory, models, patches
from act2see.training.evaluation_callback import HeldOutEvaluation, HeldOutScores, PlateauDetector
from act2see.training.examples import collate_single, token_loss
from act2see.training.memory import Plan, schedule
from act2see.training.progress import MetricsLogged, ProgressCallback, StepCompleted, no_progress
from act2see.training.recipe import Recipe, recorded
from act2see.training.sources import Examples, Survey, limit_pixels, survey
from act2see.training.throughput import Throughput, cost_per_token, peak_flops
from act2see.training.trainer_loop import SaveOnInterrupt

_log = logging.getLogger(__name__)

CHECKPOINTS, METRICS = "checkpoints", "metrics.jsonl"
_COMPLETE = "whole"
"""Marker file that is written last into a checkpoint; a checkpoint without it was cut off by a crash or a full disk."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Data and tokenization of a training run, before any weights are loaded."""

    recipe: Recipe
    survey: Survey
    encoder: Encoder
    style: chat.Style
    notice: str | None

    def plan(self) -> Plan:
        """Size, length and memory of the run, computed from the model's config alone."""
        model = models.prepare(models.outline(self.recipe), self.recipe)
        return memory.plan(model, self.survey, self.recipe, world_size())


def world_size() -> int:
    """Number of training processes, as set by torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def prepare(recipe: Recipe, runs: Sequence[Path]) -> Prepared:
    """Read the traces and count their tokens. Raises `BackendError`, `ConfigError` and `StoreError`, each with one line."""
    if not runs:
        raise ConfigError("no training data: name run folders with --data, or in the recipe's data")
    if not Path(os.path.expanduser(recipe.model)).is_dir() and recipe.model.count("/") != 1:
        raise ConfigError(f"model {recipe.model!r}: no such folder, and not a name on the Hub, such as Qwen/Qwen3-VL-8B-Thinking")
    check_trainable(recipe.model)
    encoder, style, notice = reader(recipe.model, recipe.rendering, recipe.frames_as)
    encoder.remembered = 0  # every picture is encoded once per epoch, so caching them in memory gains nothing
    limit_pixels(encoder, recipe.max_pixels)
    return Prepared(recipe, survey(runs, recipe, encoder, style), encoder, style, notice)


def train(
    prepared: Prepared, out: Path, *, resume: bool = False, held_out: HeldOutEvaluation | None = None, progress: ProgressCallback = no_progress
) -> Path:
    """Train into `out`; returns the folder of the adapter, or of the model if all weights were trained.

    `resume` continues from the last complete checkpoint, with the same losses as an uninterrupted run. Ctrl-C writes a checkpoint and raises
    `KeyboardInterrupt`. Raises `StoreError` if the disk is full; the previous checkpoint is kept.
    """
    recipe = prepared.recipe
    if torch.cuda.device_count() > 1 and world_size() == 1:
        raise ConfigError("several GPUs but one process: start with torchrun --nproc-per-node N -m act2see train …, or set CUDA_VISIBLE_DEVICES")
    if recipe.wandb and not is_wandb_available():
        raise ConfigError("wandb is enabled but not installed: pip install wandb, or disable it")
    transformers_logging.set_verbosity_error()
    run = _open_run(prepared, out, resume=resume)
    checkpoint = last_checkpoint(out) if resume else None
    model = models.prepare(models.load(recipe), recipe)
    interrupt = SaveOnInterrupt()
    indices = schedule(prepared.survey, recipe, world_size())
    metrics = _Metrics(out / METRICS, progress, _throughput(prepared, indices, model))
    callbacks: list[TrainerCallback] = [interrupt, metrics]
    if held_out is not None and recipe.probe_every:
        callbacks.append(_EvaluationCallback(held_out, prepared, run, metrics))
    trainer = _Trainer(
        model=model,
        args=_arguments(recipe, out, prepared.survey),
        train_dataset=Examples(prepared.survey.items, indices, _caching_encoder(prepared, out), prepared.style),
        data_collator=lambda examples: collate_single(examples, prepared.encoder.tokenizer.pad_token_id),
        compute_loss_func=token_loss,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)  # `progress` reports the log lines
    if recipe.tensorboard and is_tensorboard_available():
        trainer.add_callback(_tensorboard(out))
    _remove_incomplete_checkpoints(out)
    with interrupt.listening():
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except StoreError as error:
            # An error of a data loader's worker arrives with that worker's whole traceback in its text.
            raise StoreError(str(error).strip().splitlines()[-1].removeprefix("act2see.core.errors.StoreError: ")) from error
    folder = _save_result(trainer, prepared, out)
    shutil.rmtree(out / patches.FOLDER, ignore_errors=True)
    return folder


def _throughput(prepared: Prepared, indices: Sequence[int], model: nn.Module) -> Throughput:
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    per_step = prepared.recipe.batch_size * prepared.recipe.accumulation * world_size()
    return Throughput([prepared.survey.items[index] for index in indices], per_step, cost_per_token(model), peak_flops(device), world_size())


def _caching_encoder(prepared: Prepared, out: Path) -> Encoder:
    """The encoder with a patch cache on disk, of the size that the recipe allows."""
    plain = prepared.encoder
    limit = int(prepared.recipe.keep_patches_gib * 2**30)
    image_processor = patches.CachedImageProcessor(plain.image_processor, out / patches.FOLDER, limit) if limit else plain.image_processor
    return Encoder(plain.tokenizer, image_processor, plain.video_processor, remembered=0)


class _Trainer(Trainer):
    """The Trainer, with checkpoints that are marked once they are complete."""

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                (folder / _COMPLETE).touch()
        except (OSError, RuntimeError, SafetensorError) as error:
            # torch and safetensors raise other types than OSError for a failed write.
            reason = _write_failure(error, folder)
            shutil.rmtree(folder, ignore_errors=True)
            last = last_checkpoint(folder.parent.parent)
            kept = f"{last} is kept: free disk space and continue with --resume" if last else "there is no earlier checkpoint"
            raise StoreError(f"cannot write {folder}: {reason}; {kept}") from error


def _write_failure(error: Exception, folder: Path) -> str:
    """Why a write failed. torch's writer hides the system's reason and reports offsets in its file."""
    message = (isinstance(error, OSError) and error.strerror) or (str(error).splitlines() or [type(error).__name__])[0]
    if "inline_container" not in message and "PytorchStreamWriter" not in message:
        return message
    existing = folder if folder.exists() else folder.parent
    return f"a file could not be written completely, with {shutil.disk_usage(existing).free / 2**20:,.1f} MiB free"


def last_checkpoint(out: Path) -> Path | None:
    """The newest complete checkpoint."""
    complete = [path.parent for path in (out / CHECKPOINTS).glob(f"checkpoint-*/{_COMPLETE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _remove_incomplete_checkpoints(out: Path) -> None:
    if os.environ.get("RANK", "0") == "0":
        for folder in (out / CHECKPOINTS).glob("checkpoint-*"):
            if not (folder / _COMPLETE).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _open_run(prepared: Prepared, out: Path, *, resume: bool) -> Run | None:
    """The run folder; None in all processes but the main one, which alone writes to it."""
    if os.environ.get("RANK", "0") != "0":
        return None
    config: dict[str, JSON] = {
        "recipe": recorded(prepared.recipe),
        "data": prepared.survey.digest,
        "traces": len(prepared.survey.items),
        "processes": world_size(),
    }
    open_run = Run.resume if resume and (out / "run.json").exists() else Run.create
    return open_run(out, command="train", config=config, seed=prepared.recipe.seed)


def _arguments(recipe: Recipe, out: Path, data: Survey) -> TrainingArguments:
    on_gpu = torch.cuda.is_available()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(recipe.workers, cores)
    sharding: dict[str, Any] = {}
    if recipe.sharded:
        layers = ["Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock"]
        # FSDP checkpoints activations itself; with transformers' checkpointing on top, every layer would be gathered twice.
        config = {"version": 2, "transformer_layer_cls_to_wrap": layers, "activation_checkpointing": recipe.gradient_checkpointing}
        sharding = {"fsdp": True, "fsdp_config": config}
    return TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        num_train_epochs=1,  # the data set contains all epochs in order
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup" if recipe.schedule == "constant" else recipe.schedule,
        warmup_steps=round(recipe.warmup * memory.steps_of(len(data.items), recipe, world_size())),
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


def _save_result(trainer: Trainer, prepared: Prepared, out: Path) -> Path:
    """Write the trained weights atomically, with the files that loading them needs."""
    full = prepared.recipe.method == "full"
    folder = out / ("model" if full else "adapter")
    unfinished = out / f".{folder.name}.unfinished"
    try:
        trainer.save_model(str(unfinished))  # a collective operation if the weights are sharded
        if trainer.is_world_process_zero():
            notice = {"notice": prepared.notice} if prepared.notice else {}
            settings = {"frames_as": prepared.style.frames_as, "rendering": prepared.style.rendering, **notice}
            (unfinished / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            encoder = prepared.encoder
            for part in (encoder.tokenizer, encoder.image_processor, encoder.video_processor) if full else ():
                if part is not None:
                    part.save_pretrained(unfinished)
            (unfinished / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json holds the same
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _write_failure(error, out)
        shutil.rmtree(unfinished, ignore_errors=True)
        last = last_checkpoint(out)
        raise StoreError(f"cannot write {folder}: {reason}; free disk space and continue with --resume from {last}") from error
    trainer.accelerator.wait_for_everyone()
    return folder


class _Metrics(TrainerCallback):
    """Appends every log line to metrics.jsonl and reports it. A resumed run's lines follow those of its checkpoint."""

    def __init__(self, path: Path, progress: ProgressCallback, throughput: Throughput) -> None:
        self.path, self.progress, self.throughput = path, progress, throughput
        self.losses: list[float] = []
        """Since the last held-out evaluation."""
        self._last: float | None = None
        self._began = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Drop the lines of steps that will be repeated."""
        self._began = time.monotonic()
        self.throughput.reset()
        if state.is_world_process_zero and self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= state.global_step]
            unfinished = self.path.with_name(f".{self.path.name}")
            unfinished.write_text("".join(kept), encoding="utf-8")
            unfinished.replace(self.path)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Report the step."""
        self.throughput.step(state.global_step)
        if state.is_world_process_zero:
            self.progress(StepCompleted(state.global_step, state.max_steps, self._last))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **kwargs: object
    ) -> None:
        """Write a line."""
        if logs and "loss" in logs:
            self._last = float(logs["loss"])
            self.losses.append(self._last)
            logs = {**logs, **self.throughput.read()}
        if logs:
            self.write(state, {"seconds": round(time.monotonic() - self._began, 2), **logs})

    def write(self, state: TrainerState, values: Mapping[str, JSON]) -> None:
        """Append a line, in the main process. Raises `StoreError` if the disk is full."""
        if not state.is_world_process_zero:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **values}) + "\n")
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror}; free disk space and continue with --resume") from error
        self.progress(MetricsLogged(state.global_step, state.max_steps, values))


class _EvaluationCallback(TrainerCallback):
    """Runs the held-out evaluation every `probe_every` steps, in every process: sharded weights are gathered collectively."""

    def __init__(self, held_out: HeldOutEvaluation, prepared: Prepared, run: Run | None, metrics: _Metrics) -> None:
        self.held_out, self.prepared, self.run, self.metrics = held_out, prepared, run, metrics
        self.plateau = PlateauDetector()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Evaluate at the recipe's interval and after the last step, leaving the random state as it was."""
        recipe, encoder = self.prepared.recipe, self.prepared.encoder
        if state.global_step % recipe.probe_every and state.global_step != state.max_steps:
            return
        model = kwargs["model"]
        assert isinstance(model, nn.Module)
        settings = HuggingFaceSettings(recipe.model, temperature=0.0, max_tokens=recipe.probe_max_tokens)
        fresh = Encoder(encoder.tokenizer, encoder.image_processor, encoder.video_processor)
        cpu, gpus = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        model.eval()
        try:
            scores, traces = self.held_out.run(HuggingFaceBackend(settings, model, fresh, self.prepared.style))
        finally:
            model.train()
            torch.set_rng_state(cpu)
            if gpus:
                torch.cuda.set_rng_state_all(gpus)
        self._report(state, scores)
        if self.run is not None:
            for trace in traces:
                trace.id = f"step-{state.global_step}/{trace.id}"
                self.run.append(trace)

    def _report(self, state: TrainerState, scores: HeldOutScores) -> None:
        self.metrics.write(state, {"probe": asdict(scores)})
        recent, self.metrics.losses = self.metrics.losses, []
        if not recent:
            return
        warning = self.plateau.update(sum(recent) / len(recent), scores.accuracy)
        if warning and state.is_world_process_zero:
            self.metrics.write(state, {"warning": warning})
            _log.warning("%s", warning)
