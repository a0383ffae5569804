"""The tables of the reproduction, computed from the finished runs alone: no time and no path of a machine is in them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from act2see.core import chat
from act2see.core.errors import StoreError
from act2see.evaluation.compare import compare
from act2see.evaluation.scores import Score, read_score
from act2see.evaluation.statistics import bootstrap_interval, clustered_interval, share_interval, t_quantile
from act2see.reproduce import plan as plans
from act2see.reproduce.faithfulness import judged_pictures
from act2see.reproduce.plan import ARMS, FILTERS, ORACLE, RATES, SELECTIONS, TEACHERS, Experiment, Names, Plan
from act2see.reproduce.stages import KINDS, MAX_TOKENS, SIMILARITY, Audit, Construct, Evaluate, Looking, Select, Stage, Tune
from act2see.storage.runs import JSON, Run

_DIGITS = 12
_MODEL_PARTS = ("vision", "prefill", "decode")


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean with its 95 % interval, over `items` questions of each of `seeds` seeds (at most as many). None where nothing is known."""

    mean: float | None
    low: float | None
    high: float | None
    items: int
    seeds: int
    is_share: bool = True
    """Whether it is printed as a percentage."""
    is_signed: bool = False

    def text(self) -> str:
        """`82.0 [70.1, 90.2]`, in percent or, of other numbers, as it is."""
        if self.mean is None:
            return "–"
        factor, digits, sign = 100 if self.is_share else 1, 1, "+" if self.is_signed else ""
        said = f"{factor * self.mean:{sign}.{digits}f}"
        if self.low is None or self.high is None:
            return said
        return f"{said} [{factor * self.low:{sign}.{digits}f}, {factor * self.high:{sign}.{digits}f}]"


Cell = str | int | Mean
Rows = list[tuple[Cell, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def headers(self) -> list[str]:
        """The columns' names, with the number of items where it is the same in all rows."""
        counts = [self._counts(place) for place in range(len(self.columns))]
        return [f"{name} (n\N{NO-BREAK SPACE}{min(found):,})" if len(found) == 1 else name for name, found in zip(self.columns, counts, strict=True)]

    def texts(self) -> list[list[str]]:
        """The cells as text, with their number of items where it differs within a column."""
        differs = [len(self._counts(place)) > 1 for place in range(len(self.columns))]
        return [[_text(one, with_items=differs[place]) for place, one in enumerate(row)] for row in self.rows]

    def _counts(self, place: int) -> set[int]:
        return {cell.items for row in self.rows if isinstance(cell := row[place], Mean) and cell.items}


def _text(cell: Cell, *, with_items: bool) -> str:
    match cell:
        case Mean():
            return f"{cell.text()} (n\N{NO-BREAK SPACE}{cell.items:,})" if with_items else cell.text()
        case int():
            return f"{cell:,}"
        case _:
            return cell


@dataclass(frozen=True, slots=True)
class Source:
    """A stage that a table rests on: its command, and digests of its traces and weights."""

    name: str
    command: str
    n: int
    data: str
    weights: str


@dataclass(frozen=True, slots=True)
class Result:
    """An experiment's tables and what they rest on."""

    experiment: Experiment
    tables: tuple[Table, ...]
    sources: tuple[Source, ...]

    def row(self) -> dict[str, JSON]:
        """As JSON."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Finished:
    """The finished runs of a plan."""

    out: Path
    plan: Plan

    def scores(self, name: str) -> list[Score]:
        """The scores of an evaluation, in the order of its questions. Raises `StoreError`."""
        rows = Run.open(self.out / name).scores()
        if not rows:
            raise StoreError(f"{self.out / name} has no scores: delete this folder and run the command again")
        return [read_score(row, where) for where, row in rows]

    def seeds(self, *parts: str) -> list[list[Score]]:
        """The scores of the evaluation of this name, of each seed that has it."""
        names = [Names(seed)(*parts) for seed in range(self.plan.seeds)]
        return [self.scores(name) for name in names if (self.out / name).is_dir()]

    def flops(self, *parts: str) -> list[dict[str, float]]:
        """The model's own FLOPs of each answer, by question, of each seed: vision, prefill and decoding; answers of unknown FLOPs are missing.

        Those of the retriever depend on what its cache on disk holds, and are left out.
        """
        names = [Names(seed)(*parts) for seed in range(self.plan.seeds)]
        return [_flops_by_question(Run.open(self.out / name)) for name in names if (self.out / name).is_dir()]


def _flops_by_question(run: Run) -> dict[str, float]:
    found = {trace.id: [trace.cost.flops.get(part) for part in _MODEL_PARTS] for _, trace in run.sketches([])}
    return {name: sum(given) for name, parts in found.items() if len(given := [part for part in parts if part is not None]) == len(parts)}


def results(out: Path, plan: Plan) -> list[Result]:
    """The tables of all experiments of a plan. Raises `StoreError` for a run that cannot be read."""
    done = Finished(out, plan)
    alone = {name: plans.plan(plan.scale, plan.seeds, (name,)) for name in plan.only}
    return [
        Result(name, tuple(_TABLES[name](done)), tuple(_source(done, stage) for stage in alone[name].stages if _is_source(stage)))
        for name in plan.only
    ]


# Means and intervals


def mean_of(values: Sequence[Sequence[float]], clusters: Sequence[Sequence[str]], *, is_share: bool = True, is_signed: bool = False) -> Mean:
    """The mean over seeds and items. `values` has one row per seed, `clusters` the video of each of its values.

    The interval over items is Wilson's for shares, a bootstrap for paired differences and t otherwise, clustered by video over all seeds. With
    several seeds it is widened by the t interval of the seeds' means: the half widths are added as squares, which counts the items' noise in
    the seeds' means twice, and so errs on the wide side.
    """
    pooled = [value for row in values for value in row]
    of = [cluster for row in clusters for cluster in row]
    means = [fmean(row) for row in values if row]
    if not pooled:
        return Mean(None, None, None, 0, len(values), is_share, is_signed)
    if is_signed:
        interval = bootstrap_interval(pooled, of)
    elif is_share:
        interval = share_interval([value == 1.0 for value in pooled], of)
    else:
        interval = clustered_interval(pooled, of)
    mean, low, high = fmean(pooled), None, None
    if interval is not None:
        between = 0.0
        if len(means) > 1:
            between = t_quantile(len(means) - 1) * stdev(means) / sqrt(len(means))
        low, high = mean - sqrt((mean - interval[0]) ** 2 + between**2), mean + sqrt((interval[1] - mean) ** 2 + between**2)
        low = max(-1.0 if is_signed else 0.0, low)  # no number here can be below 0 but a difference
        high = min(1.0, high) if is_share else high
        low, high = round(low, 4), round(high, 4)
    return Mean(round(mean, 4), low, high, max(map(len, values)), len(values), is_share, is_signed)


Wanted = Callable[[Score], bool]


def _all(score: Score) -> bool:
    return True


def _counterfactual(score: Score) -> bool:
    return score.kind == "hypothetical"


def _factual(score: Score) -> bool:
    return score.kind != "hypothetical"


def _of_kind(kind: str) -> Wanted:
    return lambda score: score.kind == kind


def right(seeds: Sequence[Sequence[Score]], wanted: Wanted = _all) -> Mean:
    """The accuracy."""
    return _mean(seeds, lambda score: float(score.is_right), wanted)


def called(seeds: Sequence[Sequence[Score]], wanted: Wanted = _all) -> Mean:
    """The share of questions with a call."""
    return _mean(seeds, lambda score: float(score.calls > 0), wanted)


def _mean(seeds: Sequence[Sequence[Score]], value: Callable[[Score], float], wanted: Wanted, *, is_share: bool = True) -> Mean:
    rows = [[value(one) for one in scores if wanted(one)] for scores in seeds]
    return mean_of(rows, [[one.video for one in scores if wanted(one)] for scores in seeds], is_share=is_share)


def gigaflops(seeds: Sequence[Sequence[Score]], flops: Sequence[Mapping[str, float]], wanted: Wanted = _all) -> Mean:
    """Billions of FLOPs of the model an answer; nothing where those of an answer are unknown."""
    chosen = [[one for one in scores if wanted(one)] for scores in seeds]
    if any(one.id not in known for scores, known in zip(chosen, flops, strict=True) for one in scores):
        return Mean(None, None, None, 0, len(seeds), is_share=False)
    rows = [[known[one.id] / 1e9 for one in scores] for scores, known in zip(chosen, flops, strict=True)]
    return mean_of(rows, [[one.video for one in scores] for scores in chosen], is_share=False)


def gain(first: Sequence[Sequence[Score]], second: Sequence[Sequence[Score]], wanted: Wanted = _all) -> Mean:
    """The second's accuracy minus the first's, question by question."""
    rows = [
        [float(b.is_right) - float(a.is_right) for a, b in zip(before, after, strict=True) if wanted(a)]
        for before, after in zip(first, second, strict=True)
    ]
    return mean_of(rows, [[one.video for one in scores if wanted(one)] for scores in first], is_signed=True)


# The experiments

_KINDS = {"counterfactual": _counterfactual, "factual": _factual, "all": _all}


def _tools(done: Finished) -> list[Table]:
    base = done.seeds("eval", "base")
    arms = {"base, no training on looks": base} | {f"{arm}": done.seeds("eval", arm) for arm in ARMS}
    kept = {arm: _kept(done, arm) for arm in ARMS}
    accuracy: Rows = [(name, *(right(seeds, wanted) for wanted in _KINDS.values()), kept.get(name, "–")) for name, seeds in arms.items()]
    calls: Rows = [(name, *(called(seeds, _of_kind(kind)) for kind in ("static", "transient", "hypothetical"))) for name, seeds in arms.items()]
    pairs: Rows = []
    for seed in range(done.plan.seeds):
        for arm in ARMS:
            found = compare(done.out / Names(seed)("eval", "base"), done.out / Names(seed)("eval", arm)).scores.overall
            assert found.first is not None
            assert found.second is not None
            assert found.difference is not None
            low, high = found.difference_95 or (None, None)
            difference = Mean(found.difference, low, high, found.n, 1, is_signed=True)
            pairs.append(
                (f"{arm}, seed {seed}", f"{found.first:.1%}", f"{found.second:.1%}", difference, found.gained, found.lost, f"{found.mcnemar_p:.3g}")
            )
    return [
        Table("Accuracy by what the model was taught and may use, in percent", ("trained on", *_KINDS, "traces"), tuple(accuracy)),
        Table("Share of questions with a call, in percent", ("trained on", "static", "transient", "hypothetical"), tuple(calls)),
        Table(
            "Each arm against the base, question by question (`act2see compare`)",
            ("arm", "base", "arm's accuracy", "difference in points", "gained", "lost", "p"),
            tuple(pairs),
            "The same figures as `act2see compare OUT/seed-S/eval-base OUT/seed-S/eval-ARM` prints.",
        ),
    ]


def _kept(done: Finished, arm: str) -> str:
    counts = [_traces(done.out / Names(seed)("kept", arm)) for seed in range(done.plan.seeds)]
    return ", ".join(f"{count:,}" for count in counts)


def _traces(folder: Path) -> int:
    return sum(1 for _ in Run.open(folder).places())


def _inserted(done: Finished) -> list[Table]:
    plain, given = done.seeds("eval", "base text"), done.seeds("eval", "base inserted")
    taught = done.seeds("eval", "retrieve")
    arms = {
        "base, no tool": plain,
        "base, the retriever's frame inserted without training (ViTCoT)": given,
        "trained to retrieve": taught,
        "trained on both tools": done.seeds("eval", "both"),
    }
    rows: Rows = [
        (name, *(right(seeds, _of_kind(kind)) for kind in ("static", "transient")), right(seeds), gain(plain, seeds)) for name, seeds in arms.items()
    ]
    return [Table("Accuracy, in percent", ("model", "static", "transient", "all", "against the base, in points"), tuple(rows))]


def _filters(done: Finished) -> list[Table]:
    rows: Rows = []
    for teacher in TEACHERS:
        for rules in FILTERS:
            arm = plans.filter_arm(teacher, rules)
            seeds = done.seeds("eval", arm)
            rows.append((f"{teacher} teacher, {rules}", _kept(done, arm), *(right(seeds, wanted) for wanted in _KINDS.values()), called(seeds)))
    note = "The quiet teacher draws a fault in one attempt of four, the noisy one in three of four; not every attempt can have the one that is drawn."
    return [Table("Accuracy by teacher and filter, in percent", ("traces", "number", *_KINDS, "calls"), tuple(rows), note)]


def _amounts(done: Finished) -> list[Table]:
    rows: Rows = [_amount_row("0 (base)", done.seeds("eval", "base"))]
    rows += [_amount_row(f"{amount:,}", done.seeds("eval", f"{amount}")) for amount in done.plan.scale.amounts]
    most = max(done.plan.scale.amounts)
    steps: Rows = []
    for seed in range(done.plan.seeds):
        for step, probe in probes(done.out / Names(seed)("model", f"{most}")):
            rate = probe["call_rate"]
            assert isinstance(rate, Mapping)
            shares = [f"{100 * float(str(rate.get(kind, 0.0))):.0f}" for kind in ("static", "transient")]
            steps.append((f"{step:,}" if done.plan.seeds == 1 else f"{step:,}, seed {seed}", *shares, f"{100 * float(str(probe['accuracy'])):.0f}"))
    columns = ("traces", "calls: static", "calls: transient", "calls: hypothetical", "accuracy")
    asked = f"{done.plan.scale.probes} held-out questions a time, without intervals: read the trend, not a point."
    return [
        Table("Call rate by kind, and accuracy, over the number of training traces, in percent", columns, tuple(rows)),
        Table(
            f"Call rate by kind during the training on {most:,} traces, in percent", ("step", "static", "transient", "accuracy"), tuple(steps), asked
        ),
    ]


def _amount_row(name: str, seeds: Sequence[Sequence[Score]]) -> tuple[Cell, ...]:
    return (name, *(called(seeds, _of_kind(kind)) for kind in ("static", "transient", "hypothetical")), right(seeds))


def probes(folder: Path) -> list[tuple[int, Mapping[str, JSON]]]:
    """The held-out measurements of a training, each with its step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(int(line["step"]), line["probe"]) for line in lines if "probe" in line]


def _looks(done: Finished) -> list[Table]:
    one = done.seeds("looks", "1 look")

    def row(name: str, what: str) -> tuple[Cell, ...]:
        seeds = done.seeds("looks", what)
        frames, tokens = (_mean(seeds, value, _all, is_share=False) for value in (_frames, _tokens))
        return (
            name,
            *(right(seeds, _of_kind(kind)) for kind in ("static", "transient")),
            right(seeds),
            gain(one, seeds),
            frames,
            tokens,
            gigaflops(seeds, done.flops("looks", what)),
        )

    columns = ("", "static", "transient", "all", "against one look at 1 fps, in points", "frames", "tokens read", "GFLOPs")
    looks = (row("one look", "1 look"), row("up to three", "3 looks"), row("none", "none 1 fps"))
    rates = [row(f"{rate:g} fps, one look", "1 look" if rate == 1 else f"{rate:g} fps") for rate in RATES]
    rates += [row(f"{rate:g} fps, no look", f"none {rate:g} fps") for rate in RATES]
    chosen = [row(selection, "1 look" if selection == SELECTIONS[0] else selection) for selection in (*SELECTIONS, ORACLE)]
    return [
        Table("How many looks, in percent", columns, looks),
        Table("How many initial frames, in percent", columns, tuple(rates)),
        Table("Which frame a look returns, in percent", columns, tuple(chosen)),
    ]


def _has_looked(score: Score) -> bool:
    return score.served > 0


def _has_not_looked(score: Score) -> bool:
    return score.served == 0


def _frames(score: Score) -> float:
    return float(score.frames + score.served)


def _tokens(score: Score) -> float:
    return float(score.tokens_in)


def _unmeasured(done: Finished) -> list[Table]:
    both = done.seeds("eval", "both")
    cost: Rows = [
        (name, *(_mean(both, value, wanted, is_share=False) for value in _COSTS.values()), gigaflops(both, done.flops("eval", "both"), wanted))
        for name, wanted in (("answers with a look", _has_looked), ("answers without", _has_not_looked))
    ]
    note = (
        "GFLOPs are the model's own: vision, prefill and decoding. Seconds and what caches held differ from run to run: see costs.json of the runs."
    )
    tables = [Table("Cost per answer of the model trained on both tools", ("", *_COSTS, "GFLOPs"), tuple(cost), note)]
    for seed in range(done.plan.seeds):
        tables.append(_audit_table(done, seed))
    tables.append(_faithfulness_table(done))
    return tables


_COSTS: dict[str, Callable[[Score], float]] = {
    "tokens read": _tokens,
    "tokens written": lambda score: float(score.tokens_out),
    "frames": _frames,
}


def _audit_table(done: Finished, seed: int) -> Table:
    summary = Run.open(done.out / Names(seed)("audit", "both")).summary()
    assert isinstance(summary, Mapping)
    arms, n = summary["arms"], summary["n"]
    assert isinstance(arms, Mapping)
    assert isinstance(n, int)
    rows = []
    for name, arm in arms.items():
        assert isinstance(arm, Mapping)
        between = arm.get("real_minus_arm_95")
        low, high = between if isinstance(between, Sequence) else (None, None)
        difference = Mean(arm["real_minus_arm"], low, high, n, 1, is_signed=True) if "real_minus_arm" in arm else "–"
        low, high = arm["accuracy_95"] or (None, None)
        rows.append((str(name).replace("_", " "), Mean(arm["accuracy"], low, high, n, 1), difference))
    named = "" if done.plan.seeds == 1 else f", seed {seed}"
    return Table(
        f"What a look returns{named}: accuracy in percent",
        ("in place of the frame", "accuracy", "the real frame is better by, in points"),
        tuple(rows),
    )


def _faithfulness_table(done: Finished) -> Table:
    rows: Rows = []
    pictures = [judged_pictures(Run.open(done.out / Names(seed)("eval", "both"))) for seed in range(done.plan.seeds)]
    every = [one for of_seed in pictures for one in of_seed]
    correct = {(seed, one.id): one.is_right for seed, scores in enumerate(done.seeds("eval", "both")) for one in scores}
    for name, is_faithful in (("the picture shows what was asked for", True), ("it does not", False)):
        chosen = [[one for one in of_seed if one.is_faithful is is_faithful] for of_seed in pictures]
        values = [[float(correct[seed, one.question]) for one in of_seed] for seed, of_seed in enumerate(chosen)]
        rows.append((name, sum(map(len, chosen)), mean_of(values, [[one.question for one in of_seed] for of_seed in chosen])))
    wrong = sum(not one.is_faithful for one in every)
    note = f"{wrong} of {len(every)} generated frames are wrong by their pixels. In the paper 13 of 127 were (10.2 %)."
    return Table("Faithfulness of generated frames against accuracy, in percent", ("", "frames", "accuracy"), tuple(rows), note)


_TABLES: dict[Experiment, Callable[[Finished], list[Table]]] = {
    "a": _tools,
    "b": _inserted,
    "c": _filters,
    "d": _amounts,
    "e": _looks,
    "f": _unmeasured,
}


# What they rest on


def _is_source(stage: Stage) -> bool:
    return isinstance(stage.work, Construct | Select | Tune | Evaluate | Audit)


def _source(done: Finished, stage: Stage) -> Source:
    folder = done.out / stage.name
    if isinstance(stage.work, Tune):
        return Source(stage.name, command_of(stage), 0, "", weights_digest(folder / "model"))
    run = Run.open(folder)
    return Source(stage.name, command_of(stage), sum(1 for _ in run.places()), traces_digest(run), "")


def weights_digest(model: Path) -> str:
    """A digest of a model's weights alone."""
    found = hashlib.sha256()
    for path in sorted(model.glob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()[:_DIGITS]


def traces_digest(run: Run) -> str:
    """A digest of a run's traces by what they say and show, in the order of their ids: seconds differ from run to run."""
    lines = []
    for _, trace in run.sketches([]):
        said = [piece if isinstance(piece, str) else [piece.error, len(piece.frames)] for piece in chat.render(trace.steps)]
        seen = [frame.seconds for observation in trace.observations for frame in observation.frames]
        lines.append(json.dumps([trace.id, trace.question, said, seen]))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:_DIGITS]


def command_of(stage: Stage) -> str:
    """The command that does what the stage does, with the output folder as OUT."""
    into = f"--out OUT/{stage.name}"
    match stage.work:
        case Construct(_, teacher, tools, n, seed, retries):
            generator = " --generator micro -o judge=micro" if tools in ("both", "generate") else ""
            asked = f"--teacher act2see.reproduce.teachers:{teacher} --tools {tools} --n {n} --seed {seed} --retries {retries}"
            return f"act2see construct synthetic {asked} -o kind={','.join(KINDS)}{generator} {into}"
        case Select(source, ignore, first):
            if first is not None:
                return f"the first {first:,} traces of OUT/{source}"
            return f"act2see filter OUT/{source} --embedder words --reference-similarity {SIMILARITY} --ignore {' '.join(ignore)} {into}"
        case Tune(data, start, _):
            model = "the embedded model" if start is None else f"OUT/{start}/model"
            return f"act2see train OUT/{stage.name}.toml --data {' '.join(f'OUT/{one}' for one in data)} --model {model} {into}"
        case Evaluate() | Audit() as work:
            backend = "micro" if work.model is None else f"huggingface:OUT/{work.model}/model"
            looking = work.looking if isinstance(work, Evaluate) else Looking()
            verb = "eval" if isinstance(work, Evaluate) else "audit"
            generator = "--generator micro -o judge=micro" if "hypothetical" in work.kinds else "--generator none"
            asked = f"--backend {backend} --n {work.n} -o kind={','.join(work.kinds)} --seed {work.seed} --max-tokens {MAX_TOKENS} --greedy"
            return f"act2see {verb} synthetic {asked} {generator} {looking.flags()} {into}"
        case _:
            return ""
