"""Qwen3.5 and its mixtures of experts."""

from act2see.backends.families.qwen3_vl import Qwen3VL


class Qwen35(Qwen3VL):
    """Reads as Qwen3-VL. Three of four layers are linear attention, so its cache goes back to borders only: see `states`."""

    types = ("qwen3_5", "qwen3_5_moe")
