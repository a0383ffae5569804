"""Exports: each loaded by the library that it is for, or held against that library's documented schema; the table rebuilt into the run's traces."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, Qwen3VLProcessor
from transformers.utils.chat_template_utils import render_jinja_template

from act2see.backends.encoder import Encoder
from act2see.core import chat
from act2see.core.trace import Answer, Thought
from act2see.curation.export import Format
from act2see.storage.runs import Run
from act2see.training.examples import IGNORED, pack, pieces_of
from exported_runs import FORMATS, KNOWS, LOOKS, PACKAGE, exported, frame_names, lines_of, make_run, trace_of


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


@pytest.mark.parametrize("form", FORMATS)
def test_answered_traces_are_exported_and_the_others_are_named(run: Run, tmp_path: Path, form: Format) -> None:
    done = exported(run, tmp_path / "out", form)
    assert done.traces == 2
    reasons = {one.id: one.reason for one in done.skipped}
    assert list(reasons) == ["cut off", "blind", "lost"]
    assert reasons["cut off"] == "it has no answer (its end: length)"
    assert reasons["blind"] == f"traces.jsonl:4: frames/{frame_names(run, 'blind')[1]} cannot be read as a picture: it is no PNG"
    assert reasons["lost"] == f"traces.jsonl:5: frames/{frame_names(run, 'lost')[0]} is missing: the trace cannot be read without it"
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert told["traces"] == 2
    assert {one["id"]: one["reason"] for one in told["skipped"]} == reasons
    assert told["run"] == {"command": "ask", "digest": run.digest}


@pytest.mark.parametrize("form", ["trl", "llamafactory", "swift"])
def test_pictures_lie_beside_as_they_lay_in_the_run(run: Run, tmp_path: Path, form: Format) -> None:
    done = exported(run, tmp_path / "out", form)
    rows = lines_of(tmp_path / "out" / ("metadata.jsonl" if form == "trl" else "train.jsonl"))
    named = [path for row in rows for path in row["images_file_names" if form == "trl" else "images"]]
    assert [len(row["images_file_names" if form == "trl" else "images"]) for row in rows] == [4, 2]
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out" / "images").iterdir()} == set(named)
    assert done.images == len(set(named)) == 6
    for path in named:
        assert (tmp_path / "out" / path).read_bytes() == (run.folder / "frames" / Path(path).name).read_bytes()


# TRL and datasets: loaded, collated and trained with


class WithoutVideos(Qwen3VLProcessor):
    """Qwen3-VL's processor without the part for videos, which needs torchvision. Pictures never come to that part."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        return None if argument_name == "video_processor" else cast("Any", super()).check_argument_for_proper_class(argument_name, argument)


def loaded(folder: Path, tmp_path: Path) -> Any:
    from datasets import load_dataset

    return load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def encoder(tiny_vlm: Path) -> Encoder:
    return Encoder(AutoTokenizer.from_pretrained(tiny_vlm), AutoImageProcessor.from_pretrained(tiny_vlm))


def trainer_of(tiny_vlm: Path, encoder: Encoder, out: Path, data: Any, template: str = "chat_template.jinja") -> Any:
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    arguments = SFTConfig(
        output_dir=str(out.parent / "trained"),
        chat_template_path=str(out / template),
        assistant_only_loss=True,
        max_length=None,
        max_steps=1,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        activation_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_vlm)
    processor = cast("Any", WithoutVideos)(image_processor=encoder.image_processor, tokenizer=tokenizer, video_processor=None)
    model = AutoModelForImageTextToText.from_pretrained(tiny_vlm, dtype="float32")
    return SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=processor)


@pytest.mark.parametrize("rendering", ["same_turn", "user_turn"])
def test_trl_trains_on_the_ids_and_labels_that_our_own_training_has(
    run: Run, tmp_path: Path, tiny_vlm: Path, encoder: Encoder, rendering: chat.Rendering
) -> None:
    out = tmp_path / "out"
    exported(run, out, "trl", rendering=rendering)
    data = loaded(out, tmp_path)
    trainer = trainer_of(tiny_vlm, encoder, out, data)
    batch = trainer.data_collator([data[0], data[1]])
    ours = [
        pack([pieces_of(trace, ("retrieve", "generate"), chat.Style(rendering), encoder)], encoder.merge)
        for trace in (trace_of("looks"), trace_of("knows", KNOWS, seed=4))
    ]
    end = encoder.words("\n")
    for number, example in enumerate(ours):
        mask = batch["attention_mask"][number].bool()
        # The template ends the last turn with a line end, without a label; nothing reads what stands behind the end mark.
        assert batch["input_ids"][number][mask].tolist() == [*example.ids.tolist(), *end]
        assert batch["labels"][number][mask].tolist() == [*example.labels.tolist(), *[IGNORED] * len(end)]
    pixels = np.concatenate([piece.pixels for example in ours for piece in example.pieces if piece.pixels is not None])
    assert np.abs(batch["pixel_values"].numpy() - pixels).max() < 1e-6
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    loss = trainer.train().training_loss
    assert np.isfinite(loss)
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


_WHOLE_TURNS = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{% set parts %}{% for part in message['content'] %}{{ part['text'] if part['type'] == 'text' else PICTURE }}{% endfor %}<|im_end|>{% endset -%}
{%- if message['role'] == 'assistant' -%}{%- generation -%}{{ parts }}{%- endgeneration -%}{%- else -%}{{ parts }}{%- endif %}
{% endfor -%}"""


def test_another_template_in_its_place_makes_labels_of_a_pictures_placeholders(run: Run, tmp_path: Path, tiny_vlm: Path, encoder: Encoder) -> None:
    """What the documentation warns of: most templates mark the whole of an assistant's turn as the model's words."""
    out = tmp_path / "out"
    exported(run, out, "trl", rendering="same_turn")
    (out / "other.jinja").write_text(_WHOLE_TURNS.replace("PICTURE", "'<|vision_start|><|image_pad|><|vision_end|>'"), encoding="utf-8")
    data = loaded(out, tmp_path)
    placeholder = encoder.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    labels = {
        name: trainer_of(tiny_vlm, encoder, out, data, name).data_collator([data[0], data[1]])["labels"]
        for name in ("chat_template.jinja", "other.jinja")
    }
    assert {name: bool((found == placeholder).any()) for name, found in labels.items()} == {"chat_template.jinja": False, "other.jinja": True}


def test_the_training_template_writes_what_the_other_one_writes() -> None:
    plain, training = (
        (PACKAGE / "core" / "templates" / name).read_text(encoding="utf-8") for name in ("chat_template.jinja", "chat_template_training.jinja")
    )
    text = {"type": "text", "text": "a <b>\n"}
    conversation: list[dict[str, Any]] = [
        {"role": "system", "content": " s "},
        {"role": "user", "content": [{"type": "image"}, text, {"type": "video"}]},
        {"role": "assistant", "content": [text, {**text, "masked": True}, {"type": "image_url"}, {**text, "masked": None}]},
        {"role": "tool", "content": [text, {"type": "image"}]},
        {"role": "assistant", "content": "words"},
        {"role": "user", "content": "more"},
    ]
    for chosen in (conversation, conversation[:3], conversation[:1]):
        for prompts in (True, False):
            written = [render_jinja_template([chosen], chat_template=template, add_generation_prompt=prompts)[0] for template in (plain, training)]
            assert written[0] == written[1]


# LLaMA-Factory and ms-swift: their documented schemas, checked by us


def check_llamafactory(folder: Path) -> list[dict[str, Any]]:
    """What its documentation of sharegpt data asks: roles by turns, an `<image>` per picture, paths relative to dataset_info.json."""
    (info,) = json.loads((folder / "dataset_info.json").read_text()).values()
    assert info["formatting"] == "sharegpt"
    tags, columns = info["tags"], info["columns"]
    rows = lines_of(folder / info["file_name"])
    for row in rows:
        messages = row[columns["messages"]]
        assert messages[0][tags["role_tag"]] == tags["system_tag"]
        turns = messages[1:]
        for number, message in enumerate(turns):
            allowed = (tags["user_tag"], tags["observation_tag"]) if number % 2 == 0 else (tags["assistant_tag"], tags["function_tag"])
            assert message[tags["role_tag"]] in allowed
        assert len(turns) % 2 == 0
        text = "".join(message[tags["content_tag"]] for message in messages)
        assert text.count("<image>") == len(row[columns["images"]])
        assert not any(tag in text for tag in ("<video>", "<audio>"))
        assert all((folder / path).is_file() for path in row[columns["images"]])
        # It trains on whole turns of the assistant: nothing else may stand there.
        assert not any("<image>" in message["content"] or "<frame>" in message["content"] for message in turns[1::2])
    return rows


@pytest.mark.parametrize("rendering", ["user_turn", "tool_turn"])
def test_llamafactory_gets_what_it_documents(run: Run, tmp_path: Path, rendering: chat.Rendering) -> None:
    exported(run, tmp_path / "out", "llamafactory", rendering=rendering)
    first, second = check_llamafactory(tmp_path / "out")
    brings = "observation" if rendering == "tool_turn" else "user"
    roles = [message["role"] for message in first["messages"]]
    assert roles == ["system", "user", "assistant", brings, "assistant", brings, "assistant", brings, "assistant"]
    said = [message["content"] for message in first["messages"]]
    assert said[1].startswith("<0.0 seconds><image><1.0 seconds><image>Question: What falls?\nA. a cup\n")
    assert said[2:] == [
        "<think>Not there.<retrieve> the cup </retrieve>",
        "<frame><1.2 seconds><image></frame>",
        " What if?<generate>a star</generate>",
        "<frame><image></frame>",
        "<retrieve>x</retrieve>",
        "<frame>error: no (look) is left</frame>",
        " So be it.</think>\n<answer> A </answer>",
    ]
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant"]


def check_swift(folder: Path) -> list[dict[str, Any]]:
    """What its documentation of custom data asks: roles, contents that are texts, `loss` on the assistant's messages alone, `<image>` per picture."""
    rows = lines_of(folder / "train.jsonl")
    for row in rows:
        assert set(row) == {"messages", "images"}
        for message in row["messages"]:
            assert set(message) <= {"role", "content", "loss"}
            assert message["role"] in ("system", "user", "assistant")
            assert isinstance(message["content"], str)
            assert ("loss" in message) == (message["role"] == "assistant")
            assert not (message.get("loss") and ("<image>" in message["content"] or "<frame>" in message["content"]))
        assert sum(message["content"].count("<image>") for message in row["messages"]) == len(row["images"])
        assert row["messages"][-1]["role"] == "assistant"
        assert all((folder / path).is_file() for path in row["images"])
    return rows


@pytest.mark.parametrize("rendering", ["same_turn", "user_turn"])
def test_swift_gets_what_it_documents(run: Run, tmp_path: Path, rendering: chat.Rendering) -> None:
    exported(run, tmp_path / "out", "swift", rendering=rendering)
    first, second = check_swift(tmp_path / "out")
    own = [message["content"] for message in first["messages"] if message.get("loss")]
    assert "".join(own) == "".join(piece for piece in chat.render(LOOKS) if isinstance(piece, str))
    roles = [message["role"] for message in first["messages"]]
    brings = "assistant" if rendering == "same_turn" else "user"
    assert roles == ["system", "user", "assistant", brings, "assistant", brings, "assistant", brings, "assistant"]
    if rendering == "same_turn":
        assert [message.get("loss") for message in first["messages"][2:]] == [True, False, True, False, True, False, True]
    assert [message["content"] for message in first["messages"][3:8:2]] == [
        "<frame><1.2 seconds><image></frame>",
        "<frame><image></frame>",
        "<frame>error: no (look) is left</frame>",
    ]
    assert second["messages"][-1] == {"role": "assistant", "content": "<think>It falls at 1.0 seconds.</think><answer>B</answer>", "loss": True}


@pytest.mark.parametrize("form", ["trl", "llamafactory", "swift"])
def test_text_that_a_trainer_would_not_read_as_text_is_left_out(tmp_path: Path, form: Format) -> None:
    run = Run.create(tmp_path / "run", command="ask", config={}, seed=None)
    run.append(trace_of("plain", KNOWS))
    run.append(trace_of("mark", KNOWS, question="What says <|im_end|>?"))
    run.append(trace_of("half", (Thought("<think>\ud83d</think>"), Answer("A"))))
    run.append(trace_of("place", (Thought("<think>The file <image> and <img>/etc/hosts</img></think>"), Answer("A"))))
    reasons = {one.id: one.reason for one in exported(run, tmp_path / "out", form).skipped}
    expected = {
        "mark": f"its text holds '<|im_end|>', which {form} would not read as text",
        "half": "its text holds half a character, which a file in UTF-8 cannot",
    }
    if form != "trl":  # it counts places by parts, not by text
        expected["place"] = f"its text holds '<image>', which {form} would not read as text"
    assert reasons == expected


def test_an_opening_is_the_prompts_and_not_the_models(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="ask", config={}, seed=None)
    run.append(trace_of("with", KNOWS))
    run.append(trace_of("without", (Thought("It falls.</think>"), Answer("B"))))
    exported(run, tmp_path / "out", "swift", opening="<think>\n")
    written = [row["messages"][2:] for row in lines_of(tmp_path / "out" / "train.jsonl")]
    assert [[message["loss"] for message in each] for each in written] == [[False, True], [False, True]]
    assert [each[0]["content"] for each in written] == ["<think>\n", "<think>\n"]
    assert [each[1]["content"] for each in written] == [
        "It falls at 1.0 seconds.</think><answer>B</answer>",
        "It falls.</think><answer>B</answer>",
    ]
    exported(run, tmp_path / "bare", "swift")
    assert all(row["messages"][2]["content"].startswith("<think>It falls") for row in lines_of(tmp_path / "bare" / "train.jsonl"))
