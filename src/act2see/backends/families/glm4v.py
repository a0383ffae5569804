"""GLM-4.1V, GLM-4.5V and GLM-4.6V."""

from act2see.backends.families.grids import GridFamily
from act2see.core import chat
from act2see.core.chat import Text

GLM = chat.Format(
    begin=(Text("[gMASK]", marks=True), Text("<sop>", marks=True)),
    heads={
        "system": (Text("<|system|>", marks=True), Text("\n")),
        "user": (Text("<|user|>", marks=True), Text("\n")),
        "assistant": (Text("<|assistant|>", marks=True),),
    },
    end=(),
)
"""Turns end where the next one begins. The line end after the assistant's mark is part of the opening, which differs between the models."""


class Glm4v(GridFamily):
    """Reads pictures as Qwen2.5-VL, in a chat format of its own."""

    types = ("glm4v", "glm4v_moe", "glm46v")
    written = GLM
    picture = "<|begin_of_image|><|image|><|end_of_image|>"
    tokens = ("<|begin_of_image|>", "<|image|>", "<|end_of_image|>")
    pad = "<|image|>"
    frames_in_limits = True
