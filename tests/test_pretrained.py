"""Folders of weights: whatever is wrong with a Qwen3-VL's is one line, nothing goes to stdout, and one module alone loads them."""

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

import act2see
from act2see.backends import pretrained
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.loading import load_vlm, reader
from act2see.core.errors import Act2SeeError, BackendError, ConfigError
from act2see.tools.encoders.loading import EncoderSettings
from act2see.tools.encoders.siglip import SiglipEncoder
from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings

SOURCE = Path(act2see.__file__).parent
WEIGHTS = "model.safetensors"


@pytest.fixture
def own(tiny_vlm: Path, tmp_path: Path) -> Path:
    """A Qwen3-VL's folder that may be written to."""
    return shutil.copytree(tiny_vlm, tmp_path / "own")


def refusal(model: Path | str, **settings: Any) -> str:
    with pytest.raises(Act2SeeError) as raised:
        HuggingFaceBackend.load(HuggingFaceSettings(str(model), **{"device": "cpu", **settings}))
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 700
    return said


def edit(path: Path, part: str | None = None, **changes: Any) -> None:
    content = json.loads(path.read_text())
    if part is None:
        content |= changes
    else:
        content[part] |= changes
    path.write_text(json.dumps(content))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def lie(folder: Path) -> None:
    """A header that says of every tensor that it is larger than what is there."""
    content = (folder / WEIGHTS).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(b'"shape":[192,', b'"shape":[992,')
    assert len(header) == size
    (folder / WEIGHTS).write_bytes(content[:8] + header + content[8 + size :])


def shards(folder: Path) -> list[Path]:
    model: Any = AutoModelForImageTextToText.from_pretrained(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="8MB")
    return sorted(folder.glob("*.safetensors"))


def renamed_shard(folder: Path) -> None:
    shards(folder)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "../other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda own: (own / "config.json").unlink(), "no config.json in"),
    "cut config": (lambda own: cut(own / "config.json"), "config.json cannot be read"),
    "a list for a config": (lambda own: (own / "config.json").write_text("[]"), "it holds no JSON object"),
    "a deep config": (lambda own: (own / "config.json").write_text("[" * 200_000), "config.json cannot be read"),
    "a huge config": (lambda own: (own / "config.json").write_bytes(b" " * ((64 << 20) + 1)), "67,108,865 bytes; at most 67,108,864"),
    "a config that is no text": (lambda own: (own / "config.json").write_bytes(b"\xff\xfe{}"), "config.json cannot be read"),
    "no model type": (lambda own: (own / "config.json").write_text("{}"), "no 'model_type' that is a text"),
    "another kind of model": (lambda own: edit(own / "config.json", model_type="clip"), "is a model of type 'clip'"),
    "code of its own": (lambda own: edit(own / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own"}), "is a model of type 'own'"),
    "a text for a number": (lambda own: edit(own / "config.json", "text_config", num_hidden_layers="5"), "num_hidden_layers"),
    "more layers than weights": (lambda own: edit(own / "config.json", "text_config", num_hidden_layers=6), "layers.5."),
    "layers without end": (lambda own: edit(own / "config.json", "text_config", num_hidden_layers=10**9), "1,000,000,000 layers"),
    "far too wide": (lambda own: edit(own / "config.json", "text_config", intermediate_size=10**9), "its config.json wants"),
    "fewer layers than weights": (
        lambda own: edit(own / "config.json", "text_config", num_hidden_layers=4),
        "no place for model.language_model.layers.4",
    ),
    "narrower than its weights": (lambda own: edit(own / "config.json", "text_config", intermediate_size=256), "by its config.json"),
    "no weights": (lambda own: (own / WEIGHTS).unlink(), "no weights in safetensors: no model.safetensors in"),
    "pickled weights": (
        lambda own: (own / WEIGHTS).rename(own / "pytorch_model.bin"),
        "pytorch_model.bin is a pickle, which can run code; convert it",
    ),
    "cut weights": (lambda own: cut(own / WEIGHTS), "the weights in model.safetensors are damaged"),
    "weights cut in the header": (lambda own: cut(own / WEIGHTS, 0.0001), "the weights in model.safetensors are damaged"),
    "empty weights": (lambda own: (own / WEIGHTS).write_bytes(b""), "the weights in model.safetensors are damaged"),
    "junk weights": (lambda own: (own / WEIGHTS).write_bytes(b"junk" * 50), "the weights in model.safetensors are damaged"),
    "a header without end": (lambda own: (own / WEIGHTS).write_bytes(b"\xff" * 7 + b"\x7f{}"), "the weights in model.safetensors are damaged"),
    "a header that lies": (lie, "the weights in model.safetensors are damaged"),
    "a tensor too few": (
        lambda own: rewrite(own, lambda weights: weights.pop("model.language_model.norm.weight")),
        "1 tensors of a Qwen3VLForConditionalGeneration are missing, model.language_model.norm.weight",
    ),
    "a tensor of another name": (
        lambda own: rewrite(own, lambda weights: weights.update(another=weights.pop("model.language_model.norm.weight"))),
        "1 tensors of a Qwen3VLForConditionalGeneration are missing, model.language_model.norm.weight",
    ),
    "a tensor of another shape": (
        lambda own: rewrite(own, lambda weights: weights.update({"model.language_model.norm.weight": torch.ones(500)})),
        "model.language_model.norm.weight is [500] there and [192] by its config.json",
    ),
    "a tensor too many": (lambda own: rewrite(own, lambda weights: weights.update(another=torch.ones(3))), "no place for another (1 such)"),
    "a shard too few": (lambda own: shards(own)[1].unlink(), "1 of 2 weight files are missing, model-00002-of-00002.safetensors for one"),
    "a cut shard": (lambda own: cut(shards(own)[0]), "the weights in model-00001-of-00002.safetensors are damaged"),
    "shards elsewhere": (renamed_shard, "names no files of its folder"),
    "an index that is a list": (
        lambda own: shards(own) and (own / "model.safetensors.index.json").write_text("[]"),
        "model.safetensors.index.json cannot be read",
    ),
    "no tokenizer": (without_tokenizer, "the tokenizer of"),
    "cut tokenizer": (lambda own: cut(own / "tokenizer.json"), "the tokenizer of"),
    "tokenizer of nonsense": (lambda own: edit(own / "tokenizer.json", model={"type": "Nope"}), "the tokenizer of"),
    "a template of nonsense": (lambda own: (own / "chat_template.jinja").write_text("{% if %}"), "the chat template of"),
    "a template that calls": (lambda own: (own / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}"), "the chat template of"),
    "no image processor": (lambda own: (own / "preprocessor_config.json").unlink(), "the image processor of"),
    "cut image processor": (lambda own: cut(own / "preprocessor_config.json"), "the image processor of"),
    "another's image processor": (
        lambda own: (own / "preprocessor_config.json").write_text('{"image_processor_type": "CLIPImageProcessor"}'),
        "the image processor of",
    ),
    "settings that are a list": (lambda own: (own / "act2see.json").write_text("[1]"), "act2see.json cannot be read"),
    "a notice that is no text": (lambda own: edit(own / "act2see.json", notice=["a"]), "notice is ['a']"),
    "settings of generation that are a list": (lambda own: (own / "generation_config.json").write_text("[1]"), "the weights of"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_one_line_and_nothing_on_stdout(own: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    change, message = DAMAGE[damage]
    change(own)
    capfd.readouterr()
    assert message in refusal(own)
    out, err = capfd.readouterr()
    assert out == ""
    assert "REPORT" not in err
    assert "warn" not in err.lower()


def test_whole_folders_load_without_a_word(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plain = load_vlm(str(own)).state_dict()
    parts = shards(own)
    assert len(parts) == 2
    capfd.readouterr()
    again = load_vlm(str(own)).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in plain.items())
    assert capfd.readouterr().out == ""


def test_what_a_folder_is_not_is_said(tiny_vlm: Path, tmp_path: Path) -> None:
    assert f"no folder '{tiny_vlm / WEIGHTS}'" in refusal(tiny_vlm / WEIGHTS)
    for name in (str(tmp_path / "nowhere"), "a" * 5000, "~nobody-of-this-name/x", "a\0b", ""):
        assert "no folder" in refusal(name)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter, not a model; name its base as the model and this folder with --adapter" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "model_index.json").write_text("{}")
    assert f"holds a diffusers pipeline; name it with --generator diffusers:{tmp_path}" in refusal(tmp_path)


def test_code_of_the_folder_is_never_run(own: Path) -> None:
    (own / "own.py").write_text("raise SystemExit('it ran')")
    names = dict.fromkeys(("AutoConfig", "AutoModelForImageTextToText", "AutoImageProcessor"), "own.Own") | {"AutoTokenizer": ["own.Own", None]}
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        edit(own / file, auto_map=names)
    load_vlm(str(own))
    reader(str(own))


# Where, and how


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "cuda:-1", "mps", "xpu", "meta", "hpu", "mkldnn", "gpu", "", "cpu:x", "0", "toaster"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(device: str) -> None:
    if device.startswith("cuda") and torch.cuda.is_available():
        device = "cuda:99"
    said = f"device {device!r} cannot be used here"
    nowhere = "/no/such/folder"
    assert said in refusal(nowhere, device=device)
    for load in (
        lambda: SiglipEncoder.load(EncoderSettings(nowhere, device=device)),
        lambda: DiffusionPainter.load(DiffusionSettings(nowhere, device)),
    ):
        with pytest.raises(ConfigError) as told:
            load()
        assert said in str(told.value)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("dtype", ["int8", "float64", "half", "", "torch.float16"])
def test_a_number_format_that_is_not_known_is_refused_before_anything_is_read(dtype: str) -> None:
    assert f"dtype is {dtype!r}; allowed are auto, float32, bfloat16, float16" in refusal("/no/such/folder", dtype=dtype)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        *(({"temperature": value}, "temperature is") for value in (float("inf"), float("nan"), -1.0, 1e-320)),
        *(({"top_p": value}, "top_p is") for value in (0.0, 1.5, -0.1, float("nan"))),
        ({"top_k": -1}, "top_k is -1; it must be 1 or more, or 0 for all tokens"),
        *(({"max_tokens": value}, "max_tokens is") for value in (0, -5)),
    ],
)
def test_sampling_that_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        HuggingFaceSettings("/no/such/folder", **settings)


def test_sampling_at_its_limits_is_taken(tiny_vlm: Path) -> None:
    for limits in ({"temperature": 0}, {"temperature": 1e-4, "top_k": 0, "top_p": 1.0}, {"temperature": 1e6, "top_p": 1e-9, "top_k": 10**9}):
        settings = HuggingFaceSettings(str(tiny_vlm), device="cpu", **limits)
        draw = HuggingFaceBackend.load(settings)._sampler(act2see.Trace("t", "clip.mp4", "Why?", ()))
        assert 0 <= draw(torch.randn(600) * 100) < 600


# The hub


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that refuses connections at once, and an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_hub_that_is_away_is_asked_once(no_hub: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(model: str, **options: Any) -> str:
        asked.append(model)
        return str(huggingface_hub.snapshot_download(model, **options))

    monkeypatch.setattr(pretrained, "snapshot_download", ask)
    said = refusal("Qwen/Qwen3-VL-8B-Thinking")
    assert asked == ["Qwen/Qwen3-VL-8B-Thinking"]
    for way in ("it is not a local folder", "Connection refused", "a local folder", "HF_HOME", "HF_ENDPOINT", "--backend openai:MODEL"):
        assert way in said
    assert "Retrying" not in capfd.readouterr().err
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "(HF_HUB_OFFLINE is set)" in refusal("Qwen/Qwen3-VL-8B-Thinking")


def test_painters_and_embedders_ask_the_hub_once_too(no_hub: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from act2see.tools.encoders.sentences import Sentences

    for load in (lambda: Sentences("BAAI/bge-m3"), lambda: DiffusionPainter.load(DiffusionSettings("flux2-klein"))):
        with pytest.raises(ConfigError, match="the hub is unreachable"):
            load()


def test_what_the_cache_holds_is_used_where_the_hub_is_away(tiny_vlm: Path, no_hub: Path) -> None:
    stored = no_hub / "models--someone--tiny"
    shutil.copytree(tiny_vlm, stored / "snapshots" / ("0" * 40))
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("0" * 40)
    backend = HuggingFaceBackend.load(HuggingFaceSettings("someone/tiny", device="cpu"))
    assert backend.made_with["model"] == "tiny"
    assert backend.notice


# One place


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            yield name, node


def literal(call: ast.Call, keyword: str) -> object:
    return next((ast.literal_eval(one.value) for one in call.keywords if one.arg == keyword and isinstance(one.value, ast.Constant)), None)


def unsafe(source: str, *, here: bool) -> list[str]:
    """Calls that load other than from safetensors, or that may run a folder's code. `here`: the one module that may call `from_pretrained`."""
    found = []
    for name, call in calls(ast.parse(source)):
        if name in ("from_pretrained", "from_single_file", "pipeline") and not here:
            found.append(f"line {call.lineno}: {name} outside of act2see.backends.pretrained")
        if name in ("from_pretrained", "SentenceTransformer") and literal(call, "trust_remote_code") is not False:
            found.append(f"line {call.lineno}: {name} without trust_remote_code=False")
        if name == "SentenceTransformer" and "'use_safetensors': True" not in ast.unparse(call):
            found.append(f"line {call.lineno}: {name} without use_safetensors")
        if name == "load" and isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("torch", "pickle"):
            found.append(f"line {call.lineno}: a pickle is loaded")
    return found


def test_nothing_is_loaded_but_through_one_module() -> None:
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 100
    for path in files:
        assert unsafe(path.read_text(encoding="utf-8"), here=path.name == "pretrained.py") == [], path
    inside = ast.parse((SOURCE / "backends" / "pretrained.py").read_text(encoding="utf-8"))
    by_function = {function.name: function for function in ast.walk(inside) if isinstance(function, ast.FunctionDef)}
    for name in ("load_model", "load_pipeline"):
        (call,) = [call for called, call in calls(by_function[name]) if called == "from_pretrained"]
        assert literal(call, "use_safetensors") is True


def test_what_is_unsafe_is_found() -> None:
    for bad in (
        "AutoModel.from_pretrained(x)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "SentenceTransformer(x)",
        "SentenceTransformer(x, trust_remote_code=False)",
        "torch.load(x)",
    ):
        assert unsafe(bad, here=False), bad
    assert unsafe("AutoModel.from_pretrained(x, trust_remote_code=False)", here=True) == []
    with pytest.raises(BackendError):
        load_vlm("/no/such/folder")
