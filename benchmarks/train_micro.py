"""How fast the embedded vision-language model trains on one CPU thread, against the same Qwen3-VL as transformers computes it.

    python benchmarks/train_micro.py [--batches 4] [--rounds 2] [--json]

Batches of each part of the curriculum, forward and backward in bfloat16, by turns: transformers' SDPA attention over padded rows with a mask, as the
training would run without `training/on_cpu.py`, and that file's. Weights are random, and the same on both sides; the largest difference between the
losses is printed, once in float32. Needs the `local` and `train` extras.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from act2see.backends.encoder import Encoder
from act2see.training.examples import Example, collate
from act2see.training.micro.cpu_kernels import collate_for_cpu, use_cpu_kernels
from act2see.training.micro.model import make_image_processor, make_tokenizer, make_vlm
from act2see.training.micro.vlm import PARTS, CurriculumBatches

Side = tuple[Any, Callable[[Sequence[Example], int], dict[str, Any]]]


def main() -> None:
    """Print a line for each part, or one of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=4, help="batches of each part")
    parser.add_argument("--rounds", type=int, default=2, help="timed repetitions per batch and side")
    parser.add_argument("--json", action="store_true", help="print only one line of JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    encoder = Encoder(tokenizer, make_image_processor())
    stock, quick = make_vlm(tokenizer), make_vlm(tokenizer)
    quick.load_state_dict(stock.state_dict())
    use_cpu_kernels(quick)
    sides: tuple[Side, Side] = ((stock, collate), (quick, collate_for_cpu))
    found = {}
    for part, stages in PARTS.items():
        whole = 10 * given.batches
        batches = CurriculumBatches(encoder, 0, whole, stages)
        found[part] = measure([batches[place * 10 + 5] for place in range(given.batches)], sides, given.rounds)
        if not given.json:
            print(part, json.dumps(found[part]), flush=True)
    if given.json:
        print(json.dumps(found))


def measure(batches: Sequence[Sequence[Example]], sides: tuple[Side, Side], rounds: int) -> dict[str, float]:
    """Medians of seconds a batch on both sides, and how far their losses lie apart."""
    seconds: tuple[list[float], list[float]] = ([], [])
    apart = 0.0
    for examples in batches:
        made = [gather(examples, 0) for _, gather in sides]
        with torch.no_grad():
            losses = [model(**batch).loss.item() for (model, _), batch in zip(sides, made, strict=True)]
        apart = max(apart, abs(losses[0] - losses[1]))
        for _ in range(rounds):
            for (model, _), batch, taken in zip(sides, made, seconds, strict=True):
                taken.append(step(model, batch))
    theirs, ours = (sum(statistics.median(taken[i : i + rounds]) for i in range(0, len(taken), rounds)) / len(batches) for taken in seconds)
    return {"transformers_s": round(theirs, 2), "act2see_s": round(ours, 2), "ratio": round(theirs / ours, 2), "losses_apart": apart}


def step(model: Any, batch: dict[str, Any]) -> float:
    """Seconds of one forward and backward pass."""
    began = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    model.zero_grad()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
