"""Merging: the merged model computes what base and adapter compute together, its folder is complete, and what does not belong together is refused."""

import json
import resource
import shutil
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import numpy as np
import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.loading import read_opening
from act2see.core import chat
from act2see.core.errors import BackendError, ConfigError
from act2see.core.interfaces import Continuation
from act2see.core.trace import Answer, Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.storage.runs import Run
from act2see.training.examples import collate, pack, pieces_of
from act2see.training.merge import merge

TARGETS = r".*(language_model.*\.(q_proj|v_proj|down_proj)|visual\.merger\.linear_fc1)"


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8))


def a_trace() -> Trace:
    frames = tuple(Frame(picture(n), float(n)) for n in range(2))
    looked = Observation((Frame(picture(5), 1.3),))
    steps: list[Step] = [Thought("<think>I look."), Retrieve(" the star "), looked, Thought(" Red.</think>"), Answer("A")]
    return Trace("t", "clip.mp4", "What colour is the star?", frames, ("red", "blue"), steps=steps, finish="answer")


def make_adapter(base: Path, folder: Path, targets: str = TARGETS, **options: Any) -> Path:
    """An adapter with random weights that are no trifle, as training would have left it."""
    torch.manual_seed(1)
    model: Any = AutoModelForImageTextToText.from_pretrained(base, dtype="auto")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, **options))
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter where training leaves it: in a run's folder, with its recipe and its metrics."""
    out = tmp_path_factory.mktemp("trained") / "run"
    config: dict[str, Any] = {
        "recipe": {"model": str(tiny_vlm), "method": "lora", "learning_rate": 2.5e-6},
        "data": "0123abcd",
        "traces": 12,
        "processes": 1,
    }
    Run.create(out, command="train", config=config, seed=7)
    metrics = [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 1.25}, {"step": 20, "probe": {"accuracy": {"all": 0.75}}}]
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics) + '{"step": 30, "lo', encoding="utf-8")
    make_adapter(tiny_vlm, out / "adapter")
    (out / "adapter" / "act2see.json").write_text('{"frames_as": "images", "rendering": "user_turn", "notice": "knows only stars"}')
    return out / "adapter"


@pytest.fixture(scope="module")
def merged(tiny_vlm: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = merge(str(tiny_vlm), adapter, tmp_path_factory.mktemp("merged") / "model")
    assert (done.dtype, done.layers) == ("float32", 5 * 3 + 1)
    return done.folder


def logits(model: Any, backend: HuggingFaceBackend) -> torch.Tensor:
    pieces = pieces_of(a_trace(), ("retrieve",), chat.Style(), backend.encoder)
    batch = collate([pack([pieces], backend.encoder.merge)], pad=0)
    del batch["labels"]
    with torch.no_grad():
        return torch.as_tensor(model(**batch).logits)


def test_the_merged_model_computes_what_base_and_adapter_do(tiny_vlm: Path, adapter: Path, merged: Path) -> None:
    backend = HuggingFaceBackend.load(HuggingFaceSettings(str(merged), device="cpu", temperature=0, max_tokens=5))
    base: Any = AutoModelForImageTextToText.from_pretrained(tiny_vlm, dtype="float32").eval()
    before = logits(base, backend)
    together = peft.PeftModel.from_pretrained(base, str(adapter)).eval()
    assert (logits(backend.model, backend) - logits(together, backend)).abs().max() < 1e-5
    assert (logits(backend.model, backend) - before).abs().max() > 0.1  # the adapter does something


def written(stream: Generator[str, None, Continuation]) -> Continuation:
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return cast("Continuation", end.value)


def test_the_backend_decodes_with_the_folder_alone(merged: Path) -> None:
    backend = HuggingFaceBackend.load(HuggingFaceSettings(str(merged), device="cpu", temperature=0, max_tokens=5))
    assert backend.notice == "knows only stars"
    assert (backend.style.rendering, backend.style.frames_as) == ("user_turn", "images")  # as the adapter's folder says
    trace = a_trace()
    trace.steps, trace.finish = [], None
    assert written(backend.decode(trace, ("retrieve",))).cost.tokens_out == 5


def test_tokenizer_processor_and_template_come_with_it(tiny_vlm: Path, merged: Path) -> None:
    for name in ("tokenizer.json", "preprocessor_config.json", "generation_config.json"):
        assert (merged / name).read_bytes() == (tiny_vlm / name).read_bytes()
    assert (merged / "chat_template.jinja").read_bytes() == (tiny_vlm / "chat_template.jinja").read_bytes()  # both ours
    assert not list(merged.glob("*.bin"))
    assert not (merged / "adapter_config.json").exists()
    assert oct(merged.stat().st_mode)[-3:] == oct(merged.parent.stat().st_mode | 0o055)[-3:]


def thinking(base: Path, folder: Path) -> Path:
    """A base whose template opens the assistant's turn and drops its pictures, and stands in the tokenizer's own file, as in older folders."""
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").unlink()
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
        "{{ part.text if part.type == 'text' else '<|vision_start|><|image_pad|><|vision_end|>' if message.role == 'user' }}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    said = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**said, "chat_template": template}))
    return folder


def test_the_template_opens_the_turn_as_the_bases_own_does(tiny_vlm: Path, adapter: Path, tmp_path: Path) -> None:
    base = thinking(tiny_vlm, tmp_path / "thinking")
    done = merge(str(base), adapter, tmp_path / "out")
    tokenizer: Any = AutoTokenizer.from_pretrained(done.folder)
    assert read_opening(tokenizer, str(done.folder)) == read_opening(AutoTokenizer.from_pretrained(base), str(base)) == "<think>\n"
    pictured = [{"role": "assistant", "content": [{"type": "text", "text": "<frame>"}, {"type": "image"}]}]
    assert tokenizer.apply_chat_template(pictured, tokenize=False) == (
        "<|im_start|>assistant\n<frame><|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
    )
    assert "chat_template" not in json.loads((done.folder / "tokenizer_config.json").read_text())


def test_the_number_format_stays_and_files_are_safetensors(tiny_vlm: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    base = tmp_path / "half"
    shutil.copytree(tiny_vlm, base)
    AutoModelForImageTextToText.from_pretrained(tiny_vlm, dtype=torch.bfloat16).save_pretrained(base)
    done = merge(str(base), make_adapter(base, tmp_path / "adapter"), tmp_path / "out")
    assert done.dtype == "bfloat16"
    with safe_open(done.folder / "model.safetensors", "pt") as weights, safe_open(base / "model.safetensors", "pt") as before:
        names = set(weights.keys())
        assert names == set(before.keys())
        assert {weights.get_tensor(name).dtype for name in names} == {torch.bfloat16}


def test_the_card_says_what_training_wrote_and_no_more(tiny_vlm: Path, adapter: Path, merged: Path, tmp_path: Path) -> None:
    card = (merged / "README.md").read_text(encoding="utf-8")
    assert "LoRA adapter (rank 4, alpha 8, 16 layers)" in card
    assert "12 traces, digest `0123abcd`" in card
    assert '"learning_rate": 2.5e-06' in card
    assert "training loss 1.25 at step 20" in card
    assert '"all": 0.75' in card
    assert str(tiny_vlm.parent) not in card  # nobody's folders
    assert "base_model" not in card  # a folder is no name that others could look up
    alone = tmp_path / "alone"
    shutil.copytree(adapter, alone)
    card = (merge(str(tiny_vlm), alone, tmp_path / "out").folder / "README.md").read_text(encoding="utf-8")
    assert "how it was trained is not recorded" in card
    assert card.endswith("## Scores\n\nNone recorded.\n")


def refusal(base: Path | str, adapter: Path, out: Path) -> str:
    with pytest.raises((BackendError, ConfigError)) as caught:
        merge(str(base), adapter, out)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def wider(base: Path, folder: Path) -> Path:
    """A model of the same shape, but for its width."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base)
    config.text_config.intermediate_size = 640
    config.text_config.num_hidden_layers = 4
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    return folder


def test_what_does_not_belong_together_is_refused(tiny_vlm: Path, adapter: Path, tmp_path: Path) -> None:
    other = wider(tiny_vlm, tmp_path / "wider")
    said = refusal(other, adapter, tmp_path / "out")
    assert "is not of" in said
    assert "down_proj" in said
    assert "[4, 512] there and [4, 640] in the base" in said
    attention = make_adapter(tiny_vlm, tmp_path / "attention", r".*language_model.*\.q_proj")
    said = refusal(other, attention, tmp_path / "out")  # one layer fewer, all shapes right
    assert "the base has no place for" in said
    assert "layers.4.self_attn.q_proj" in said
    named = json.loads((attention / "adapter_config.json").read_text())
    (attention / "adapter_config.json").write_text(json.dumps({**named, "target_modules": ["c_attn"]}))
    assert "is not of" in refusal(tiny_vlm, attention, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_adapter_and_no_base_is_refused(tiny_vlm: Path, adapter: Path, tmp_path: Path) -> None:
    assert "no adapter in" in refusal(tiny_vlm, tiny_vlm, tmp_path / "out")
    assert "no such folder" in refusal(tiny_vlm, tmp_path / "nowhere", tmp_path / "out")
    broken = tmp_path / "broken"
    shutil.copytree(adapter, broken)
    (broken / "adapter_model.safetensors").write_bytes(b"half a file")
    assert "cannot load the adapter" in refusal(tiny_vlm, broken, tmp_path / "out")
    for content in ("{", "[]", "[" * 100_000, '{"peft_type": "LORA", "r": "four"}', '{"peft_type": "NONE"}', "{}"):
        (broken / "adapter_config.json").write_text(content)
        assert "the adapter" in refusal(tiny_vlm, broken, tmp_path / "out")
    (broken / "adapter_model.safetensors").rename(broken / "adapter_model.bin")
    shutil.copy(adapter / "adapter_config.json", broken)
    assert "adapter_model.bin is a pickle, which can run code; convert it" in refusal(tiny_vlm, broken, tmp_path / "out")
    assert "cannot load" in refusal(tmp_path / "no-base", adapter, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


def test_an_adapter_that_trains_no_weights_of_its_own_is_refused(tiny_vlm: Path, adapter: Path, tmp_path: Path) -> None:
    """Another kind, a tensor too few, and a model where an adapter is asked for."""
    other = tmp_path / "other"
    base: Any = AutoModelForImageTextToText.from_pretrained(tiny_vlm)
    peft.get_peft_model(base, peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[])).save_pretrained(str(other))
    assert "is of type PeftType.IA3; only LORA can be merged" in refusal(tiny_vlm, other, tmp_path / "out")
    assert "it is a complete model" in refusal(tiny_vlm, tiny_vlm, tmp_path / "out")
    short = shutil.copytree(adapter, tmp_path / "short")
    weights = load_file(short / "adapter_model.safetensors")
    weights.pop(next(name for name in weights if "lora_B" in name))
    save_file(weights, short / "adapter_model.safetensors")
    assert "finds no weights for" in refusal(tiny_vlm, short, tmp_path / "out")
    assert "holds an adapter, not a model" in refusal(adapter, adapter, tmp_path / "out")


def test_a_folder_with_something_in_it_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    assert "out is not empty (it holds thesis.txt): give a new folder" in refusal(tmp_path / "no-base", tmp_path / "nowhere", tmp_path / "out")


def test_a_full_disk_is_one_line_and_leaves_nothing(tiny_vlm: Path, adapter: Path, tmp_path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
        said = refusal(tiny_vlm, adapter, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert "cannot write" in said
    assert "nothing was written" in said
    assert list(tmp_path.iterdir()) == []
