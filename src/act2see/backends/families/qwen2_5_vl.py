"""Qwen2.5-VL."""

from act2see.backends.families.grids import GridFamily


class Qwen25VL(GridFamily):
    """Frames are images after their times: its own video format has no times, and one position for each."""

    types = ("qwen2_5_vl",)
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    tokens = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
    pad = "<|image_pad|>"
    renderings = ("same_turn", "tool_turn", "user_turn")
