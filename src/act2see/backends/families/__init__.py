"""The families of models that the local backend runs, one file each."""

from collections.abc import Sequence

from act2see.backends.families.description import Family
from act2see.backends.families.gemma3 import Gemma3
from act2see.backends.families.gemma4 import Gemma4
from act2see.backends.families.glm4v import Glm4v
from act2see.backends.families.internvl import InternVL
from act2see.backends.families.qwen2_5_vl import Qwen25VL
from act2see.backends.families.qwen3_5 import Qwen35
from act2see.backends.families.qwen3_vl import Qwen3VL
from act2see.backends.families.smolvlm import SmolVLM

QWEN3_VL = Qwen3VL()
FAMILIES: Sequence[Family] = (QWEN3_VL, Qwen35(), Qwen25VL(), Glm4v(), InternVL(), SmolVLM(), Gemma3(), Gemma4())
"""In the order of the table in docs/install.md."""


def family_of(model_type: str) -> Family | None:
    """The family of a `model_type`; None if there is none."""
    return next((family for family in FAMILIES if model_type in family.types), None)
