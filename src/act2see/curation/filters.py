"""Filter rules: which traces are good enough for training, and why others are rejected. A pure function of the run, without model calls.

Every rule is applied to every trace, so that the report counts how often each one applies. The right answer, the similarity to the human reasoning
and the format are the paper's rules; the others are ours.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from act2see.benchmarks.choosing import same_words
from act2see.core.chat import chosen, letters, tools_of
from act2see.core.rejection_reasons import MEANINGS, Reason
from act2see.core.spots import tool_of
from act2see.core.trace import Answer, Generate, Observation, Retrieve, Thought, Trace
from act2see.curation.qa_records import Reference
from act2see.storage.runs import file_of
from act2see.tools.encoders.words import SMALL_WORDS

LEAK_WORDS = 8
"""Number of consecutive words shared with the human reasoning, but not the question, that counts as copying. Our choice."""

_STRAY_TAG = re.compile(r"</?(?:retrieve|generate|frame|answer)>")
_THINK = re.compile(r"</?think>")
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?:[^.!?;\n]|[.!?;](?=\w))+[.!?;\n]?")  # the point of 3.5 ends none
# Our choices, in English, as the prompts are.
_OF_A_FRAME = re.compile(
    r"\b(?:frames?|pictures?|images?|views?|shows?|showed|shown|showing|visible|depicts?|displays?|appears?|sees?|seen|saw|looks?|watch|notice[sd]?"
    r"|observed?|spot(?:s|ted)?|makes? out|seconds|\d+ ?s(?:econd)?)\b",
    re.IGNORECASE,
)
_OF_A_SPOT = re.compile(
    r"\b(?:reads?|says|bears?|crop|part|enlarged|close[- ]?up|closer|prints?|printed|digits?|letters?|first|then|before|after|twice|times|between)\b",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"\b(?:(?:answer|option|choice|solution)\b.{0,30}?\b(?:is|be|are)\b|(?:it|that|this|which) (?:must|has to|can only) be\b"
    r"|(?:therefore|hence)\b(?!,? (?:let\b|(?:i|we) (?:\w+ ){0,2}(?:look|ask|need|want|see|check|search)\b))"  # a plan is no conclusion
    r"|i (?:already )?know\b|i conclude\b)",
    re.IGNORECASE,
)
_DOUBTS = re.compile(r"\b(?:if|unless|whether|not|cannot|can't|maybe|perhaps|might|could|would|either|or)\b|\?", re.IGNORECASE)
_OF_THE_REFERENCE = re.compile(
    r"\b(?:(?:the|this|that) (?:human|reference|annotated|expert|gold|given|provided)"
    r" (?:(?:reasoning|explanation|rationale|solution|annotation)s?|answer\b(?! (?:choice|option)))"
    r"|(?:the|an|human) annotat(?:or|ion)s?|ground[- ]truth"
    r"|reference (?:reasoning|explanation|rationale|answer|solution)|the person(?:['’]s)? reasoning)\b",
    re.IGNORECASE,
)
_NOT_CONTENT = SMALL_WORDS | set(
    _WORD.findall(
        "d didn doesn don isn ll m re s t ve wasn "  # what an apostrophe leaves of a word
        "any can did do frame frames have he if into me not now picture scene shape she show something then thing us we what when where who you"
    )
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of the filter."""

    reference_similarity: float = 0.8
    """0.80 in the paper."""
    leak_words: int = LEAK_WORDS
    ignore: frozenset[Reason] = frozenset()
    """Rejection reasons to ignore."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A trace's rejection reasons, each with its evidence; kept if there are none."""

    trace: str
    sample: str
    reasons: Mapping[Reason, str]
    similarity: float | None

    @property
    def is_kept(self) -> bool:
        """Whether the trace is kept."""
        return not self.reasons

    @property
    def first(self) -> Reason | None:
        """The first reason, under which the trace is counted."""
        return next((reason for reason in MEANINGS if reason in self.reasons), None)


def judge(trace: Trace, reference: Reference, similarity: float | None, limits: Limits, by_hand: str | None = None) -> Judged:
    """All rejection reasons of a trace. Needs only the file names of its frames (`Run.sketch_at`).

    `similarity` is that of its `own_words` with the person's reasoning, None where there is none; `by_hand` is what somebody said who rejected it.
    """
    return weigh(trace.id, reference, objections(trace, reference, limits), similarity, limits, by_hand)


def objections(trace: Trace, reference: Reference, limits: Limits) -> dict[Reason, str]:
    """Rejection reasons of the trace alone, without similarity and manual review."""
    return dict(_reasons(trace, reference, limits))


def weigh(
    name: str, reference: Reference, objections: Mapping[Reason, str], similarity: float | None, limits: Limits, by_hand: str | None = None
) -> Judged:
    """The reasons against the trace of this name, in their order: its `objections`, its similarity, and what was said of it."""
    found = dict(objections)
    if reference.reasoning and similarity is not None and not similarity > limits.reference_similarity:  # what is no number exceeds nothing
        found["unlike_reference"] = f"{similarity:.3f}"
    if by_hand is not None:
        found["by_hand"] = by_hand
    kept = {reason: found[reason] for reason in MEANINGS if reason in found and reason not in limits.ignore}
    return Judged(name, reference.id, kept, similarity)


def once_each(judged: Iterable[Judged], limits: Limits) -> Iterator[Judged]:
    """The same, with at most one kept trace per question: the first without a reason against it."""
    kept: dict[str, str] = {}
    for one in judged:
        if one.is_kept and one.sample in kept and "kept_already" not in limits.ignore:
            yield replace(one, reasons={"kept_already": kept[one.sample]})
            continue
        if one.is_kept:
            kept.setdefault(one.sample, one.trace)
        yield one


def own_words(trace: Trace) -> str:
    """The teacher's thoughts without tags, calls and the answer, for the comparison with the human reasoning."""
    return " ".join(_THINK.sub(" ", _thoughts(trace.steps)).split())


def _reasons(trace: Trace, reference: Reference, limits: Limits) -> Iterator[tuple[Reason, str]]:
    yield from _of_the_answer(trace, reference)
    if not reference.reasoning:
        yield "no_reference", "none"
    checks: tuple[tuple[Reason, str | None], ...] = (
        ("format", _malformed(trace)),
        ("failed_call", _failed_call(trace)),
        ("useless_call", _useless_call(trace)),
        ("early_answer", _early_answer(trace, reference)),
        ("leak", _leak(trace, reference, limits.leak_words)),
        ("duplicate_frame", _duplicate(trace)),
        ("unfaithful_frame", _unfaithful(trace)),
    )
    yield from ((reason, said) for reason, said in checks if said is not None)


def _of_the_answer(trace: Trace, reference: Reference) -> Iterator[tuple[Reason, str]]:
    if trace.answer is None:
        yield "no_answer", str(trace.finish)
        return
    if not reference.answer:
        yield "unknown_answer", trace.answer
        return
    if not reference.choices:
        if not same_words(trace.answer, reference.answer):
            yield "wrong_answer", trace.answer
        return
    index = chosen(trace.answer, reference.choices)
    if index is None:
        yield "no_answer", trace.answer
    elif reference.choices[index] != reference.answer:
        yield "wrong_answer", reference.choices[index]


def _malformed(trace: Trace) -> str | None:
    for before, step in pairwise(trace.steps):
        if isinstance(step, Observation) and step.error is not None and not isinstance(before, Retrieve | Generate):
            return step.error
        if isinstance(before, Answer):
            return "something follows the answer"
    for step in trace.steps:
        if isinstance(step, Thought) and (stray := _STRAY_TAG.search(step.text)):
            return f"a stray {stray.group()}"
    marks = _THINK.findall(_thoughts(trace.steps))
    if marks and marks[0] == "</think>":  # where the model's template writes the first mark, it is not among its own words
        marks.insert(0, "<think>")
    if not marks or marks != ["<think>", "</think>"] * (len(marks) // 2):
        return "its thinking is not between <think> and </think>"
    return None


def _failed_call(trace: Trace) -> str | None:
    for before, step in pairwise(trace.steps):
        if isinstance(step, Observation) and step.error is not None and isinstance(before, Retrieve | Generate):
            return step.error
    return None


def _useless_call(trace: Trace) -> str | None:
    """The call whose frame is never spoken of: neither by a word for a picture or for seeing, nor by a word of the call."""
    tools = tools_of(trace)
    for place, (call, step) in enumerate(pairwise(trace.steps)):
        if not isinstance(call, Retrieve | Generate) or not isinstance(step, Observation) or not step.frames:
            continue
        said = _until_the_next_call(trace, place + 2)
        wanted, tool = call.query if isinstance(call, Retrieve) else call.prompt, tool_of(call, tools)
        if tool in ("clip", "zoom"):  # a number of the call says nothing of what was seen
            spoken = bool(_OF_A_SPOT.search(said))
        else:
            spoken = bool(_content(wanted) & _content(said))
        if not spoken and not _OF_A_FRAME.search(said):
            return wanted.strip()
    return None


def _until_the_next_call(trace: Trace, start: int) -> str:
    words = []
    for step in trace.steps[start:]:
        if not isinstance(step, Thought):
            break
        words.append(step.text)
    return " ".join(words)


def _early_answer(trace: Trace, reference: Reference) -> str | None:
    """The sentence before the last frame in which the later answer is stated as concluded."""
    places = [place for place, step in enumerate(trace.steps) if isinstance(step, Observation) and step.frames]
    if not places or trace.answer is None:
        return None
    index = chosen(trace.answer, reference.choices) if reference.choices else None
    named = trace.answer if index is None else reference.choices[index]
    letter = None if index is None else letters(index + 1)[index:] or None  # of very many choices the last have none
    for match in _SENTENCE.finditer(_thoughts(trace.steps[: places[-1]])):
        sentence = str(match.group())
        if _CONCLUDES.search(sentence) and not _DOUBTS.search(sentence) and _names(sentence, named, letter):
            return sentence.strip()
    return None


def _names(sentence: str, text: str, letter: str | None) -> bool:
    if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", sentence, re.IGNORECASE):
        return True
    told = rf"\({letter}\)|\b(?i:option|choice|answer|is|be)[\s:*(\"“']{{1,4}}{letter}\b|\b{letter}[.)]"
    return letter is not None and re.search(told, sentence) is not None


def _leak(trace: Trace, reference: Reference, longest: int) -> str | None:
    said = own_words(trace)
    if spoken := _OF_THE_REFERENCE.search(said):
        return str(spoken.group())
    if not reference.reasoning:
        return None
    theirs = set(_runs(reference.reasoning, longest))
    for text in (reference.question, *reference.choices):
        theirs -= set(_runs(text, longest))
    copied = (" ".join(run) for run in _runs(said, longest) if run in theirs)
    return next(copied, None)


def _runs(text: str, length: int) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return (tuple(words[start : start + length]) for start in range(len(words) - length + 1))


def _duplicate(trace: Trace) -> str | None:
    """A look that brought nothing new. A stretch may hold frames that were there already, among others; a part of a frame is not the frame."""
    files, spots = {file_of(frame) for frame in trace.frames}, {(frame.seconds, frame.box) for frame in trace.frames}
    tools = tools_of(trace)
    for call, observation in pairwise([None, *trace.steps]):
        if not isinstance(observation, Observation):
            continue
        known = []
        for frame in observation.frames:
            if file_of(frame) in files or (frame.seconds is not None and (frame.seconds, frame.box) in spots):
                known.append(frame)
            files.add(file_of(frame))
            spots.add((frame.seconds, frame.box))
        is_stretch = isinstance(call, Retrieve) and tool_of(call, tools) == "clip"
        if known and (not is_stretch or len(known) == len(observation.frames)):
            return "an imagined frame" if known[0].seconds is None else f"the frame at {known[0].seconds:.2f} s"
    return None


def _unfaithful(trace: Trace) -> str | None:
    unchecked = next((frame for frame in trace.brought_frames if frame.provenance is not None and not frame.provenance.scores), None)
    return None if unchecked is None or unchecked.provenance is None else f"unchecked: {unchecked.provenance.prompt}"


def _thoughts(steps: Iterable[object]) -> str:
    return " ".join(step.text for step in steps if isinstance(step, Thought))


def _content(text: str) -> set[str]:
    """The words of a text that say what it is about, without the endings of the plural."""
    return {word.rstrip("s") for word in _WORD.findall(text.casefold()) if word not in _NOT_CONTENT} - {""}
