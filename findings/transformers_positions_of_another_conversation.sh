#!/usr/bin/env bash
# transformers: Qwen3-VL goes on with a conversation at the positions of the picture that the model saw last, even if that was another conversation.
#
# After a picture, positions run behind the number of tokens, by an amount that depends on the picture. That amount is kept in the model
# (model.model.rope_deltas), not in the KV cache. Two conversations, each with a cache of its own, that take turns on one model get each other's
# amount: in generate() and in a plain forward pass, without an error or a warning. Expected: a cache that is enough to go on. Right is only to pass
# position_ids oneself, or to put rope_deltas back before each turn. A server or an agent that keeps caches of several conversations meets this at the
# second user.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q transformers==5.23.0
cat > "$work/turns.py" <<'PYTHON'
import sys

import torch
import transformers
from transformers import DynamicCache, Qwen3VLConfig, Qwen3VLForConditionalGeneration

transformers.logging.set_verbosity_error()
print("transformers", transformers.__version__, "torch", torch.__version__)
torch.manual_seed(0)
PICTURE, START, END = 37, 38, 39
rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rope_parameters": rope}
text = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2} | heads
sizes = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
vision = sizes | {"patch_size": 8, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
marks = {"image_token_id": PICTURE, "video_token_id": 36, "vision_start_token_id": START, "vision_end_token_id": END}
config = Qwen3VLConfig(text_config=text, vision_config=vision, **marks)
model = Qwen3VLForConditionalGeneration(config).eval()
for weight in model.parameters():
    if weight.dim() > 1:
        torch.nn.init.normal_(weight, std=0.2)
model.generation_config.update(do_sample=False, pad_token_id=0, eos_token_id=None)


def question(side: int) -> dict[str, torch.Tensor]:
    """A picture of `side` x `side` patches, of which four are one token, between words."""
    ids = torch.tensor([[1, 2, START, *[PICTURE] * (side * side // 4), END, 3, 4]])
    pixels, grid = torch.randn(side * side, 384), torch.tensor([[1, side, side]])
    return {"input_ids": ids, "mm_token_type_ids": (ids == PICTURE).int(), "pixel_values": pixels, "image_grid_thw": grid}


ours, other, words = question(4), question(16), torch.tensor([[7, 8, 9]])


@torch.no_grad()
def second_turn(between: bool, kept: bool = False) -> tuple[torch.Tensor, list[int]]:
    """The next token's logits by a forward pass over our second question, and generate()'s answer to it."""
    cache = DynamicCache(config=config)
    first = model.generate(**ours, past_key_values=cache, max_new_tokens=4)
    amount = model.model.rope_deltas
    if between:
        model.generate(**other, past_key_values=DynamicCache(config=config), max_new_tokens=4)
    if kept:
        model.model.rope_deltas = amount
    ids = torch.cat([first, words], dim=1)
    new = ids[:, cache.get_seq_length() :]
    logits = model(input_ids=new, past_key_values=cache).logits[0, -1]
    cache.crop(-new.shape[1])
    types = (ids == PICTURE).int()
    answer = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=types, past_key_values=cache, max_new_tokens=12)
    return logits, answer[0, ids.shape[1] :].tolist()


alone, right = second_turn(between=False)
found = {}
for case, options in {"another conversation between": {"between": True}, "the same, rope_deltas put back": {"between": True, "kept": True}}.items():
    logits, answer = second_turn(**options)
    found[case] = (float((logits - alone).abs().max()), answer == right)
    print(f"{case}: logits differ by up to {found[case][0]:.1g}, the answer is {'the same' if found[case][1] else 'another'}")
(wrong, same), (mended, still) = found.values()
sys.exit(not (wrong > 0.1 and not same and mended < 0.001 and still))
PYTHON
"$work/venv/bin/python" "$work/turns.py"
