#!/usr/bin/env bash
# peft: target_modules="all-linear", and the names of an MLP's projections, leave out all experts of a mixture such as Qwen3-VL's, without a word.
#
# transformers 5 keeps a layer's experts in two tensors and not in linear layers, of which all-linear speaks, and the experts are most of a mixture's
# weights. A list of names that gives a dense model's MLPs their adapters is taken too, as long as one of them exists somewhere: get_peft_model raises
# only if none does. Training runs, and adapts the attention alone. Expected: an error or a warning for each name that matches nothing. The experts
# are reached by target_parameters.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q transformers==5.23.0 peft==0.21.2
cat > "$work/adapt.py" <<'PYTHON'
import sys
import warnings

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

print("peft", peft.__version__, "transformers", transformers.__version__, "torch", torch.__version__)
rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rope_parameters": rope}
text = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2} | heads
experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
sizes = {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
vision = sizes | {"patch_size": 8, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
parts = {"vision_config": vision, "image_token_id": 37, "video_token_id": 36, "vision_start_token_id": 38, "vision_end_token_id": 39}


def adapted(mixture: bool, **options: object) -> tuple[int, int, list[str]]:
    """How many adapters the language model's attention and its MLPs get, and what is said about it."""
    if mixture:
        model = Qwen3VLMoeForConditionalGeneration(Qwen3VLMoeConfig(text_config=text | experts, **parts))
    else:
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, **parts))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        weights = [name for name, _ in get_peft_model(model, LoraConfig(r=2, **options)).named_parameters()]
    names = [name for name in weights if "language_model.layers" in name and "lora_A" in name]
    about = [str(one.message) for one in said if "expert" in str(one.message) or "target" in str(one.message)]
    return sum(".self_attn." in name for name in names), sum(".mlp." in name for name in names), about


names = ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"]
found = {
    "dense, all-linear": adapted(False, target_modules="all-linear"),
    "dense, five names": adapted(False, target_modules=names),
    "mixture, all-linear": adapted(True, target_modules="all-linear"),
    "mixture, five names": adapted(True, target_modules=names),
    "mixture, target_parameters": adapted(True, target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"]),
}
for case, (attention, mlp, said) in found.items():
    print(f"{case}: {attention} adapters in the attention of 2 layers, {mlp} in their MLPs; warnings: {said}")
try:
    adapted(True, target_modules=names[2:])
    refused = False
except ValueError as error:
    refused = True
    print("mixture, the MLP's three names alone:", str(error).splitlines()[0])
seen = [(8, 6, []), (4, 6, []), (8, 0, []), (4, 0, []), (2, 4, [])]
sys.exit(not refused or list(found.values()) != seen)
PYTHON
"$work/venv/bin/python" "$work/adapt.py"
