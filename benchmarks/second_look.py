"""How much cheaper the second decoding loop begins when the KV cache goes on over the inserted frame than when everything is computed again.

    python benchmarks/second_look.py [--frames 64] [--size 224] [--repeats 5] [--json]

The peer is transformers' own full prefill of the same prompt. Both run in this process, in turn, on one thread; the model has the embedded one's
shape and random weights, which changes nothing in the time. Needs the `local` extra.
"""

import argparse
import json
import platform
import statistics
import time

import numpy as np
import torch
from PIL import Image

from act2see.backends.encoder import Encoder
from act2see.backends.kv_cache import CachedConversation
from act2see.backends.pieces import joined
from act2see.core import chat
from act2see.core.trace import Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.training.micro.model import make_image_processor, make_tokenizer, make_vlm


def main() -> None:
    """Print the two times, their ratio and the largest difference in logits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=64, help="initial frames")
    parser.add_argument("--size", type=int, default=224, help="side of a frame in pixels, as the model sees it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print only one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = make_tokenizer(count=200)
    model = make_vlm(tokenizer).eval()
    encoder = Encoder(tokenizer, make_image_processor(pixels=options.size**2))
    trace = prompt(options.frames, options.size)
    segments = chat.segments(chat.turns(trace, ("retrieve",), chat.Style()))
    pieces = encoder.encode(segments)
    first_loop = pieces[: len(pieces) - 4]  # all but <frame>, its time, the picture and </frame>

    def inputs() -> dict[str, torch.Tensor]:
        ids = torch.tensor([joined(pieces)])
        shown = [piece for piece in pieces if piece.pixels is not None]
        return {
            "input_ids": ids,
            "mm_token_type_ids": (ids == encoder.image_id).int(),
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.cat([torch.from_numpy(piece.pixels) for piece in shown if piece.pixels is not None]),
            "image_grid_thw": torch.tensor([piece.grid for piece in shown]),
        }

    whole = inputs()
    conversation = CachedConversation(model, encoder.merge)
    seconds: dict[str, list[float]] = {"continued": [], "full": []}
    difference = 0.0
    for _ in range(options.repeats):
        conversation.feed(first_loop)  # the state after the first loop; from the second round on it only cuts the cache back
        started = time.perf_counter()
        continued = conversation.feed(pieces)[0]
        seconds["continued"].append(time.perf_counter() - started)
        model.model.rope_deltas = None
        started = time.perf_counter()
        with torch.inference_mode():
            full = model(**whole, logits_to_keep=1).logits[0, -1].float()
        seconds["full"].append(time.perf_counter() - started)
        difference = max(difference, float((continued - full).abs().max()))
    result = {
        "frames": options.frames,
        "pixels": options.size,
        "prompt_tokens": len(joined(pieces)),
        "continued_seconds": round(statistics.median(seconds["continued"]), 4),
        "full_seconds": round(statistics.median(seconds["full"]), 4),
        "ratio": round(statistics.median(seconds["full"]) / statistics.median(seconds["continued"]), 1),
        "largest_logit_difference": difference,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result) if options.json else "\n".join(f"{name:26} {value}" for name, value in result.items()))


def prompt(frames: int, side: int) -> Trace:
    """A trace that has just seen a retrieved frame."""
    pixels = np.random.default_rng(0)

    def frame(seconds: float) -> Frame:
        return Frame(Image.fromarray(pixels.integers(0, 256, (side, side, 3), np.uint8)), seconds)

    thought = Thought("<think>I look for the star. No frame that I was given shows it.")
    looked: list[Step] = [thought, Retrieve(" the star "), Observation(frames=(frame(3.3),))]
    shown = tuple(frame(float(n)) for n in range(frames))
    return Trace("benchmark", "random", "What colour is the star?", shown, ("red", "blue", "green", "white"), steps=looked)


if __name__ == "__main__":
    main()
