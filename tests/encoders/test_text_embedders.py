"""Texts as vectors: counted words, which every machine counts alike, and sentence-transformers on a tiny random model."""

import json
import math
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from act2see.core.errors import ConfigError
from act2see.core.interfaces import TextEmbedder
from act2see.tools.encoders.sentences import Sentences
from act2see.tools.encoders.words import SMALL_WORDS, WIDTH, Words

LISTS = st.lists(st.sampled_from(["star", "ring", "red", "blue", "the", "is", "über", "星"]), max_size=12)


def embed(*texts: str) -> Any:
    embedder: TextEmbedder = Words()
    return embedder.embed(texts)


# Words


def test_each_word_has_its_place_on_every_machine() -> None:
    """The CRC-32 of a text is fixed by its standard, whose check value is that of `123456789`."""
    assert zlib.crc32(b"123456789") == 0xCBF43926
    (vector,) = embed("123456789")
    assert vector.shape == (WIDTH,) == (4096,)
    assert np.flatnonzero(vector).tolist() == [0xCBF43926 % 4096]


def test_another_process_computes_the_same() -> None:
    """Python's own hashes differ from one process to the next."""
    text = "a red star and, to the left, two blue rings"
    code = f"from act2see.tools.encoders.words import Words; print(Words().embed([{text!r}]).tobytes().hex())"
    outputs = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() for _ in range(2)}
    assert outputs == {embed(text).tobytes().hex()}


@given(LISTS, st.randoms(use_true_random=False))
def test_the_order_of_words_says_nothing(words: list[str], rng: Any) -> None:
    mixed = list(words)
    rng.shuffle(mixed)
    np.testing.assert_array_equal(*embed(" ".join(words), ", ".join(mixed).upper() + "."))


@given(st.lists(st.text(), max_size=4))
def test_vectors_are_of_unit_length_or_zero(texts: list[str]) -> None:
    vectors = Words().embed(texts)
    assert vectors.shape == (len(texts), WIDTH)
    assert vectors.dtype == np.float32
    assert (vectors >= 0).all()
    for length in np.linalg.norm(vectors, axis=1):
        assert length == 0 or length == pytest.approx(1, abs=1e-5)


@given(LISTS, LISTS)
def test_cosines_are_those_of_the_roots_of_the_counts(first: list[str], second: list[str]) -> None:
    kept = [[word for word in words if word not in SMALL_WORDS] for words in (first, second)]
    common = sum(math.sqrt(kept[0].count(word) * kept[1].count(word)) for word in set(kept[0]))
    expected = common / math.sqrt(len(kept[0]) * len(kept[1])) if all(kept) else 0.0
    one, other = embed(" ".join(first), " ".join(second))
    assert float(one @ other) == pytest.approx(expected, abs=1e-5)


def test_small_words_and_signs_say_nothing() -> None:
    np.testing.assert_array_equal(*embed("The star is on the left!", "star: left"))
    assert not embed("it is, as to the ...", "").any()
    assert float(np.prod(embed("star", "stars"), axis=0).sum()) == 0  # nor is a word like another


# Sentences


def save_sentences(folder: Path) -> Path:
    """A tiny BERT with random weights and mean pooling, in the files that a model of sentence-transformers has."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "red", "blue", "star", "ring", "is", "left"]
    raw = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    marks = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=16, **marks).save_pretrained(folder)
    size: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.5}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=16, **size)).save_pretrained(folder)
    parts = (("", "Transformer"), ("1_Pooling", "Pooling"))
    modules = [{"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"} for n, (path, name) in enumerate(parts)]
    files: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sentences(tmp_path_factory.mktemp("sentences"))


def means(folder: Path, text: str) -> Any:
    """The mean of the last states of one text's tokens, at length 1, by transformers alone."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state
    return torch.nn.functional.normalize(states[0].mean(dim=0), dim=-1).numpy()


def test_vectors_are_transformers_own_states(sentences: Path) -> None:
    texts = ["the red star", "a ring", "blue star is left the ring", "unheard words", " ".join(["red ring"] * 40)] * 4  # more than a batch
    embedder: TextEmbedder = Sentences(str(sentences), "cpu")
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (20, 32)
    expected = np.stack([means(sentences, text) for text in texts])
    assert np.abs(expected[0] - expected[1]).max() > 1e-2
    np.testing.assert_allclose(vectors, expected, atol=1e-5)  # padding changes nothing, and what is too long is cut
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_its_name_tells_no_path(sentences: Path) -> None:
    assert Sentences(str(sentences)).name == f"sentence-transformers:{sentences.name}"


def refusal(model: str, device: str = "cpu") -> str:
    with pytest.raises(ConfigError) as caught:
        Sentences(model, device)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert said.startswith(f"cannot load the embedder {model}: ")
    assert said.endswith("download it and use --embedder sentence-transformers:DIR, or compare by word counts with --embedder words")
    return said


@pytest.mark.parametrize("model", ["BAAI/bge-m3", "/no/such/folder", "no-such-model", "../up", "a/b/c"])
def test_a_model_that_is_not_here_is_told_in_one_line(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    refusal(model)


def test_a_device_that_is_not_here_is_told_in_one_line(sentences: Path) -> None:
    with pytest.raises(ConfigError, match=r"^device 'toaster' cannot be used here") as told:
        Sentences(str(sentences), "toaster")
    assert "\n" not in str(told.value)


def cut_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"cut off")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def write(name: str, content: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        cut_weights,
        no_weights,
        write("config.json", "{"),
        write("config.json", {"model_type": "nobody-knows"}),
        write("tokenizer.json", "{}"),
        write("modules.json", "{"),
        write("modules.json", [{"idx": 0}]),
        write("1_Pooling/config.json", {"unknown": 1}),
    ],
    ids=["cut weights", "no weights", "no JSON", "unknown type", "no tokenizer", "modules no JSON", "modules without a type", "pooling"],
)
@pytest.mark.filterwarnings("ignore")  # what the libraries say besides
def test_a_folder_that_is_broken_is_told_in_one_line(edit: Callable[[Path], None], sentences: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sentences, tmp_path / "broken")
    edit(folder)
    refusal(str(folder))


def test_code_of_the_folder_is_never_run(sentences: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sentences, tmp_path / "coded")
    (folder / "own.py").write_text("raise SystemExit('it ran')\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "own.Module"
    (folder / "modules.json").write_text(json.dumps(modules))
    refusal(str(folder))
