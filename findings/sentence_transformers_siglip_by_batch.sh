#!/usr/bin/env bash
# sentence-transformers 6.2.0: a SigLIP model embeds a text differently with each batch it is in, and not as the model was trained.
#
# SigLIP takes a text's embedding from the last position, and was trained on texts padded to its full length; transformers' pages ask for
# padding="max_length". sentence-transformers recognises the model and its two towers, and pads to the longest text of the batch. So a query alone,
# beside a longer one, and padded as in training has three embeddings, and no warning is given. Expected: one, as of CLIP. A search for video frames
# by such a model finds other frames when queries are batched. The first module's processing_kwargs mend it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0
"$work/venv/bin/pip" install -q transformers==5.23.0 sentence-transformers==6.2.0 pillow==13.0.0
cat > "$work/embed.py" <<'PYTHON'
import sys

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import cos_sim
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipProcessor

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
print("sentence-transformers", sentence_transformers.__version__, "transformers", transformers.__version__, "torch", torch.__version__)
torch.manual_seed(0)
folder, length = f"{sys.argv[1]}/model", 16
query, longer = "a red star", "a red star moves left of the blue ring"
vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", *dict.fromkeys(longer.split())])}
words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", model_max_length=length)
layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
text = layers | {"vocab_size": 20, "max_position_embeddings": length, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
model = SiglipModel(SiglipConfig(text_config=text, vision_config=layers | {"image_size": 32, "patch_size": 8})).eval()
for weight in model.parameters():
    if weight.dim() > 1:
        torch.nn.init.normal_(weight, std=0.3)
processor = SiglipProcessor(SiglipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer)
model.save_pretrained(folder)
processor.save_pretrained(folder)

with torch.no_grad():
    trained = model.get_text_features(**processor(text=[query], padding="max_length", return_tensors="pt")).pooler_output
embedder = SentenceTransformer(folder, device="cpu")
alone = embedder.encode([query], convert_to_tensor=True)
beside = embedder.encode([query, longer], convert_to_tensor=True)[:1]
embedder[0].processing_kwargs = {"text": {"padding": "max_length", "max_length": length}}
mended = embedder.encode([query], convert_to_tensor=True)
found = {
    "alone, and beside a longer text": float(cos_sim(alone, beside)),
    "alone, and padded as in training": float(cos_sim(alone, trained)),
    "with processing_kwargs, and padded as in training": float(cos_sim(mended, trained)),
}
for case, cosine in found.items():
    print(f"cosine of the same text {case}: {cosine:.3f}")
batched, trained_as, right = found.values()
sys.exit(not (batched < 0.9 and trained_as < 0.9 and right > 0.999))
PYTHON
"$work/venv/bin/python" "$work/embed.py" "$work"
