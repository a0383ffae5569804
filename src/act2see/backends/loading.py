"""A local Qwen3-VL-class model's parts: its weights, and how it reads. For decoding and for training."""

from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, AutoVideoProcessor

from act2see.backends import pretrained
from act2see.backends.qwen_tokens import Encoder
from act2see.core import chat
from act2see.core.errors import BackendError

MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")
SETTINGS_FILE = "act2see.json"
"""A model's folder may hold this beside its weights: how it was trained to see (`frames_as`, `rendering`), a `notice` for its users, what it `knows`
alone (see `scope`), and where it stops: after `max_tokens`, however many may be asked for, or when its last `repeated_tokens` are one piece again and
again (never, if not given: what a larger model repeats it may mean)."""
_LIMITS = ("max_tokens", "repeated_tokens")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_VIDEO_FILES = ("video_preprocessor_config.json", "processor_config.json")


def model_folder(model: str) -> Path:
    """The folder of a model whose config is a Qwen3-VL's; no weights are read. Raises `BackendError`."""
    folder = pretrained.locate(model, model, BackendError)
    found = pretrained.read_model_type(folder, model, BackendError)
    if found not in MODEL_TYPES:
        raise BackendError(
            f"{model} is a model of type {found[:80]!r}; local models of type {' and '.join(MODEL_TYPES)} can be used, others on a server"
        )
    return folder


def load_vlm(model: str, **options: object) -> Any:
    """The model with all its weights, as a folder or a name on the hub. Raises `BackendError`."""
    return pretrained.load_model(AutoModelForImageTextToText, model_folder(model), model, BackendError, exact=True, **options)


def reader(
    model: str, rendering: Literal["auto"] | chat.Rendering = "auto", frames_as: Literal["auto"] | chat.FramesAs = "auto"
) -> tuple[Encoder, chat.Style, str | None]:
    """How a model reads, without its weights: its encoder, how conversations are written for it, and its notice.

    Raises `BackendError` as `HuggingFaceBackend.load` does.
    """
    folder = model_folder(model)
    tokenizer = load_tokenizer(folder, model)
    image_processor = pretrained.load_part(AutoImageProcessor, folder, f"the image processor of {model}", BackendError)
    own = own_settings(folder, model)
    seen_as: Literal["auto"] | chat.FramesAs = frames_as if frames_as != "auto" else own.get("frames_as", "auto")
    video_processor = _video_processor(folder, model) if seen_as != "images" else None
    if seen_as == "auto":
        seen_as = "video" if video_processor is not None else "images"
    written = rendering if rendering != "auto" else own.get("rendering", "same_turn")
    style = chat.Style(rendering=written, frames_as=seen_as, opening=read_opening(tokenizer, model))
    with pretrained.reading(f"the image processor of {model}", BackendError):  # one of another kind of model lacks what a Qwen3-VL's has
        return Encoder(tokenizer, image_processor, video_processor), style, own.get("notice")


def load_tokenizer(folder: Path, model: str) -> Any:
    """The folder's tokenizer. Raises `BackendError`."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):  # transformers would make one without any words
        raise BackendError(f"cannot load the tokenizer of {model}: no {' nor '.join(_TOKENIZER_FILES)} in {folder}")
    return pretrained.load_part(AutoTokenizer, folder, f"the tokenizer of {model}", BackendError)


def read_opening(tokenizer: Any, model: str) -> str:
    """What the model's chat template puts at the start of the assistant's turn, once it is clear that its prompts are ours.

    Raises `BackendError` when the template writes a prompt otherwise than `chat` does: the model would read what it was not trained on.
    """
    if not tokenizer.chat_template:
        return ""
    told = [
        {"role": "system", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": [{"type": "text", "text": "<0.0 seconds>"}, {"type": "image"}, {"type": "text", "text": "b"}]},
    ]
    with pretrained.reading(f"the chat template of {model}", BackendError):
        theirs = str(tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False))
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    ours = f"<|im_start|>system\na<|im_end|>\n<|im_start|>user\n<0.0 seconds>{picture}b<|im_end|>\n<|im_start|>assistant\n"
    if not theirs.startswith(ours):
        raise BackendError(f"the chat template of {model} is not Qwen3-VL's; serve the model over HTTP and use --backend openai:MODEL instead")
    return theirs[len(ours) :]


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
    """None where the folder has none, or where torchvision is missing, which it needs."""
    if not any((folder / name).is_file() for name in _VIDEO_FILES):
        return None
    try:
        return pretrained.load_part(AutoVideoProcessor, folder, f"the video processor of {model}", BackendError)
    except BackendError as error:
        if isinstance(error.__cause__, ImportError):
            return None
        raise
