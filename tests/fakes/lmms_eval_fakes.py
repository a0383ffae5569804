"""As much of lmms-eval 0.7.3 as act2see's model touches: its base class, its requests and results, and its registry's manifest."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest


class Lmms:
    """The base class: one process, and the documents of each task by split, which the evaluator puts in."""

    def __init__(self) -> None:
        self._rank, self._world_size = 0, 1
        self.task_dict: dict[str, dict[str, Mapping[int, Any]]] = {}


@dataclass(frozen=True)
class TokenCounts:
    """Of one reply."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True)
class GenerationResult:
    """One reply."""

    text: str
    token_counts: TokenCounts | None = None


@dataclass(frozen=True)
class ModelManifest:
    """What a third party's model is registered by."""

    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """One request: the text, the task's settings, how a document's visuals are had, and which document it is."""

    arguments: tuple[str, Mapping[str, Any], Callable[[Any], Any], int, str, str]

    @property
    def args(self) -> tuple[str, Mapping[str, Any], Callable[[Any], Any], int, str, str]:
        """See `arguments`."""
        return self.arguments


def installed(patch: pytest.MonkeyPatch) -> None:
    """Stand in for the package until the patch is undone; what was made from another one is imported anew."""
    contents: dict[str, dict[str, object]] = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.model": {"lmms": Lmms},
        "lmms_eval.api.instance": {"GenerationResult": GenerationResult, "TokenCounts": TokenCounts},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        vars(module).update(content)
        patch.setitem(sys.modules, name, module)
    patch.delitem(sys.modules, "act2see.integrations.lmms_eval_model", raising=False)
