#!/usr/bin/env bash
# transformers: Gemma 3 takes token_type_ids as long as input_ids beside a KV cache, and computes something else, without a word.
#
# They tell which tokens are a picture's, which see each other. With a cache, a chunk's token types are read as those of the beginning of the whole
# sequence: the picture's tokens see only what is before them, and other tokens are taken for a picture. Qwen-VL's mm_token_type_ids go with the chunk.
# Right is only the whole sequence's, longer than input_ids, which nothing says. Gemma 4's larger models read mm_token_type_ids in the same way.
# Expected: an error for a wrong length, or masks of the chunk's own token types.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q transformers==5.23.0
cat > "$work/chunk.py" <<'PYTHON'
import sys

import torch
import transformers
from transformers import DynamicCache, Gemma3Config, Gemma3ForConditionalGeneration

print("transformers", transformers.__version__, "torch", torch.__version__)
torch.manual_seed(0)
layers = {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64, "vocab_size": 40}
heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "hidden_size": 32, "intermediate_size": 64}
vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
config = Gemma3Config(text_config=layers | heads, vision_config=vision, mm_tokens_per_image=4, boi_token_index=37, eoi_token_index=38, image_token_index=39)
model = Gemma3ForConditionalGeneration(config).eval()
for weight in model.parameters():
    if weight.dim() > 1:
        torch.nn.init.normal_(weight, std=0.2)
ids = torch.tensor([[5, 6, 7, 8, 37, 39, 39, 39, 39, 38, 9]])  # four words, then a picture of four tokens between its marks, and a word
types, picture, before = (ids == 39).int(), torch.randn(1, 3, 32, 32), 4


@torch.no_grad()
def logits(given):
    """Of all but the first tokens, which are in the cache."""
    cache = DynamicCache(config=config)
    model(input_ids=ids[:, :before], past_key_values=cache, use_cache=True)
    return model(input_ids=ids[:, before:], token_type_ids=given, pixel_values=picture, past_key_values=cache).logits


with torch.no_grad():
    whole = model(input_ids=ids, token_type_ids=types, pixel_values=picture).logits[:, before:]
chunk = float((logits(types[:, before:]) - whole).abs().max())
full = float((logits(types) - whole).abs().max())
print(f"largest difference of the logits from one pass: {chunk:.1g} with token types as long as input_ids, {full:.1g} with those of the whole sequence")
sys.exit(not (chunk > 0.01 and full < 0.001))
PYTHON
"$work/venv/bin/python" "$work/chunk.py"
