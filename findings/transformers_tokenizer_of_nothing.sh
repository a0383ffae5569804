#!/usr/bin/env bash
# transformers: a model's folder without any tokenizer file gives a tokenizer all the same, without a vocabulary and without a word.
#
# AutoTokenizer goes by config.json's model_type and makes an empty one: every text becomes no token at all, and a prompt is empty. A download that
# lacks tokenizer.json is noticed only by its answers. Expected: an error, as for a folder without weights or without a preprocessor.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q transformers==5.23.0
mkdir "$work/model"
echo '{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}' > "$work/model/config.json"
cat > "$work/read.py" <<'PYTHON'
import sys

import tokenizers
import transformers
from transformers import AutoTokenizer

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
words = "What colour is the star?"
print(f"{type(tokenizer).__name__}: a vocabulary of {len(tokenizer)}, {words!r} becomes {tokenizer.encode(words)}")
sys.exit(tokenizer.encode(words) != [])
PYTHON
"$work/venv/bin/python" "$work/read.py" "$work/model"
