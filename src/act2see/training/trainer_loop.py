"""The trainer loop of the embedded models: transformers' Trainer on batches generated on the fly, resumable at any step."""

import ctypes
import gc
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from act2see.core.errors import ConfigError

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """Settings of `run_trainer`."""

    out: Path
    steps: int
    seed: int
    learning_rate: float
    save_every: int
    batches: int | None = None
    """Batches per optimizer step over all processes; one per process if None."""
    workers: int = 0
    """Data loader worker processes."""
    warmup: int = 50
    """Steps of learning rate warmup."""


def run_trainer(
    model: nn.Module,
    make_dataset: Callable[[int], Dataset[Item]],
    collate: Callable[[list[Item]], dict[str, Value]],
    settings: LoopSettings,
) -> bool:
    """Train up to `steps`, resuming from the last checkpoint in `out`; returns whether this is the main process, which saves the result.

    `make_dataset` receives the number of batches that all processes need together; an item is one batch and must be deterministic. Batches are
    accumulated if there are fewer processes than batches per step. Ctrl-C writes a checkpoint and raises `KeyboardInterrupt`. Raises `ConfigError`
    if a step's batches cannot be divided evenly among the processes.
    """
    arguments = TrainingArguments(
        output_dir=str(settings.out / "checkpoints"),
        max_steps=settings.steps,
        per_device_train_batch_size=1,  # an item is a whole batch
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.03},
        warmup_steps=settings.warmup,
        weight_decay=0.05,
        adam_beta2=0.98,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=20,
        save_steps=settings.save_every,
        save_total_limit=2,
        seed=settings.seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_num_workers=settings.workers,
        dataloader_prefetch_factor=4 if settings.workers else None,
        dataloader_persistent_workers=settings.workers > 0,
        report_to=[],
    )
    processes = arguments.world_size
    batches = processes if settings.batches is None else settings.batches
    accumulation, remainder = divmod(batches, processes)
    if remainder:
        raise ConfigError(f"a step of {batches} batches cannot be divided among {processes} processes: start {batches}, or a divisor of it")
    arguments.gradient_accumulation_steps = accumulation
    interrupt = SaveOnInterrupt()
    dataset = make_dataset(settings.steps * accumulation * processes)
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=collate, callbacks=[interrupt])
    release_freed_memory()
    with interrupt.listening():
        trainer.train(resume_from_checkpoint=any((settings.out / "checkpoints").glob("checkpoint-*")) or None)
    return bool(trainer.is_world_process_zero())


def release_freed_memory() -> None:
    """Return memory that an earlier training in this process freed, and that glibc retains, to the system.

    Forked workers would hold it again: 5 GB each after the embedded model's captions.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # specific to glibc
        if trim is not None:
            trim(0)


class SaveOnInterrupt(TrainerCallback):
    """Ctrl-C ends the training after the current step, with a checkpoint."""

    def __init__(self) -> None:
        self.interrupted = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle Ctrl-C inside the block; `KeyboardInterrupt` is raised at its end if there was one.

        A process that ignores it, as a worker that its caller ends, goes on doing so.
        """
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self.interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Stop if interrupted: all processes after the same step, whichever received the signal first."""
        if args.world_size > 1:
            interrupted = torch.tensor([int(self.interrupted)], device=args.device)
            torch.distributed.all_reduce(interrupted, torch.distributed.ReduceOp.MAX)
            self.interrupted = bool(interrupted.item())
        if self.interrupted:
            control.should_save = control.should_training_stop = True
