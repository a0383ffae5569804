"""What the reproduction runs: the sizes of the two scales, the stages of each experiment, and what they are expected to take."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal, TypeAlias, get_args

from act2see.core.errors import ConfigError
from act2see.core.rejection_reasons import Reason
from act2see.reproduce.stages import FACTUAL, KINDS, Audit, Clips, Construct, Evaluate, Looking, Select, Stage, Tools, Tune, Work, ignoring

Experiment: TypeAlias = Literal["a", "b", "c", "d", "e", "f"]
EXPERIMENTS: tuple[Experiment, ...] = get_args(Experiment)

ARMS: dict[str, Tools] = {"text": "none", "retrieve": "retrieve", "generate": "generate", "both": "both"}
"""The arms of experiment a, each with the tools that teacher and student are offered."""
TEACHERS: dict[str, str] = {"quiet": "NoisyTeacher", "noisy": "VeryNoisyTeacher"}
_ALWAYS: tuple[Reason, ...] = ("no_answer", "unknown_answer", "no_reference", "internal_error", "kept_already")
FILTERS: dict[str, tuple[Reason, ...]] = {
    "no filter": ignoring(*_ALWAYS),
    "answer": ignoring(*_ALWAYS, "wrong_answer"),
    "answer and similarity": ignoring(*_ALWAYS, "wrong_answer", "unlike_reference"),
    "all rules": ("leak",),
}
"""The filters of experiment c, each with the rules that it ignores. `leak` is off: the scripted teacher's captions are the reference's."""
SELECTIONS: tuple[Literal["grounding", "middle", "argmax", "uniform", "random"], ...] = ("grounding", "middle", "argmax", "uniform", "random")
ORACLE = "oracle"
"""The ways to choose a look's frame: the first is the default; the last is not one of `--select`, but a control that knows the answer."""
RATES = (1.0, 0.5, 0.25)
_ASKED_PER_KEPT = 1.3
"""Questions that are asked for each trace that is wanted; the filters drop about one in six."""
BASE_SEED = 1_000
"""Added to the seed of the base model's questions, so that no later training sees them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything. All numbers are our choice."""

    name: str
    base: int
    """Questions whose text-only traces make the base model."""
    arm: int
    """Questions for each training of the experiments a and c."""
    amounts: tuple[int, ...]
    """Traces of experiment d."""
    held_out: int
    """Held-out questions of an evaluation."""
    audited: int
    probe_every: int
    """Training steps between two measurements of the call rate in experiment d."""
    probes: int
    """Questions of such a measurement."""


SMALL = Scale("small", base=90, arm=90, amounts=(16, 32, 64), held_out=60, audited=30, probe_every=4, probes=20)
FULL = Scale("full", base=300, arm=600, amounts=(300, 1_000, 3_000), held_out=300, audited=150, probe_every=25, probes=60)
"""The paper's 10,000 traces are left out of `amounts`: their clips alone take an hour of two cores, and the curve is flat by then."""
TINY = Scale("tiny", base=3, arm=3, amounts=(1,), held_out=3, audited=3, probe_every=1, probes=2)
"""For the tests."""
SCALES = {scale.name: scale for scale in (SMALL, FULL, TINY)}

# CPU seconds, measured on two shared cores of an Intel Xeon without AMX, torch 2.13.0, one thread.
_CLIP, _TRACE, _GENERATED, _FILTERED, _TRAINED, _ANSWERED, _AUDITED = 0.25, 0.15, 0.7, 0.01, 0.25, 0.6, 1.7
_STARTED = 4.0
"""To load libraries and models."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages in an order in which each follows those that it needs."""

    stages: tuple[Stage, ...]
    seeds: int
    scale: Scale
    only: tuple[Experiment, ...]

    def waves(self) -> Iterator[list[Stage]]:
        """The stages in groups whose members do not need each other."""
        left, done = list(self.stages), set[str]()
        while left:
            ready = [stage for stage in left if done.issuperset(stage.needs)]
            done |= {stage.name for stage in ready}
            left = [stage for stage in left if stage.name not in done]
            # The longest first, so that no process is left alone with one at the end.
            yield sorted(ready, key=lambda stage: -stage.seconds)


def plan(scale: Scale, seeds: int, only: Sequence[str]) -> Plan:
    """The stages of the wanted experiments over all seeds. Raises `ConfigError` for an unknown experiment."""
    unknown = [name for name in only if name not in EXPERIMENTS]
    if unknown:
        raise ConfigError(f"unknown experiment {unknown[0]!r}; known are {', '.join(EXPERIMENTS)}")
    wanted = tuple(name for name in EXPERIMENTS if name in only or not only)
    found: dict[str, Stage] = {}
    for seed in range(seeds):
        for name in wanted:
            for stage in _STAGES[name](Names(seed), scale):
                found.setdefault(stage.name, stage)
    return Plan(tuple(found.values()), seeds, scale, wanted)


@dataclass(frozen=True, slots=True)
class Names:
    """The stages' names for one seed."""

    seed: int

    def __call__(self, *parts: str) -> str:
        """The name of a stage of these parts."""
        return f"seed-{self.seed}/" + "-".join(part.replace(" ", "-") for part in parts)


def stage(name: str, work: Work, amount: float) -> Stage:
    """A stage that is expected to take this many CPU seconds beside its start."""
    return Stage(name, work, round(_STARTED + amount, 1))


def held_out(scale: Scale) -> Stage:
    """The clips of the held-out questions: the same for every seed, so that seeds and questions are crossed."""
    return stage("held-out", Clips("held-out", scale.held_out, 0), _CLIP * scale.held_out)


def held_out_factual(scale: Scale) -> Stage:
    """As many held-out questions without hypothetical ones."""
    return stage("held-out-factual", Clips("held-out", scale.held_out, 0, FACTUAL), _CLIP * scale.held_out)


def _train_clips(names: Names, count: int) -> Stage:
    return stage(names("clips", str(count)), Clips("train", count, names.seed), _CLIP * count)


def base(names: Names, scale: Scale) -> list[Stage]:
    """The base model: the embedded one, trained on text-only reasoning until it does not call."""
    seed, count = BASE_SEED + names.seed, scale.base
    clips = stage(names("clips", "base"), Clips("train", count, seed), _CLIP * count)
    data = stage(names("traces", "base"), Construct(clips.name, "TextTeacher", "both", count, seed, retries=0), _TRACE * count)
    return [clips, data, stage(names("model", "base"), Tune((data.name,), None, names.seed, epochs=1), _TRAINED * count)]


def evaluation(names: Names, scale: Scale, what: str, model: str | None, looking: Looking) -> Stage:
    """An evaluation on held-out questions of all three kinds."""
    work = Evaluate("held-out", model, scale.held_out, 0, KINDS, looking)
    return stage(names("eval", what), work, _ANSWERED * scale.held_out)


def _taught(names: Names, scale: Scale, arm: str, tools: Tools, teacher: str = "quiet", rules: str = "all rules") -> list[Stage]:
    """The stages from clips to the held-out answers of one arm."""
    clips, count = _train_clips(names, scale.arm), scale.arm
    cost = _TRACE + (_GENERATED if tools in ("both", "generate") else 0) / 3
    data = stage(names("traces", teacher, tools), Construct(clips.name, TEACHERS[teacher], tools, count, names.seed), cost * count)
    kept = stage(names("kept", arm), Select(data.name, FILTERS[rules]), _FILTERED * count)
    model = stage(names("model", arm), Tune((kept.name,), names("model", "base"), names.seed), 2 * _TRAINED * count)
    return [clips, data, kept, model, evaluation(names, scale, arm, model.name, Looking(tools))]


def _tools(names: Names, scale: Scale) -> list[Stage]:
    stages = [held_out(scale), *base(names, scale), evaluation(names, scale, "base", names("model", "base"), Looking())]
    for arm, tools in ARMS.items():
        stages += _taught(names, scale, arm, tools)
    return stages


def _inserted(names: Names, scale: Scale) -> list[Stage]:
    model = names("model", "base")
    return [
        held_out(scale),
        *base(names, scale),
        evaluation(names, scale, "base text", model, Looking("none")),
        evaluation(names, scale, "base inserted", model, Looking("none", insert=1)),
        *_taught(names, scale, "retrieve", "retrieve"),
        *_taught(names, scale, "both", "both"),
    ]


def filter_arm(teacher: str, rules: str) -> str:
    """The name of an arm of experiment c; one of them is the arm `both` of experiment a."""
    return "both" if (teacher, rules) == ("quiet", "all rules") else f"{teacher} {rules}"


def _filters(names: Names, scale: Scale) -> list[Stage]:
    stages = [held_out(scale), *base(names, scale)]
    for teacher in TEACHERS:
        for rules in FILTERS:
            stages += _taught(names, scale, filter_arm(teacher, rules), "both", teacher, rules)
    return stages


def _amounts(names: Names, scale: Scale) -> list[Stage]:
    most = max(scale.amounts)
    asked = ceil(most * _ASKED_PER_KEPT)
    stages = [held_out(scale), *base(names, scale), evaluation(names, scale, "base", names("model", "base"), Looking())]
    if asked <= scale.arm:
        taught = _taught(names, scale, "both", "both")
        stages, kept = [*stages, *taught], taught[2]
    else:
        clips = _train_clips(names, asked)
        cost = _TRACE + _GENERATED / 3
        data = stage(names("traces", "amount"), Construct(clips.name, TEACHERS["quiet"], "both", asked, names.seed), cost * asked)
        kept = stage(names("kept", "amount"), Select(data.name), _FILTERED * asked)
        stages += [clips, data, kept]
    for amount in scale.amounts:
        part = stage(names("kept", f"{amount}"), Select(kept.name, first=amount), 0.02 * amount)
        is_most = amount == most
        tune = Tune((part.name,), names("model", "base"), names.seed, 2, 3e-4, scale.probe_every if is_most else 0, scale.probes)
        probing = 2 * amount / 8 / scale.probe_every * scale.probes * _ANSWERED if is_most else 0
        model = stage(names("model", f"{amount}"), tune, 2 * _TRAINED * amount + probing)
        stages += [part, model, evaluation(names, scale, f"{amount}", model.name, Looking())]
    return stages


def _looks(names: Names, scale: Scale) -> list[Stage]:
    """Of the embedded model, on questions that no generator is needed for."""

    def one(what: str, looking: Looking) -> Stage:
        work = Evaluate("held-out-factual", None, scale.held_out, 0, FACTUAL, looking)
        return stage(names("looks", what), work, 0.6 * _ANSWERED * scale.held_out)

    looks = Looking("retrieve")
    stages = [held_out_factual(scale), one("1 look", looks), one("3 looks", replace(looks, max_looks=3))]
    stages += [one(f"{rate:g} fps", replace(looks, fps=rate)) for rate in RATES[1:]]
    stages += [one(f"none {rate:g} fps", Looking("none", fps=rate)) for rate in RATES]
    stages += [one(selection, replace(looks, select=selection)) for selection in SELECTIONS[1:]]
    stages.append(one(ORACLE, replace(looks, frames="oracle")))
    # The embedded model decodes greedily and was not trained here: every seed would give the same.
    return [] if names.seed else stages


def _unmeasured(names: Names, scale: Scale) -> list[Stage]:
    stages = [held_out(scale), *base(names, scale), *_taught(names, scale, "both", "both")]
    work = Audit("held-out", names("model", "both"), scale.audited, 0)
    stages.append(stage(names("audit", "both"), work, _AUDITED * scale.audited))
    return stages


_STAGES: dict[Experiment, Callable[[Names, Scale], list[Stage]]] = {
    "a": _tools,
    "b": _inserted,
    "c": _filters,
    "d": _amounts,
    "e": _looks,
    "f": _unmeasured,
}
