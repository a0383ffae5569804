"""Load the parts of a local Qwen3-VL-class model: weights, tokenizer, processors, chat style. For decoding and training."""

from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, AutoVideoProcessor

from act2see.backends import pretrained
from act2see.backends.qwen_tokens import Encoder
from act2see.core import chat
from act2see.core.errors import BackendError

MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")
SETTINGS_FILE = "act2see.json"
"""Optional file in a model's folder. It holds the format that the model was trained with (`frames_as`, `rendering`), a `notice` for users, the domain
that it is limited to (`knows`, see `scope`), an upper limit on `max_tokens`, and the window for stopping on repetition (`repeated_tokens`; no check
if absent, because a larger model may repeat on purpose)."""
_LIMITS = ("max_tokens", "repeated_tokens")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_VIDEO_FILES = ("video_preprocessor_config.json", "processor_config.json")


def model_folder(model: str) -> Path:
    """The folder of a Qwen3-VL-class model, judged by its config without reading weights. Raises `BackendError`."""
    folder = pretrained.locate(model, model, BackendError)
    found = pretrained.read_model_type(folder, model, BackendError)
    if found not in MODEL_TYPES:
        raise BackendError(
            f"{model} is a model of type {found[:80]!r}; local models of type {' and '.join(MODEL_TYPES)} can be used, others on a server"
        )
    return folder


def load_vlm(model: str, **options: object) -> Any:
    """Load a model with all its weights, from a folder or by its name on the hub. Raises `BackendError`."""
    return pretrained.load_model(AutoModelForImageTextToText, model_folder(model), model, BackendError, exact=True, **options)


def reader(
    model: str, rendering: Literal["auto"] | chat.Rendering = "auto", frames_as: Literal["auto"] | chat.FramesAs = "auto"
) -> tuple[Encoder, chat.Style, str | None]:
    """Load what is needed to format prompts, without weights: the encoder, the chat style, and the notice.

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
    with pretrained.reading(f"the image processor of {model}", BackendError):  # that of another kind of model lacks attributes
        return Encoder(tokenizer, image_processor, video_processor), style, own.get("notice")


def load_tokenizer(folder: Path, model: str) -> Any:
    """The folder's tokenizer. Raises `BackendError`."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):  # transformers would create one with an empty vocabulary
        raise BackendError(f"cannot load the tokenizer of {model}: no {' nor '.join(_TOKENIZER_FILES)} in {folder}")
    return pretrained.load_part(AutoTokenizer, folder, f"the tokenizer of {model}", BackendError)


def read_opening(tokenizer: Any, model: str) -> str:
    """The assistant prefix of the model's chat template, after checking that the template formats prompts as `chat` does.

    Raises `BackendError` if it does not: the model would get prompts in a format that it was not trained on.
    """
    if not tokenizer.chat_template:
        return ""
    conversation = [
        {"role": "system", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": [{"type": "text", "text": "<0.0 seconds>"}, {"type": "image"}, {"type": "text", "text": "b"}]},
    ]
    with pretrained.reading(f"the chat template of {model}", BackendError):
        theirs = str(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False))
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
    """The video processor; None if the folder has none, or if torchvision, which it needs, is not installed."""
    if not any((folder / name).is_file() for name in _VIDEO_FILES):
        return None
    try:
        return pretrained.load_part(AutoVideoProcessor, folder, f"the video processor of {model}", BackendError)
    except BackendError as error:
        if isinstance(error.__cause__, ImportError):
            return None
        raise
