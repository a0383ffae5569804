"""Fingerprint of a run: the settings that must match for comparable scores (frames, prompt, decoding, weights, libraries), with a digest."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from PIL import Image

from act2see.config.models import named_tools
from act2see.core import chat
from act2see.core.interfaces import Backend, Generator, Retriever, encoder_of, unwrapped
from act2see.core.trace import Answer, Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.storage.codec import JSON, canonical_json, plain
from act2see.storage.run_metadata import library_versions

HOW_NOT_WHAT = frozenset({"answer_seconds", "cache", "data", "json", "out", "preset", "resume", "retries", "timeout_seconds"})
"""Settings that affect execution and file locations, but no answer; a preset does by the settings that it sets."""
_DIGITS = 12


def fingerprint(
    settings: Mapping[str, JSON],
    backend: Backend,
    retriever: Retriever | None,
    generator: Generator | None,
    digest_of: Callable[[Sequence[Path]], str],
) -> dict[str, JSON]:
    """Everything that determines the answers, as JSON: equal `digest`s mean equal settings.

    `settings` are the run's, the benchmark's name among them; `digest_of` gives the digest of model folders. A server's
    weights are unknown: for such a backend the name is recorded, and `weights` is None.
    """
    *_, backend = unwrapped(backend)
    encoder = encoder_of(retriever)
    found: dict[str, JSON] = {
        "settings": plain({name: value for name, value in settings.items() if name not in HOW_NOT_WHAT}),
        "prompt": prompt_digest(backend.made_with, named_tools(str(settings.get("tools", "both")))),
        "pixels": _pixels(backend),
        "model": dict(backend.made_with),
        "weights": _weights(backend, digest_of),
        "retriever": None if retriever is None else retriever.name,
        "retriever_weights": None if encoder is None else str(encoder.fingerprint)[:_DIGITS],
        "generator": None if generator is None else generator.name,
        "versions": library_versions(),
    }
    return {"digest": _digest(found), **found}


def prompt_digest(made_with: Mapping[str, str], offered: Collection[chat.Tool] = ()) -> str:
    """A digest of the prompt template, tools and tags included, as rendered by a backend with these `made_with` values.

    The text about looks with a time or a place counts only if these are among the `offered` tools.
    """
    named = made_with.get("rendering")
    rendering = cast("chat.Rendering", named if named in get_args(chat.Rendering) else "same_turn")
    style = chat.Style(rendering, "images", made_with.get("opening", ""))
    frame = Frame(Image.new("RGB", (1, 1)), 0.0)
    steps: list[Step] = [Thought("a"), Retrieve("b"), Observation((frame,)), Retrieve("c"), Observation(error="d"), Answer("e")]
    written = []
    with_spots = (tuple(offered),) if {"clip", "zoom"} & set(offered) else ()
    for tools in ((), ("retrieve",), ("retrieve", "generate"), *with_spots):
        for choices in ((), ("f", "g")):
            trace = Trace("", "", "h", (frame,), choices, steps=steps)
            pieces = chat.segments(chat.turns(trace, cast("tuple[chat.Tool, ...]", tools), style))
            written.append([piece.text if isinstance(piece, chat.Text) else None for piece in pieces])
    return _digest(written)


def headline(found: Mapping[str, Any]) -> str:
    """The fingerprint in one line, to print below a score."""
    settings, model, versions = found["settings"], found["model"], found["versions"]
    named = model.get("model", model.get("backend", "a model"))
    parts = [
        f"{named}{'' if found['weights'] is None else ' ' + found['weights']}",
        *([model["decoding"]] if "decoding" in model else []),
        f"{settings['fps']:g} fps",
        f"at most {settings['max_looks']} looks",
        f"prompt {found['prompt']}",
        f"act2see {versions['act2see']}",
    ]
    return f"fingerprint {found['digest']}: {', '.join(parts)}"


def _pixels(backend: Backend) -> dict[str, dict[str, int]] | None:
    """Frame resolution as the model sees it, if the backend has its processors."""
    encoder = getattr(backend, "encoder", None)
    found = {}
    for name in ("image_processor", "video_processor"):
        size = getattr(getattr(encoder, name, None), "size", None)
        if size is not None:
            found[name] = {str(side): pixels for side, pixels in dict(size).items() if pixels is not None}
    return found or None


def _weights(backend: Backend, digest_of: Callable[[Sequence[Path]], str]) -> str | None:
    """The digest of the model's folder and its adapter's, or the Hub revision."""
    settings = getattr(backend, "settings", None) if hasattr(backend, "encoder") else None  # local weights, not on a server
    named = [str(name) for name in (getattr(settings, "model", None), getattr(settings, "adapter", None)) if name]
    folders = [Path(name) for name in named if Path(name).is_dir()]
    config = getattr(getattr(backend, "model", None), "config", None)
    revision = getattr(backend, "revision", None) or getattr(config, "_commit_hash", None)
    parts = [digest_of(folders)[:_DIGITS]] if folders else []
    if len(folders) < len(named) and revision:
        parts.insert(0, f"revision {revision}")
    return " and ".join(parts) or None


def _digest(value: JSON) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:_DIGITS]
