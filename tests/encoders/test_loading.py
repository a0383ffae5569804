"""What holds for every encoder: unit vectors, batches that do not matter, digests that tell models apart, and one line for what cannot be loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from act2see.core.errors import ConfigError
from act2see.core.interfaces import FrameEncoder
from act2see.tools.encoders.blip2 import Blip2Encoder
from act2see.tools.encoders.clip import ClipEncoder
from act2see.tools.encoders.embedding import EmbeddingEncoder
from act2see.tools.encoders.loading import EncoderSettings, cosines, fingerprint
from act2see.tools.encoders.siglip import SiglipEncoder

ENCODERS: dict[str, Any] = {
    "siglip": SiglipEncoder,
    "siglip2": SiglipEncoder,
    "clip": ClipEncoder,
    "metaclip_2": ClipEncoder,
    "blip2": Blip2Encoder,
    "embedding": EmbeddingEncoder,
}


def load(model_class: str, folder: Path | str, **settings: Any) -> FrameEncoder:
    encoder: FrameEncoder = ENCODERS[model_class].load(EncoderSettings(str(folder), **settings))
    return encoder


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(model_class: str, folder: Path | str, **settings: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(model_class, folder, **settings)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    return str(raised.value)


@pytest.fixture
def own(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A SigLIP's folder that may be written to."""
    return shutil.copytree(tiny("siglip"), tmp_path / "own")


# Vectors


@pytest.mark.parametrize("model_class", ENCODERS)
def test_vectors_have_length_one_and_do_not_depend_on_the_batch(model_class: str, tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    one, many = (load(model_class, tiny(model_class), batch=batch) for batch in (1, 4))
    frames = many.encode_frames(images)
    assert frames.dtype == np.float32
    assert frames.ndim == 3
    assert len(frames) == len(images)
    np.testing.assert_allclose(np.linalg.norm(frames, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(one.encode_frames(images), frames, atol=1e-5)
    text = many.encode_text("the red star")
    assert text.shape == frames.shape[2:]
    np.testing.assert_allclose(np.linalg.norm(text), 1, atol=1e-5)
    assert many.scores(frames, text).shape == (len(images),)
    assert one.fingerprint == many.fingerprint


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("model_class", ENCODERS)
def test_half_types_give_nearly_the_same_vectors(model_class: str, dtype: str, tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    half, full = load(model_class, tiny(model_class), dtype=dtype), load(model_class, tiny(model_class))
    assert (half.encode_frames(images) * full.encode_frames(images)).sum(axis=-1).min() > 0.995
    assert half.encode_text("the red star") @ full.encode_text("the red star") > 0.995
    assert half.fingerprint != full.fingerprint


@pytest.mark.parametrize("model_class", ["siglip", "clip", "blip2"])
def test_compiling_changes_no_vector(model_class: str, tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    compiled, plain = load(model_class, tiny(model_class), compile=True, batch=4), load(model_class, tiny(model_class))
    with torch.compiler.set_stance("force_eager"):  # what is compiled is torch's affair, and takes it half a minute
        np.testing.assert_allclose(compiled.encode_frames(images), plain.encode_frames(images), atol=1e-5)
    assert compiled.fingerprint == plain.fingerprint


def test_stored_half_vectors_score_as_the_full_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((5000, 3, 40)).astype(np.float16)
    np.save(tmp_path / "frames.npy", frames)
    text = rng.standard_normal(40).astype(np.float32)
    expected = (frames.astype(np.float64) @ text.astype(np.float64)).max(axis=1)
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="r")
    np.testing.assert_allclose(cosines(mapped, text), expected, rtol=1e-5, atol=1e-5)
    assert cosines(mapped[:0], text).shape == (0,)


def test_no_images_are_refused(tiny: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="no images"):
        load("clip", tiny("clip")).encode_frames([])


# Digests


@pytest.mark.parametrize("model_class", ["siglip", "blip2"])
def test_other_weights_of_the_same_name_have_another_fingerprint(model_class: str, make_tiny: Callable[..., Path], tmp_path: Path) -> None:
    folders = [make_tiny(model_class, tmp_path / parent / "same-name", seed) for parent, seed in (("a", 0), ("b", 1), ("c", 0))]
    first, other, again = (load(model_class, folder) for folder in folders)
    assert first.name == other.name
    assert first.fingerprint != other.fingerprint
    assert first.fingerprint == again.fingerprint


def test_one_changed_number_is_another_fingerprint(own: Path) -> None:
    before = load("siglip", own).fingerprint
    weights = load_file(own / "model.safetensors")
    weights["vision_model.post_layernorm.bias"][17] += 1e-3
    save_file(weights, own / "model.safetensors", metadata={"format": "pt"})
    assert load("siglip", own).fingerprint != before


def test_preprocessing_and_tokenizer_count_and_a_threshold_does_not(own: Path) -> None:
    seen = [load("siglip", own).fingerprint]
    edit(own / "preprocessor_config.json", image_mean=[0.4, 0.4, 0.4])
    seen.append(load("siglip", own).fingerprint)
    edit(own / "tokenizer_config.json", model_max_length=7)
    seen.append(load("siglip", own).fingerprint)
    assert len(set(seen)) == 3
    (own / "act2see.json").write_text('{"threshold": 0.7}')
    assert load("siglip", own).fingerprint == seen[-1]


def test_a_large_file_counts_by_both_ends_of_every_tensor(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(9 << 20) for name in ("a", "b")}, path)
    assert path.stat().st_size > 64 << 20
    header = path.stat().st_size - (72 << 20)
    seen = {fingerprint([tmp_path])}
    for place in (header, header + (36 << 20) - 1, header + (36 << 20), path.stat().st_size - 1):
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"\x07")
        seen.add(fingerprint([tmp_path]))
    assert len(seen) == 5


# Thresholds


def test_the_threshold_is_ones_own_or_the_folders_or_the_classs(own: Path) -> None:
    provisional = load("siglip", own).threshold
    assert 0 < provisional < 1
    (own / "act2see.json").write_text('{"threshold": 0.7, "notice": "…"}')
    assert load("siglip", own).threshold == 0.7
    assert load("siglip", own, threshold=0.25).threshold == 0.25
    (own / "act2see.json").write_text('{"notice": "…"}')
    assert load("siglip", own).threshold == provisional


def test_the_papers_threshold_is_blip2s(tiny: Callable[[str], Path]) -> None:
    assert load("blip2", tiny("blip2")).threshold == 0.2


@pytest.mark.parametrize("content", ['{"threshold": "high"}', '{"threshold": true}', '{"threshold": NaN}', "[0.5]", "{"])
def test_a_threshold_that_is_no_number_is_refused(own: Path, content: str) -> None:
    (own / "act2see.json").write_text(content)
    assert "act2see.json" in refusal("siglip", own)


# What cannot be loaded


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_a_tensor(path: Path) -> None:
    weights = load_file(path)
    del weights["logit_bias"]
    save_file(weights, path, metadata={"format": "pt"})


def without_tokenizer(own: Path) -> None:
    for path in own.glob("tokenizer*"):
        path.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda own: (own / "config.json").unlink(), "config.json"),
    "cut config": (lambda own: cut(own / "config.json"), "config.json"),
    "a list for a config": (lambda own: (own / "config.json").write_text("[]"), "config.json"),
    "no model type": (lambda own: (own / "config.json").write_text("{}"), "no 'model_type'"),
    "a list for a model type": (lambda own: edit(own / "config.json", model_type=["siglip"]), "no 'model_type' that is a text"),
    "a type nobody knows": (
        lambda own: edit(own / "config.json", model_type="own", auto_map={"AutoModel": "own.Own"}),
        "siglip supports siglip, siglip2",
    ),
    "a config of nonsense": (lambda own: edit(own / "config.json", vision_config={"hidden_size": "wide"}), "the weights"),
    "an activation nobody knows": (lambda own: edit(own / "config.json", vision_config={"hidden_act": "nope"}), "the weights"),
    "another shape": (lambda own: edit(own / "config.json", vision_config={"hidden_size": 64}), "the weights"),
    "no weights": (lambda own: (own / "model.safetensors").unlink(), "no weights in safetensors"),
    "pickled weights": (lambda own: (own / "model.safetensors").rename(own / "pytorch_model.bin"), "no weights in safetensors"),
    "cut weights": (lambda own: cut(own / "model.safetensors"), "the weights"),
    "empty weights": (lambda own: (own / "model.safetensors").write_bytes(b""), "the weights"),
    "junk weights": (lambda own: (own / "model.safetensors").write_bytes(b"junk" * 50), "the weights"),
    "a tensor too few": (lambda own: without_a_tensor(own / "model.safetensors"), "1 tensors of a SiglipModel are missing, logit_bias"),
    "no tokenizer": (without_tokenizer, "the tokenizer"),
    "cut tokenizer": (lambda own: cut(own / "tokenizer.json"), "the tokenizer"),
    "tokenizer of nonsense": (lambda own: edit(own / "tokenizer.json", model={"type": "Nope"}), "the tokenizer"),
    "no image processor": (lambda own: (own / "preprocessor_config.json").unlink(), "the image processor"),
    "cut image processor": (lambda own: cut(own / "preprocessor_config.json"), "the image processor"),
    "no size": (lambda own: edit(own / "preprocessor_config.json", size={"longest_edge": 32}), "the image processor"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused_in_one_line(own: Path, damage: str) -> None:
    change, message = DAMAGE[damage]
    change(own)
    assert message in refusal("siglip", own)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_of_the_folder_is_never_run_nor_asked_about(own: Path, file: str) -> None:
    (own / "own.py").write_text("raise SystemExit('it ran')")
    names = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor")
    edit(own / file, auto_map=dict.fromkeys(names, "own.Own") | {"AutoTokenizer": ["own.Own", None]})
    load("siglip", own)


@pytest.mark.parametrize(("asked", "there"), [("siglip", "clip"), ("clip", "siglip"), ("clip", "blip2"), ("blip2", "clip"), ("embedding", "siglip")])
def test_another_encoders_model_is_refused_by_its_right_name(asked: str, there: str, tiny: Callable[[str], Path]) -> None:
    assert f"name it {there}:{tiny(there)}" in refusal(asked, tiny(there))


def test_a_blip2_without_its_text_half_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """The hub's BLIP-2 models that write captions are of the same type, but lack what compares."""
    folder = shutil.copytree(tiny("blip2"), tmp_path / "writer")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in weights.items() if not name.startswith(("text_projection", "embeddings"))}, folder / "model.safetensors"
    )
    assert "tensors of a Blip2ForImageTextRetrieval are missing" in refusal("blip2", folder)


def test_a_blip2_whose_q_former_reads_no_text_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("blip2"), tmp_path / "mute")
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", qformer_config=config["qformer_config"] | {"use_qformer_text_input": False})
    assert "without text input" in refusal("blip2", folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"device": "toaster"}, "device 'toaster' cannot be used here"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"width": 64}, "does not support width"),
    ],
)
def test_settings_that_cannot_be_are_refused(tiny: Callable[[str], Path], settings: dict[str, Any], message: str) -> None:
    assert message in refusal("siglip", tiny("siglip"), **settings)


@pytest.mark.parametrize("model", ["no-such-folder", "/no/such/folder", "../up", "a/b/c", ""])
def test_neither_a_folder_nor_a_hubs_name_is_refused(model: str) -> None:
    assert "no folder" in refusal("siglip", model)


# Names on the hub, from the cache that its downloads lie in


def test_a_name_on_the_hub_is_loaded_as_its_folder_is(tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert "HF_HUB_OFFLINE is set" in refusal("siglip", "someone/tiny")
    commit = "0" * 40
    downloaded = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny("siglip"), downloaded / "snapshots" / commit)
    (downloaded / "refs").mkdir()
    (downloaded / "refs" / "main").write_text(commit)
    assert load("siglip", "someone/tiny").name == "siglip:tiny"
    assert load("siglip", "someone/tiny").fingerprint == load("siglip", tiny("siglip")).fingerprint
