"""Adapters on embeddings: where both share a tensor, peft would add one's change to both; the merged folder computes what base and adapter do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText

from act2see.backends import adapters
from act2see.backends.adapters import check_same, logits_of, merge_into, read_adapter
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.loading import load_vlm, reader
from act2see.core.errors import BackendError
from act2see.training.merge import merge

CASES: dict[str, dict[str, Any]] = {
    "lm_head": {"target_modules": ["lm_head", "q_proj"]},
    "embed_tokens": {"target_modules": ["embed_tokens", "q_proj"]},
    "both": {"target_modules": ["embed_tokens", "lm_head"]},
    "both, kept tied": {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    "both, DoRA": {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True},
    "lm_head saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "embed_tokens saved": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "saved, kept tied": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "some tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [300, 301]},
    "neither": {"target_modules": ["q_proj", "down_proj"], "use_rslora": True},
}
STAYS_TIED = ("saved, kept tied", "some tokens", "neither")


@pytest.fixture(scope="module")
def untied_vlm(tiny_vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "untied"
    shutil.copytree(tiny_vlm, folder)
    model: Any = AutoModelForImageTextToText.from_pretrained(tiny_vlm)
    torch.manual_seed(2)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.05)
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder)
    return folder


def trained(base: Path, folder: Path, options: dict[str, Any]) -> Any:
    """An adapter as training leaves it, and peft's own model of both."""
    torch.manual_seed(1)
    model: Any = AutoModelForImageTextToText.from_pretrained(base)
    together = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, **options))
    for name, weight in together.named_parameters():
        if weight.requires_grad:
            weight.data += torch.randn_like(weight) * (0.2 if "lora" in name else 0.05)
    together.save_pretrained(str(folder))
    return together.eval()


@pytest.mark.filterwarnings("ignore::UserWarning:peft")  # it warns of tied embeddings while the adapters are made
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_folder_computes_what_base_and_adapter_do(
    case: str, tied: bool, tiny_vlm: Path, untied_vlm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tiny_vlm if tied else untied_vlm
    together = trained(base, tmp_path / "adapter", CASES[case])
    capsys.readouterr()
    done = merge(str(base), tmp_path / "adapter", tmp_path / "out")
    assert capsys.readouterr().out == ""
    assert done.difference < 0.006
    config = json.loads((done.folder / "config.json").read_text())
    assert config["tie_word_embeddings"] is (tied and case in STAYS_TIED)
    with safe_open(done.folder / "model.safetensors", "pt") as weights:
        assert ("lm_head.weight" in weights.keys()) is not config["tie_word_embeddings"]  # noqa: SIM118 - no mapping
    written: Any = AutoModelForImageTextToText.from_pretrained(done.folder).eval()
    ids = torch.arange(10, 400, 7)[None]
    with torch.no_grad():
        assert (written(input_ids=ids).logits - together(input_ids=ids).logits).abs().max() < 0.006
    backend = HuggingFaceBackend.load(HuggingFaceSettings(str(base), adapter=str(tmp_path / "adapter"), device="cpu", temperature=0))
    with torch.no_grad():
        assert (backend.model(input_ids=ids).logits - together(input_ids=ids).logits).abs().max() < 0.006


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_half_types_round_is_no_difference(dtype: torch.dtype, tiny_vlm: Path, tmp_path: Path) -> None:
    trained(tiny_vlm, tmp_path / "adapter", CASES["both"])
    encoder, _, _ = reader(str(tiny_vlm))
    merged = merge_into(load_vlm(str(tiny_vlm), dtype=dtype), read_adapter(str(tmp_path / "adapter")), str(tiny_vlm), encoder)
    difference = logits_of(merged.model, merged.sequence, encoder.merge) - merged.apart
    assert 0 < difference.abs().max() < 0.3  # of logits up to 14


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["lm_head", "embed_tokens", "both, kept tied"])
def test_a_merge_that_changes_the_logits_is_refused_with_the_number(
    case: str, dtype: torch.dtype, tiny_vlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As peft alone would merge it, with the embeddings left tied."""
    monkeypatch.setattr(adapters, "_untie", lambda model: None)
    trained(tiny_vlm, tmp_path / "adapter", CASES[case])
    encoder, _, _ = reader(str(tiny_vlm))
    with pytest.raises(BackendError, match=r"changes what it computes: logits differ by up to \d+.*serve base and adapter apart") as told:
        merge_into(load_vlm(str(tiny_vlm), dtype=dtype), read_adapter(str(tmp_path / "adapter")), str(tiny_vlm), encoder)
    assert "\n" not in str(told.value)


def test_logits_that_are_no_numbers_are_refused() -> None:
    logits = torch.randn(3, 5)
    check_same(logits, logits + 1e-6, torch.float32, "a")
    for broken in (torch.nan, torch.inf):
        with pytest.raises(BackendError, match="changes what it computes"):
            check_same(logits, torch.full((3, 5), broken), torch.float32, "a")


def test_what_is_compared_has_a_picture_and_the_tokens_that_are_trained(tiny_vlm: Path, tmp_path: Path) -> None:
    trained(tiny_vlm, tmp_path / "adapter", {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [401, 400]}})
    encoder, _, _ = reader(str(tiny_vlm))
    sequence = merge_into(load_vlm(str(tiny_vlm), dtype="float32"), read_adapter(str(tmp_path / "adapter")), str(tiny_vlm), encoder).sequence
    assert sum(piece.pixels is not None for piece in sequence) == 2
    assert [piece.ids for piece in sequence[-2:]] == [(400,), (401,)]


def test_with_an_adapter_two_more_prompts_are_computed(tiny_vlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the comparison costs: one forward before merging, and one after."""
    trained(tiny_vlm, tmp_path / "adapter", CASES["neither"])
    asked: list[int] = []
    compute: Callable[..., torch.Tensor] = adapters.logits_of

    def counted(*given: Any) -> torch.Tensor:
        asked.append(1)
        return compute(*given)

    monkeypatch.setattr(adapters, "logits_of", counted)
    HuggingFaceBackend.load(HuggingFaceSettings(str(tiny_vlm), adapter=str(tmp_path / "adapter"), device="cpu"))
    assert len(asked) == 2
