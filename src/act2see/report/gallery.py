"""The rows of a gallery: what a reader filters, searches and sorts by, read from a run's traces and the files beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TypedDict

from act2see.benchmarks.choosing import same_words
from act2see.core import chat
from act2see.core.errors import StoreError
from act2see.core.rejection_reasons import MEANINGS
from act2see.core.spots import tool_of
from act2see.core.trace import Frame, Generate, Trace
from act2see.curation.filtering import REJECTED
from act2see.curation.qa_records import Reference, read_references, sample_and_number
from act2see.evaluation.scores import read_score
from act2see.report.pictures import clean
from act2see.storage.codec import Reader, map_of, optional, read_number, read_object, read_text
from act2see.storage.runs import SAMPLES, Run, file_of

_TITLE_LETTERS, _WORDS_LETTERS, _FACT_LETTERS = 300, 1_000, 600
"""Longer texts are cut off in the list and in the search; a trace itself is shown whole. Our choice."""
FACETS: Mapping[str, str] = {
    "change": "Change",
    "outcome": "Outcome",
    "first": "First run",
    "second": "Second run",
    "condition": "Condition",
    "looking": "Looking",
    "call": "First call",
    "kind": "Kind",
    "tool": "Tool",
    "filter": "Filter",
    "reason": "Rejection reason",
}
"""What traces are filtered by, in the page's order, with their labels; a run has those that its files tell."""
SORTS: Mapping[str, str] = {"looks": "looks", "tokens": "tokens", "seconds": "time", "score": "retrieval score", "similarity": "similarity"}


class Side(TypedDict):
    """One run's trace of a question. `at` is its place among the run's written traces; None where there is no trace."""

    at: int | None
    outcome: str
    answer: str
    facts: list[tuple[str, str]]


class Row(TypedDict):
    """One line of the list. `sides` has one entry a run, None where the run lacks the question."""

    id: str
    title: str
    video: str
    thumb: str
    imagined: bool
    facets: dict[str, list[str]]
    sorts: dict[str, float]
    words: str
    sides: list[Side | None]


@dataclass(frozen=True, slots=True)
class Known:
    """What the files beside a trace say of it."""

    outcome: str = ""
    kinds: tuple[str, ...] = ()
    error: str | None = None
    right: str | int | None = None
    """The right answer: its text, or the index of the choice."""
    reasons: Mapping[str, str] | None = None
    """Rejection reasons with details; empty for a kept trace, None where nothing was filtered."""
    similarity: float | None = None
    condition: str = ""
    call: str = ""
    looking: str = ""
    same_as: str | None = None
    """Id of the trace that stands for this one if it has none: a condition of an audit that changes nothing for a question is the real one."""

    def right_choice(self, trace: Trace) -> int | None:
        """Index of the right one of the trace's choices, if it is known."""
        if isinstance(self.right, str):
            return trace.choices.index(self.right) if self.right in trace.choices else None
        return self.right if self.right is not None and self.right < len(trace.choices) else None


@dataclass(frozen=True)
class Judgements:
    """Everything that a run's files say of its traces. Made by `judgements`."""

    by_id: Mapping[str, Known] = field(default_factory=dict)
    references: Mapping[str, Reference] = field(default_factory=dict)
    is_filtered: bool = False
    """Whether the traces were filtered: those that no file names were kept."""

    def of(self, trace: Trace) -> Known:
        """What is known of a trace."""
        known = self.by_id.get(trace.id) or Known(reasons={} if self.is_filtered else None)
        if (reference := self.references.get(sample_and_number(trace.id)[0])) is not None:
            return replace(known, outcome=_constructed(trace, reference), kinds=(reference.kind,), right=reference.answer or None)
        return known if known.outcome else replace(known, outcome=_ended(trace))

    def without(self, traces: Mapping[str, object]) -> Iterable[tuple[str, Known, str]]:
        """What is known of questions that no trace is of: their ids, and their words where the run has them."""
        for name, known in self.by_id.items():
            if name not in traces:
                reference = self.references.get(sample_and_number(name)[0])
                yield (name, known, "") if reference is None else (name, replace(known, kinds=(reference.kind,)), reference.question)


def judgements(run: Run, filtered: Run | None = None) -> Judgements:
    """Read what a run's files say of its traces; `filtered` is what `act2see filter` kept of it. Raises `StoreError` with the place of a bad line."""
    if run.command == "eval":
        return Judgements({name: known for row in run.scores() or () for name, known in _of_eval(*row)})
    if run.command == "audit":
        return Judgements(_with_right(run, {name: known for row in run.scores() or () for name, known in _of_audit(*row)}))
    references = read_references(run.rows(SAMPLES) or ())
    rejecting = filtered or (run if run.command == "filter" else None)
    rows = () if rejecting is None else rejecting.rows(REJECTED) or ()
    return Judgements(dict(_of_filter(*row) for row in rows), references, is_filtered=rejecting is not None)


def _of_eval(where: str, row: object) -> Iterable[tuple[str, Known]]:
    score = read_score(row, where)
    letters = [guess.removeprefix("always ") for guess in score.guesses if guess.startswith("always ")]
    right = chat.letters(score.options).find(letters[0]) if letters and score.options else -1
    kinds = tuple(dict.fromkeys((score.kind, *score.groups)))
    yield score.id, Known(score.outcome, kinds, score.error, right if right >= 0 else None)


@dataclass(frozen=True, slots=True)
class _AuditRow:
    id: str
    kind: str
    call: str | None
    looks: float
    outcomes: Mapping[str, str]
    errors: Mapping[str, str]


_texts = map_of(read_text)
_read_audit: Reader[_AuditRow] = read_object(
    _AuditRow, id=read_text, kind=read_text, call=optional(read_text), looks=read_number, outcomes=_texts, errors=_texts
)


def _of_audit(where: str, row: object) -> Iterable[tuple[str, Known]]:
    found = _read_audit(row, where)
    real, off = (found.outcomes.get(arm) == "correct" for arm in ("real", "off"))
    looking = "gained" if real and not off else "harmed" if off and not real else "right either way" if real else "wrong either way"
    for condition, outcome in found.outcomes.items():
        error = found.errors.get(condition)
        same_as = f"{found.id}@real" if error is None and condition != "real" else None
        known = Known(outcome, (found.kind,), error, call=found.call or "none", looking=looking, same_as=same_as)
        known = replace(known, condition=condition.replace("_", " "))
        yield f"{found.id}@{condition}", known


def _with_right(run: Run, known: Mapping[str, Known]) -> dict[str, Known]:
    """An audit's files do not hold the right choice; it is the one that was chosen under a condition that was correct, if any was.

    Its text, and not its index: each trace has choices of its own.
    """
    right: dict[str, str] = {}
    for _, trace in run.sketches(damaged=[]):  # what is damaged is told when the traces are written
        if trace.id in known and known[trace.id].outcome == "correct" and (chosen := chat.chosen(trace.answer, trace.choices)) is not None:
            right.setdefault(trace.id.rpartition("@")[0], trace.choices[chosen])
    return {name: replace(one, right=right.get(name.rpartition("@")[0])) for name, one in known.items()}


@dataclass(frozen=True, slots=True)
class _RejectedRow:
    trace: str
    sample: str
    first: str | None
    reasons: Mapping[str, str]
    similarity: float | None


_read_rejected: Reader[_RejectedRow] = read_object(
    _RejectedRow, trace=read_text, sample=read_text, first=optional(read_text), reasons=_texts, similarity=optional(read_number)
)


def _of_filter(where: str, row: object) -> tuple[str, Known]:
    found = _read_rejected(row, where)
    return found.trace, Known(reasons=found.reasons, similarity=found.similarity)


def _constructed(trace: Trace, reference: Reference) -> str:
    if trace.answer is None or not reference.answer:
        return _ended(trace)
    if not trace.choices:
        return "correct" if same_words(trace.answer, reference.answer) else "wrong"
    chosen = chat.chosen(trace.answer, trace.choices)
    return "no_answer" if chosen is None else "correct" if trace.choices[chosen] == reference.answer else "wrong"


def _ended(trace: Trace) -> str:
    match trace.finish:
        case None:
            return "unfinished"
        case "length":
            return "truncated"
        case "errors":
            return "failed_calls"
        case _:
            return "no_answer" if trace.answer is None else "answered"


# Rows


def row_of(trace: Trace, known: Known, at: int) -> Row:
    """The line of a trace; `at` is its place among the run's written traces."""
    tools = chat.tools_of(trace)
    thumb = _thumb(trace)
    scores = [frame.score for frame in trace.brought_frames if frame.score is not None]
    sorts: dict[str, float] = {
        "looks": trace.looks,
        "tokens": trace.cost.tokens_in + trace.cost.tokens_out,
        "seconds": round(trace.cost.total_seconds, 3),
    }
    if scores:
        sorts["score"] = round(max(scores), 4)
    calls = [call.prompt if isinstance(call, Generate) else call.query for call in trace.calls]
    words = [trace.id, PurePath(trace.video).name, *trace.choices, trace.answer or "", *calls, known.error or ""]
    used: list[str] = list(dict.fromkeys(tool_of(call, tools) for call in trace.calls))
    row = _row(trace.id, trace.question, known, {"tool": used or ["none"]}, sorts)
    row["video"] = _short(PurePath(trace.video).name, _TITLE_LETTERS)
    row["thumb"], row["imagined"] = ("", False) if thumb is None else (file_of(thumb), thumb.provenance is not None)
    row["words"] = _short("\n".join(words), _WORDS_LETTERS)
    right = known.right if isinstance(known.right, str) and known.right_choice(trace) is None else ""
    row["sides"] = [_side(known, at, _answer(trace), right)]
    return row


def row_without_trace(name: str, known: Known, question: str) -> Row:
    """The line of a question that failed before it had a trace, or whose trace is in another run."""
    row = _row(name, question or name, known, {}, {})
    row["words"] = _short(f"{name}\n{known.error or ''}", _WORDS_LETTERS)
    row["sides"] = [_side(known, None, "", known.right if isinstance(known.right, str) else "")]
    return row


def row_like(original: Row, name: str, known: Known) -> Row:
    """The line of a question whose condition changed nothing, which shows the trace of another."""
    (side,) = original["sides"]
    assert side is not None
    told = ("shown", "the trace with the real frames: this condition changes nothing for this question")
    row = _row(name, original["title"], known, {"tool": original["facets"].get("tool", [])}, original["sorts"])
    shared: Row = {**row, "video": original["video"], "thumb": original["thumb"], "imagined": original["imagined"], "words": original["words"]}
    return {**shared, "sides": [{**side, "outcome": known.outcome, "facts": [*side["facts"], told]}]}


def paired(first: Mapping[str, Row], second: Mapping[str, Row], gained: Sequence[str], lost: Sequence[str]) -> Iterable[Row]:
    """The questions of both runs, in the first one's order, then those of the second alone. Gained and lost are ids."""
    gains, losses = set(gained), set(lost)
    for name in dict.fromkeys((*first, *second)):
        one, two = first.get(name), second.get(name)
        row: Row = {**(one or two or _row(name, name, Known(), {}, {}))}
        sides = [None if side is None else side["sides"][0] for side in (one, two)]
        outcomes = ["not asked" if side is None else side["outcome"] for side in sides]
        if one is None or two is None:
            change = "only in the second run" if one is None else "only in the first run"
        else:
            change = "gained" if name in gains else "lost" if name in losses else "right in both" if outcomes[0] == "correct" else "right in neither"
        tools = [tool for side in (one, two) if side is not None for tool in side["facets"].get("tool", ())]
        facets = {name: values for name, values in row["facets"].items() if name != "outcome"}
        row["facets"] = {"change": [change], "first": [outcomes[0]], "second": [outcomes[1]], **facets, "tool": list(dict.fromkeys(tools))}
        row["sorts"] = (two or row)["sorts"]
        row["words"] = _short("\n".join(side["words"] for side in (one, two) if side is not None), 2 * _WORDS_LETTERS)
        row["sides"] = sides
        yield row


def _row(name: str, title: str, known: Known, facets: dict[str, list[str]], sorts: dict[str, float]) -> Row:
    if known.similarity is not None:
        sorts = {**sorts, "similarity": round(known.similarity, 4)}
    told: dict[str, list[str]] = {"outcome": [known.outcome], "kind": list(known.kinds), **facets}
    if known.reasons is not None:
        told |= {"filter": ["rejected" if known.reasons else "kept"], "reason": list(known.reasons)}
    if known.condition:
        told |= {"condition": [known.condition], "call": [known.call], "looking": [known.looking]}
    told = {name: [_short(value, _FACT_LETTERS) for value in values] for name, values in told.items() if any(values)}
    return {
        "id": clean(name),
        "title": _short(" ".join(title.split()), _TITLE_LETTERS),
        "video": "",
        "thumb": "",
        "imagined": False,
        "facets": told,
        "sorts": sorts,
        "words": "",
        "sides": [],
    }


def _side(known: Known, at: int | None, answer: str, right: str) -> Side:
    facts = [("right answer", right), ("error", known.error or "")]
    facts += [(f"rejected: {reason.replace('_', ' ')}", _reason_text(reason, detail)) for reason, detail in (known.reasons or {}).items()]
    if known.similarity is not None:
        facts.append(("similarity to the person's reasoning", f"{known.similarity:.3f}"))
    told = [(clean(name), _short(value, _FACT_LETTERS)) for name, value in facts if value]
    return {"at": at, "outcome": known.outcome, "answer": _short(answer, _FACT_LETTERS), "facts": told}


def _reason_text(reason: str, detail: str) -> str:
    meaning = next((meaning for name, meaning in MEANINGS.items() if name == reason), "")
    return f"{meaning} ({detail})" if meaning and detail else meaning or detail or reason


def _answer(trace: Trace) -> str:
    chosen = chat.chosen(trace.answer, trace.choices) if trace.choices else None
    return (trace.answer or "") if chosen is None else trace.choices[chosen]


def _thumb(trace: Trace) -> Frame | None:
    """The frame that stands for a trace: what its first look brought, or else the middle one of the initial frames."""
    return next(iter(trace.brought_frames), None) or (trace.frames[len(trace.frames) // 2] if trace.frames else None)


def _short(text: str, letters: int) -> str:
    text = clean(text)
    return text if len(text) <= letters else text[: letters - 1] + "…"


def check_pair(first: Run, second: Run) -> None:
    """Refuse a filter's folder that is not of this run. Raises `StoreError`."""
    filtered = second.config.get("filtered")
    digest = filtered.get("digest") if isinstance(filtered, Mapping) else None
    if digest != first.digest:
        raise StoreError(f"{second.folder} was not filtered from {first.folder}: give the run that act2see filter was given")
