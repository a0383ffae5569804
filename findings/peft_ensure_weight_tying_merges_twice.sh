#!/usr/bin/env bash
# peft: an adapter on tied embeddings, made with ensure_weight_tying=True as peft recommends, changes the model when it is merged.
#
# Both embeddings are one tensor. merge_and_unload visits the input and the output embedding and adds the (same) change to it twice, so that the
# merged model's logits are not those of base and adapter. peft says "This can lead to complications" and goes on; nothing is raised, and
# safe_merge=True does not see it. Expected of a good merge: a difference near 0.00001, as where the embeddings are not tied.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q transformers==5.23.0 peft==0.21.2
cat > "$work/merge.py" <<'PYTHON'
import sys
import warnings

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)
shape = {"vocab_size": 200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
ids = torch.arange(10, 30)[None]


def difference(tied: bool, **options: object) -> float:
    """The largest difference in logits between base and adapter apart, and merged."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**shape, tie_word_embeddings=tied)).eval()
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **options)).eval()
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            weight.data += torch.randn_like(weight) * 0.1
    with torch.no_grad():
        apart = adapted(input_ids=ids).logits
        merged = adapted.merge_and_unload(safe_merge=True)(input_ids=ids).logits
    return float((merged - apart).abs().max())


both = {"target_modules": ["embed_tokens", "lm_head"]}
found = {
    "tied, ensure_weight_tying=True": difference(True, ensure_weight_tying=True, **both),
    "tied, lm_head alone": difference(True, target_modules=["lm_head"]),
    "not tied": difference(False, **both),
    "tied, neither adapted": difference(True, target_modules=["q_proj"]),
}
for case, largest in found.items():
    print(f"{case}: logits differ by up to {largest:.6f}")
wrong, right = list(found.values())[:2], list(found.values())[2:]
sys.exit(not (min(wrong) > 0.05 and max(right) < 0.001))
PYTHON
"$work/venv/bin/python" "$work/merge.py"
