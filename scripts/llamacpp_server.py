"""Writes a small Qwen3-VL model folder as GGUF and serves it with llama.cpp. Runs in an environment with gguf and xllamacpp: see llamacpp_check.py.

    python scripts/llamacpp_server.py src/act2see/micro/vlm --out /tmp/gguf --port 8080

Writes model.gguf (language model and tokenizer) and mmproj.gguf (vision tower) in float32. For folders with tied embeddings and one shard, as the
embedded model; full-size models have llama.cpp's own converter. Serves on 127.0.0.1 until it is stopped; without --port it only writes.
"""

import argparse
import json
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import xllamacpp

LANGUAGE = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
VISION = {"norm1": "ln1", "norm2": "ln2", "attn.qkv": "attn_qkv", "attn.proj": "attn_out", "mlp.linear_fc1": "ffn_up", "mlp.linear_fc2": "ffn_down"}
MERGER = {"norm": "v.post_ln", "linear_fc1": "mm.0", "linear_fc2": "mm.2"}
DEEPSTACK = {"norm": "norm", "linear_fc1": "fc1", "linear_fc2": "fc2"}
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # llama.cpp's kinds of tokens


def main() -> None:
    """Write both files, and serve them if a port is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a Qwen3-VL folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the GGUF files")
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    write(given.model, given.out)
    if given.port is not None:
        serve(given.out, given.port)


def write(folder: Path, out: Path) -> None:
    """Write model.gguf and mmproj.gguf."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tensors = read_tensors(folder / "model.safetensors")
    language = gguf.GGUFWriter(out / "model.gguf", "qwen3vl")
    language_settings(language, config["text_config"], len(config["vision_config"]["deepstack_visual_indexes"]))
    tokenizer(language, folder, config["text_config"]["vocab_size"])
    vision = gguf.GGUFWriter(out / "mmproj.gguf", "clip")
    vision_settings(vision, config["vision_config"], json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8")))
    for name, tensor in tensors.items():
        if name.startswith("model.language_model."):
            language.add_tensor(language_name(name.removeprefix("model.language_model.")), tensor)
        else:
            for new, part in vision_tensors(name.removeprefix("model.visual."), tensor, config["vision_config"]["deepstack_visual_indexes"]):
                vision.add_tensor(new, np.ascontiguousarray(part))
    for writer in (language, vision):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def read_tensors(path: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a safetensors file (F16 or F32) as float32."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8:end])
    header.pop("__metadata__", None)
    kinds = {"F16": np.float16, "F32": np.float32}
    return {
        name: np.frombuffer(data[end + one["data_offsets"][0] : end + one["data_offsets"][1]], kinds[one["dtype"]])
        .reshape(one["shape"])
        .astype(np.float32)
        for name, one in header.items()
    }


def language_settings(writer: gguf.GGUFWriter, text: Mapping[str, Any], deepstack: int) -> None:
    """The language model's sizes and positions."""
    writer.add_name("act2see")
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_key_length(text["head_dim"])
    writer.add_value_length(text["head_dim"])
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_rope_freq_base(text["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_sections([*text["rope_parameters"]["mrope_section"], 0])
    writer.add_num_deepstack_layers(deepstack)
    writer.add_file_type(0)


def tokenizer(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    """The vocabulary with its kinds, the merges and the chat template."""
    file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [f"[unused{number}]".encode() for number in range(size)]
    kinds = [NORMAL] * size
    for token, number in file["model"]["vocab"].items():
        tokens[number] = token.encode()
    for added in file["added_tokens"]:
        tokens[added["id"]] = added["content"].encode()
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in file["model"]["merges"]])
    writer.add_eos_token_id(tokens.index(settings["eos_token"].encode()))
    writer.add_pad_token_id(tokens.index(settings["pad_token"].encode()))
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))


def vision_settings(writer: gguf.GGUFWriter, vision: Mapping[str, Any], processor: Mapping[str, Any]) -> None:
    """The vision tower's sizes and the processor's settings."""
    writer.add_type("mmproj")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("qwen3vl_merger")
    writer.add_vision_use_gelu(True)
    writer.add_vision_block_count(vision["depth"])
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_head_count(vision["num_heads"])
    writer.add_vision_attention_layernorm_eps(1e-6)
    writer.add_vision_projection_dim(vision["out_hidden_size"])
    writer.add_vision_patch_size(vision["patch_size"])
    writer.add_vision_spatial_merge_size(vision["spatial_merge_size"])
    writer.add_vision_image_size(math.isqrt(vision["num_position_embeddings"]) * vision["patch_size"])
    writer.add_vision_image_mean(processor["image_mean"])
    writer.add_vision_image_std(processor["image_std"])
    # llama.cpp reads no preprocessor_config.json: without these it scales small images up to its own minimum.
    writer.add_vision_min_pixels(processor["size"]["shortest_edge"])
    writer.add_vision_max_pixels(processor["size"]["longest_edge"])
    writer.add_vision_is_deepstack_layers([layer in vision["deepstack_visual_indexes"] for layer in range(vision["depth"])])
    writer.add_file_type(0)


def language_name(name: str) -> str:
    """A language tensor's name in GGUF."""
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, layer, rest = name.split(".", 2)
    return f"blk.{layer}.{LANGUAGE[rest.removesuffix('.weight')]}.weight"


def vision_tensors(name: str, tensor: np.ndarray, deepstack: list[int]) -> list[tuple[str, np.ndarray]]:
    """The GGUF tensors of one vision tensor: one, or two for the patch embedding, whose two frames llama.cpp keeps apart."""
    stem, _, kind = name.rpartition(".")
    first, _, rest = stem.partition(".")
    if name == "pos_embed.weight":
        return [("v.position_embd.weight", tensor)]
    if name == "patch_embed.proj.weight":
        return [("v.patch_embd.weight", tensor[:, :, 0]), ("v.patch_embd.weight.1", tensor[:, :, 1])]
    if name == "patch_embed.proj.bias":
        return [("v.patch_embd.bias", tensor)]
    if first == "merger":
        return [(f"{MERGER[rest]}.{kind}", tensor)]
    number, _, part = rest.partition(".")
    if first == "deepstack_merger_list":
        return [(f"v.deepstack.{deepstack[int(number)]}.{DEEPSTACK[part]}.{kind}", tensor)]
    return [(f"v.blk.{number}.{VISION[part]}.{kind}", tensor)]


def serve(folder: Path, port: int) -> None:
    """Serve until the process is stopped: one slot, float32 cache, one thread."""
    params = xllamacpp.CommonParams()
    params.model.path = str(folder / "model.gguf")
    params.mmproj.path = str(folder / "mmproj.gguf")
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_ctx, params.n_parallel = 8192, 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers, params.use_jinja = 0, True
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    server = xllamacpp.Server(params)
    print(f"serving at {server.listening_address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
