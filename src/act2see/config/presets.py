"""Settings of a publication by one name: `--preset paper`, and `with_preset` in Python. Each value has its source."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Preset = Literal["paper"]
Command = Literal["ask", "eval", "construct", "filter", "train"]
"""The commands that a preset has values for. `act2see audit` has those of `eval`."""


@dataclass(frozen=True, slots=True)
class Value:
    """One setting of a preset."""

    field: str
    """The field of the command's options, or of a recipe."""
    value: object
    source: str
    """What the publication says; `our choice` where it says nothing."""
    commands: frozenset[Command]
    benchmark: str | None = None
    """The benchmark that it is for; None for all."""
    beside: str | None = None
    """A field that this value goes with: it is left out where that field is given."""


_ASKED: frozenset[Command] = frozenset({"ask", "eval"})
_LOOKED: frozenset[Command] = _ASKED | {"construct"}
_EVAL: frozenset[Command] = frozenset({"eval"})
_CONSTRUCT: frozenset[Command] = frozenset({"construct"})
_FILTER: frozenset[Command] = frozenset({"filter"})
_TRAIN: frozenset[Command] = frozenset({"train"})
_BASE_MODEL = "Qwen/Qwen3-VL-8B-Thinking"

PAPER: tuple[Value, ...] = (
    Value("fps", 1.0, "the initial frames are sampled at 1 fps", _LOOKED),
    Value("retrieve_fps", 3.0, "the retriever searches at 3 fps", _LOOKED),
    Value("retriever", "blip2:Salesforce/blip2-itm-vit-g-coco", "TFVTG over BLIP-2; the weights are those of TFVTG's released code", _LOOKED),
    Value("select", "middle", "the middle frame of the grounded segment", _LOOKED),
    Value("tools", "both", "retrieve and generate", _LOOKED),
    Value("max_looks", 1, "at most one frame is inserted into a trace", _LOOKED),
    Value("insert", 0, "frames come by calls only; inserting them without a call is ViTCoT's ablation", _LOOKED),
    Value("rendering", "same_turn", "the frame comes back inside the same reasoning", _ASKED),
    Value("generator", "diffusers:sd3.5-large", "image-to-image with Stable Diffusion 3.5 Large from a retrieved anchor", _LOOKED),
    Value("strengths", (0.6,), "not stated: our choice, the default of diffusers", _LOOKED, beside="generator"),
    Value("judge", "none", "no check of generated frames is reported: 13 of 127 were wrong", _LOOKED),
    Value("transcript", "off", "no subtitles", _LOOKED),
    Value("subtitles", False, "no subtitles", _EVAL),
    Value("backend", f"huggingface:{_BASE_MODEL}", "the base model; the authors' fine-tuned weights are not published", _ASKED),
    Value("max_frames", 3, "VideoEspresso at 3 frames", _EVAL, benchmark="videoespresso"),
    Value("backend", "openai:gemini-2.5-pro", "the teacher is Gemini 2.5 Pro", _CONSTRUCT),
    Value("base_url", "https://generativelanguage.googleapis.com/v1beta/openai", "the address of that teacher", _CONSTRUCT, beside="backend"),
    Value("again", 2, "at most 2 retries after a wrong answer", _CONSTRUCT),
    Value("show_reference", False, "the human reasoning is never in the teacher's prompt", _CONSTRUCT),
    Value("reference_similarity", 0.8, "the similarity to the human reasoning must exceed 0.80", _FILTER),
    Value("embedder", "bge-m3", "BGE-M3 embeddings", _FILTER),
    Value(
        "ignore",
        ("useless_call", "early_answer", "leak", "duplicate_frame", "unfaithful_frame"),
        "three filters, in this order: right answer, similarity, format; the ignored rules are ours",
        _FILTER,
    ),
    Value("sample", 100, "a manual look at 100 traces", _FILTER),
    Value("model", _BASE_MODEL, "the base model", _TRAIN),
    Value("method", "lora", "LoRA", _TRAIN),
    Value("learning_rate", 2.5e-6, "2.5e-6", _TRAIN),
    Value("batch_size", 1, "1; whether of one GPU or of all 8 is not stated: of one is our choice", _TRAIN),
    Value("epochs", 1, "1 epoch", _TRAIN),
    Value("rendering", "same_turn", "the frame comes back inside the same reasoning", _TRAIN),
    Value("probe_max_looks", 1, "at most one frame is inserted into a trace", _TRAIN),
)
"""arXiv 2605.01657, as far as it is known; `docs/paper.md` says what is not."""

PRESETS: Mapping[str, tuple[Value, ...]] = {"paper": PAPER}


def preset_values(name: str, command: Command, *, benchmark: str | None = None, given: Collection[str] = ()) -> dict[str, object]:
    """The preset's values for a command, by field, without the fields that are `given`. Empty for an unknown name."""
    return {
        one.field: one.value
        for one in PRESETS.get(name, ())
        if command in one.commands and one.field not in given and one.benchmark in (None, benchmark) and one.beside not in given
    }


def takes_effect(name: str, options: "DataclassInstance") -> bool:
    """Whether at least one option has the preset's value where its default is another."""
    defaults = {one.name: one.default for one in fields(options)}
    return any(one.value not in (defaults[one.field], None) and getattr(options, one.field) == one.value for one in _of(name, defaults))


def _of(name: str, known: Collection[str]) -> Iterator[Value]:
    return (one for one in PRESETS[name] if one.field in known)
