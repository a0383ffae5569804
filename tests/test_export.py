"""Exports: each loaded by the library that it is for, or held against that library's documented schema; the table rebuilt into the run's traces."""

import json
import resource
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, Qwen3VLProcessor
from transformers.utils.chat_template_utils import render_jinja_template

import act2see
from act2see import chat
from act2see.errors import ConfigError, StoreError
from act2see.export import Exported, Format, Stored, count, export, stored
from act2see.export.parquet import SCHEMA, read
from act2see.store import Run, encode_trace
from act2see.tokens import Encoder
from act2see.trace import Answer, Cost, Frame, Generate, Match, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.training.examples import IGNORED, pack, pieces_of

PACKAGE = Path(act2see.__file__).parent


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


MADE = Frame(picture(9, (48, 48)), None, provenance=Provenance("a red — “star”", 1.5, "some/model", 7, 0.6, {"same place": 0.9}))
FOUND = Frame(picture(8, (32, 64)), 1.25, 0.5, match=Match(30, (1.0, 1.5), ((0.5, 0.4),)))
LOOKS: tuple[Step, ...] = (
    Thought("<think>Not there."),
    Retrieve(" the cup "),
    Observation((FOUND,)),
    Thought(" What if?"),
    Generate("a star"),
    Observation((MADE,)),
    Retrieve("x"),
    Observation(error="no <look> is left"),
    Thought(" So be it.</think>\n"),
    Answer(" A "),
)
KNOWS: tuple[Step, ...] = (Thought("<think>It falls at 1.0 seconds.</think>"), Answer("B"))


def trace_of(name: str, steps: Iterable[Step] = LOOKS, question: str = "What falls?", seed: int = 0, **others: Any) -> Trace:
    frames = (Frame(picture(seed), 0.0), Frame(picture(seed + 1), 1.0))
    made_with = {"backend": "micro", "tools": "retrieve,generate"}
    settled: dict[str, Any] = {
        "duration_seconds": 2.5,
        "finish": "answer",
        "made_with": made_with,
        "cost": Cost(10, 20, 5, {"decode": 1.5}, 0.25),
        **others,
    }
    return Trace(name, "clip.mp4", question, frames, ("a cup", "a pen"), steps=list(steps), **settled)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two answered traces, and one of each kind that is left out."""
    run = Run.create(tmp_path / "run", command="ask", config={}, seed=3)
    run.append(trace_of("looks"))
    run.append(trace_of("cut off", (Thought("<think>Hm"),), finish="length"))
    run.append(trace_of("knows", KNOWS, seed=4))
    run.append(trace_of("blind", KNOWS, seed=20))
    run.append(trace_of("lost", KNOWS, seed=40))
    (run.folder / "frames" / frame_names(run, "lost")[0]).unlink()
    (run.folder / "frames" / frame_names(run, "blind")[1]).write_bytes(b"no picture")
    return run


def frame_names(run: Run, name: str) -> list[str]:
    lines = (json.loads(line) for line in (run.folder / "traces.jsonl").read_text().splitlines())
    return next([frame["file"] for frame in line["frames"]] for line in lines if line["id"] == name)


def exported(run: Run, out: Path, form: Format, **options: Any) -> Exported:
    return export(run, stored(run), out, form, **options)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


FORMATS: tuple[Format, ...] = ("trl", "llamafactory", "swift", "parquet")


@pytest.mark.parametrize("form", FORMATS)
def test_answered_traces_are_exported_and_the_others_are_named(run: Run, tmp_path: Path, form: Format) -> None:
    done = exported(run, tmp_path / "out", form)
    assert count(run) == 5
    assert done.traces == 2
    reasons = {one.id: one.reason for one in done.skipped}
    assert list(reasons) == ["cut off", "blind", "lost"]
    assert reasons["cut off"] == "it has no answer (its end: length)"
    assert reasons["blind"] == f"its frame {frame_names(run, 'blind')[1]} is no picture"
    assert reasons["lost"] == f"its frame {frame_names(run, 'lost')[0]} is missing"
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


def trainer_of(tiny_vlm: Path, encoder: Encoder, out: Path, data: Any) -> Any:
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    arguments = SFTConfig(
        output_dir=str(out.parent / "trained"),
        chat_template_path=str(out / "chat_template.jinja"),
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


def test_the_training_template_writes_what_the_other_one_writes() -> None:
    plain, training = ((PACKAGE / name).read_text(encoding="utf-8") for name in ("chat_template.jinja", "chat_template_training.jinja"))
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


# The table


def same(left: Trace, right: Trace) -> bool:
    """Equal in everything, pixels included."""

    def record(item: Trace) -> Any:
        return encode_trace(item, lambda frame: f"{frame.image.mode} {frame.image.size} {frame.image.tobytes().hex()}")

    return bool(record(left) == record(right))


def test_a_table_gives_back_the_runs_traces(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "other", command="ask", config={}, seed=3)
    run.append(trace_of("looks"))
    run.append(
        trace_of("odd", (Thought("\ud83d \u2028 <|im_end|>"), Retrieve("<image>"), Observation((Frame(picture(5, (600, 500)), 2.0),)), Answer("A")))
    )
    for number in range(20):  # more than one row group
        run.append(trace_of(f"more {number}", KNOWS, duration_seconds=None))
    done = exported(run, tmp_path / "out", "parquet")
    assert (done.traces, done.rendering, done.skipped) == (22, None, ())
    originals = list(run.traces())
    back = list(read(tmp_path / "out" / "traces.parquet"))
    assert len(back) == 22
    assert all(same(one, other) for one, other in zip(originals, back, strict=True))


def test_datasets_reads_the_table_with_pictures(run: Run, tmp_path: Path) -> None:
    from datasets import load_dataset

    exported(run, tmp_path / "out", "parquet")
    data = load_dataset("parquet", data_files=str(tmp_path / "out" / "traces.parquet"), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.column_names == SCHEMA.names
    first = data[0]
    assert (first["id"], first["question"], first["choices"], first["answer"], first["looks"]) == ("looks", "What falls?", ["a cup", "a pen"], "A", 2)
    assert [np.asarray(image).tolist() for image in first["frames"]] == [
        np.asarray(image).tolist() for image in (picture(0), picture(1), FOUND.image, MADE.image)
    ]


def test_what_is_no_table_of_traces_is_refused_in_one_line(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    (tmp_path / "text.parquet").write_text("no table")
    parquet.write_table(Table.from_pydict({"a": [1]}), tmp_path / "other.parquet")
    for name, said in (("text", "cannot read"), ("other", "its columns are a"), ("missing", "cannot read")):
        with pytest.raises(StoreError, match=said) as caught:
            list(read(tmp_path / f"{name}.parquet"))
        assert "\n" not in str(caught.value)


# The folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_an_export_is_replaced_and_only_when_asked_to(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(run, out, "swift")
    with pytest.raises(ConfigError, match=r"out is not empty .*: give a new folder"):
        exported(run, out, "trl")
    assert "train.jsonl" in names(out)
    exported(run, out, "trl", overwrite=True)
    assert names(out) == ["chat_template.jinja", "export.json", "images", "metadata.jsonl"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"mine is not empty \(it holds thesis.txt\): only one with export.json in it is replaced"):
        exported(run, tmp_path / "mine", "trl", overwrite=True)
    assert names(tmp_path / "mine") == ["thesis.txt"]
    (tmp_path / "new").mkdir()
    assert exported(run, tmp_path / "new", "trl").traces == 2  # an empty one is as good as none
    with pytest.raises(ConfigError, match="lies in the run itself"):
        exported(run, run.folder / "out", "trl")
    with pytest.raises(ConfigError, match="it is no folder"):
        exported(run, tmp_path / "new" / "export.json", "trl")
    assert names(tmp_path) == ["mine", "new", "out", "run"]


def interrupted(traces: Iterable[Stored]) -> Iterator[Stored]:
    yield from list(traces)[:1]
    raise KeyboardInterrupt


@pytest.mark.parametrize("form", FORMATS)
def test_an_interrupted_export_leaves_what_was_there(run: Run, tmp_path: Path, form: Format) -> None:
    with pytest.raises(KeyboardInterrupt):
        export(run, interrupted(stored(run)), tmp_path / "out", form)
    assert names(tmp_path) == ["run"]
    exported(run, tmp_path / "out", "swift")
    before = names(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        export(run, interrupted(stored(run)), tmp_path / "out", form, overwrite=True)
    assert names(tmp_path / "out") == before
    assert names(tmp_path) == ["out", "run"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(run: Run, tmp_path: Path, form: Format) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
        with pytest.raises(ConfigError, match=r"cannot write .*out: .*; nothing was left there") as caught:
            exported(run, tmp_path / "out", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["run"]


def test_nothing_to_export_and_broken_lines_are_errors(run: Run, tmp_path: Path) -> None:
    empty = Run.create(tmp_path / "empty", command="ask", config={}, seed=None)
    with pytest.raises(ConfigError, match="holds no trace to export: it is empty"):
        exported(empty, tmp_path / "out", "trl")
    empty.append(trace_of("cut off", (), finish="length"))
    with pytest.raises(ConfigError, match=r"all 1 were skipped, the first because it has no answer \(its end: length\)"):
        exported(empty, tmp_path / "out", "trl")
    with (run.folder / "traces.jsonl").open("a") as lines:
        lines.write('{"version": 99}\n')
    with pytest.raises(StoreError, match=r"traces\.jsonl:6: format version 99"):
        exported(run, tmp_path / "out", "trl")
    assert names(tmp_path) == ["empty", "run"]


def test_what_a_format_cannot_express_is_refused(run: Run, tmp_path: Path) -> None:
    refused: list[tuple[Format, chat.Rendering]] = [
        ("trl", "tool_turn"),
        ("llamafactory", "same_turn"),
        ("swift", "tool_turn"),
        ("parquet", "same_turn"),
    ]
    for form, rendering in refused:
        with pytest.raises(ConfigError, match=f"format '{form}' cannot express the rendering '{rendering}'"):
            exported(run, tmp_path / "out", form, rendering=rendering)
    assert names(tmp_path) == ["run"]


def test_a_run_whose_frames_are_gone_exports_nothing(run: Run, tmp_path: Path) -> None:
    shutil.rmtree(run.folder / "frames")
    with pytest.raises(ConfigError, match=r"all 5 were skipped, the first because its frame \w+\.png is missing"):
        exported(run, tmp_path / "out", "llamafactory")
