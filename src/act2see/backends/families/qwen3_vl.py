"""Qwen3-VL and its mixtures of experts."""

from act2see.backends.families.grids import GridFamily


class Qwen3VL(GridFamily):
    """The family of the paper's model and of the embedded one."""

    types = ("qwen3_vl", "qwen3_vl_moe")
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    tokens = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
    pad = "<|image_pad|>"
    renderings = ("same_turn", "tool_turn", "user_turn")
    trains = True
    video_pad = "<|video_pad|>"
