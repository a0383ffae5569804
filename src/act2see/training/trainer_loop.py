"""What the trainings of the embedded models share: transformers' Trainer over batches that are made on the fly, resumable at any step."""

import ctypes
import gc
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from act2see.core.errors import ConfigError


def fit(
    model: nn.Module,
    make_dataset: Callable[[int], Dataset[Any]],
    collate: Callable[[list[Any]], dict[str, Any]],
    *,
    out: Path,
    steps: int,
    seed: int,
    learning_rate: float,
    save_every: int,
    batches: int | None = None,
    workers: int = 0,
    warmup: int = 50,
) -> bool:
    """Train to `steps`, going on from the last checkpoint in `out` if there is one; whether this process is the one to save the result.

    `make_dataset` is given how many batches all processes need together; item `i` must be the same whenever it is asked for. `batches` is how many
    of them a step takes, one after the other where there are fewer processes; one for each process if it is not given. On Ctrl-C a checkpoint is
    written before `KeyboardInterrupt` is raised. Raises `ConfigError` when the processes cannot share a step's batches evenly.
    """
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=1,  # an item is a whole batch
        learning_rate=learning_rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.03},
        warmup_steps=warmup,
        weight_decay=0.05,
        adam_beta2=0.98,
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=20,
        save_steps=save_every,
        save_total_limit=2,
        seed=seed,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_num_workers=workers,
        dataloader_prefetch_factor=4 if workers else None,
        dataloader_persistent_workers=workers > 0,
        report_to=[],
    )
    processes = arguments.world_size
    in_turn, left_over = divmod(processes if batches is None else batches, processes)
    if left_over:
        raise ConfigError(f"{processes} processes cannot share a step of {batches} batches evenly: start {batches} or a divisor of it")
    arguments.gradient_accumulation_steps = in_turn
    interrupt = SaveOnInterrupt()
    dataset = make_dataset(steps * in_turn * processes)
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=collate, callbacks=[interrupt])
    give_memory_back()
    with interrupt.listening():
        trainer.train(resume_from_checkpoint=any((out / "checkpoints").glob("checkpoint-*")) or None)
    return bool(trainer.is_world_process_zero())


def give_memory_back() -> None:
    """Return to the system what an earlier training in this process has freed, which glibc keeps for itself.

    The workers that are forked now would hold it a second time: 5 GB each after the embedded model's captions.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # another C library has none
        if trim is not None:
            trim(0)


class SaveOnInterrupt(TrainerCallback):
    """Ctrl-C ends the training after the step that it falls into, with a checkpoint."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear of Ctrl-C in here; `KeyboardInterrupt` is raised at the end if there was one."""
        before = signal.signal(signal.SIGINT, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self.asked:
            raise KeyboardInterrupt

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop if asked to: all processes after the same step, whichever of them heard first."""
        if args.world_size > 1:
            asked = torch.tensor([int(self.asked)], device=args.device)
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
            self.asked = bool(asked.item())
        if self.asked:
            control.should_save = control.should_training_stop = True
