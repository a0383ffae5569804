"""Load the parts of a local vision-language model: weights, tokenizer, processors, chat style. For decoding and training."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, AutoVideoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from act2see.backends import pretrained
from act2see.backends.encoder import Encoder
from act2see.backends.families import FAMILIES, QWEN3_VL, family_of
from act2see.backends.families.description import Config, Family
from act2see.backends.pieces import joined
from act2see.core import chat
from act2see.core.errors import BackendError
from act2see.core.trace import Frame, Trace

SETTINGS_FILE = "act2see.json"
"""Optional file in a model's folder. It holds the format that the model was trained with (`frames_as`, `rendering`), a `notice` for users, the domain
that it is limited to (`knows`, see `scope`), an upper limit on `max_tokens`, and the window for stopping on repetition (`repeated_tokens`; no check
if absent, because a larger model may repeat on purpose)."""
_LIMITS = ("max_tokens", "repeated_tokens")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_PROCESSOR_TEMPLATE = "chat_template.json"
"""Older processors keep the chat template there, and their tokenizers none."""
_VIDEO_FILES = ("video_preprocessor_config.json", "processor_config.json")


def model_folder(model: str) -> Path:
    """The folder of a model of a known family, judged by its config without reading weights. Raises `BackendError`."""
    return _located(model)[0]


def check_trainable(model: str) -> None:
    """Refuse a model whose family can be run, but not trained here. Raises `BackendError`."""
    family = _located(model)[1]
    if not family.trains:
        known = _listed([name for one in FAMILIES if one.trains for name in one.types])
        raise BackendError(f"{model} is of the family {family.name}, which can be run but not trained; models of type {known} can")


def _located(model: str) -> tuple[Path, Family]:
    folder = pretrained.locate(model, model, BackendError)
    found = pretrained.read_model_type(folder, model, BackendError)
    family = family_of(found)
    if family is None:
        missing = (
            "its chat format and its pictures' tokens are not described in act2see"
            if found in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
            else "transformers has no model of that type that reads pictures and text"
        )
        known = _listed([name for one in FAMILIES for name in one.types])
        raise BackendError(f"{model} is a model of type {found[:80]!r}: {missing}; local models of type {known} can be used, others on a server")
    return folder, family


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def load_vlm(model: str, **options: object) -> Any:
    """Load a model with all its weights, from a folder or by its name on the hub. Raises `BackendError`."""
    return pretrained.load_model(AutoModelForImageTextToText, model_folder(model), model, BackendError, exact=True, **options)


def reader(
    model: str, rendering: Literal["auto"] | chat.Rendering = "auto", frames_as: Literal["auto"] | chat.FramesAs = "auto"
) -> tuple[Encoder, chat.Style, str | None]:
    """Load what is needed to format prompts, without weights: the encoder, the chat style, and the notice.

    Raises `BackendError` as `HuggingFaceBackend.load` does.
    """
    folder, family = _located(model)
    tokenizer = load_tokenizer(folder, model)
    config: Config = pretrained.load_part(AutoConfig, folder, f"the config of {model}", BackendError)
    image_processor = pretrained.load_part(AutoImageProcessor, folder, f"the image processor of {model}", BackendError)
    own = own_settings(folder, model)
    seen_as: Literal["auto"] | chat.FramesAs = frames_as if frames_as != "auto" else own.get("frames_as", "auto")
    if seen_as == "video" and family.video_pad is None:
        raise BackendError(f"{model} is of the family {family.name}, which takes initial frames as images only: use frames_as 'images'")
    video_processor = _video_processor(folder, model) if seen_as != "images" and family.video_pad is not None else None
    if seen_as == "auto":
        seen_as = "video" if video_processor is not None else "images"
    written = rendering if rendering != "auto" else own.get("rendering", "same_turn")
    if written not in family.renderings:
        allowed = " and ".join(family.renderings)
        raise BackendError(f"rendering is {written}, for which the chat format of {model} has no place; allowed are {allowed}")
    family, opening = read_template(tokenizer, model, family)
    style = chat.Style(rendering=written, frames_as=seen_as, opening=opening)
    with pretrained.reading(f"the image processor of {model}", BackendError):  # that of another kind of model lacks attributes
        encoder = Encoder(tokenizer, image_processor, video_processor, family=family, config=config)
        _check_context(encoder, style, config, model)
    return encoder, style, own.get("notice")


def _check_context(encoder: Encoder, style: chat.Style, config: Config, model: str) -> None:
    """Refuse a model whose context does not hold a question about one small frame. Raises `BackendError`."""
    blank = Frame(Image.new("RGB", (64, 64)), 0.0)
    turns = chat.turns(Trace("", "", "", (blank,)), ("retrieve", "generate"), replace(style, frames_as="images"))
    tokens, context = len(joined(encoder.prompt(turns))), int(config.get_text_config().max_position_embeddings)
    if tokens >= context:
        raise BackendError(
            f"the context of {model} is {context:,} tokens, and act2see's instructions with one small frame take {tokens:,}: "
            "use a model with a longer context"
        )


def load_tokenizer(folder: Path, model: str) -> Any:
    """The folder's tokenizer. Raises `BackendError`."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):  # transformers would create one with an empty vocabulary
        raise BackendError(f"cannot load the tokenizer of {model}: no {' nor '.join(_TOKENIZER_FILES)} in {folder}")
    tokenizer = pretrained.load_part(AutoTokenizer, folder, f"the tokenizer of {model}", BackendError)
    if not tokenizer.chat_template and (folder / _PROCESSOR_TEMPLATE).is_file():
        tokenizer.chat_template = pretrained.read_json(folder / _PROCESSOR_TEMPLATE, model, BackendError).get("chat_template")
    return tokenizer


def read_opening(tokenizer: Any, model: str, family: Family = QWEN3_VL) -> str:
    """The assistant prefix of the model's chat template; see `read_template`."""
    return read_template(tokenizer, model, family)[1]


def read_template(tokenizer: Any, model: str, family: Family) -> tuple[Family, str]:
    """The variant of the family and the assistant prefix, after checking that the model's chat template formats prompts as `chat` does.

    Raises `BackendError` if it does not: the model would get prompts in a format that it was not trained on.
    """
    if not tokenizer.chat_template:
        return family, ""
    told: list[object] = [[{"type": "text", "text": "a"}], "a"]  # some templates take the system's words as a text only
    for number, system in enumerate(told):
        conversation = [
            {"role": "system", "content": system},
            {"role": "user", "content": [{"type": "text", "text": "<0.0 seconds>"}, {"type": "image"}, {"type": "text", "text": "b"}]},
        ]
        try:
            with pretrained.reading(f"the chat template of {model}", BackendError):
                theirs = str(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False))
        except BackendError:
            if number == len(told) - 1:
                raise
            continue
        for variant in family.variants:
            if theirs.startswith(ours := _as_template(variant)):
                return variant, theirs[len(ours) :]
    raise BackendError(
        f"the chat template of {model} is not {family.name}'s, as act2see knows it; serve the model over HTTP and use --backend openai:MODEL instead"
    )


def _as_template(family: Family) -> str:
    """The beginning of a conversation as the family's chat template writes it, up to the head of the assistant's turn."""
    shown = (chat.Text("<0.0 seconds>"), chat.Text(family.picture), chat.Text("b"))
    turns = [chat.Turn("system", (chat.Text("a"),)), chat.Turn("user", shown), chat.Turn("assistant", ())]
    return "".join(segment.text for segment in chat.segments(turns, written=family.written) if isinstance(segment, chat.Text))


class OwnSettings(TypedDict, total=False):
    """What a model's act2see.json may hold: see `SETTINGS_FILE`."""

    frames_as: chat.FramesAs
    rendering: chat.Rendering
    notice: str
    knows: Literal["synthetic"]
    max_tokens: int
    repeated_tokens: int


def own_settings(folder: Path, model: str) -> OwnSettings:
    """The validated content of the folder's act2see.json; empty if the folder has none. Raises `BackendError`."""
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return {}
    found = pretrained.read_json(path, model, BackendError)
    allowed = {"frames_as": ("images", "video"), "rendering": ("same_turn", "tool_turn", "user_turn"), "knows": ("synthetic",)}
    for key, value in found.items():
        is_count = key in _LIMITS and isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not (isinstance(value, str) if key == "notice" else is_count or value in allowed.get(key, ())):
            may_be = "; ".join(f"{name} {' or '.join(values)}" for name, values in allowed.items())
            raise BackendError(f"{path}: {key} is {value!r}; allowed are {may_be}; {', '.join(_LIMITS)} (numbers above 0); notice, a text")
    return cast("OwnSettings", found)


def _video_processor(folder: Path, model: str) -> Any:
    """The video processor; None if the folder has none, or if torchvision, which it needs, is not installed."""
    if not any((folder / name).is_file() for name in _VIDEO_FILES):
        return None
    try:
        return pretrained.load_part(AutoVideoProcessor, folder, f"the video processor of {model}", BackendError)
    except BackendError as error:
        if isinstance(error.__cause__, ImportError):
            return None
        raise
