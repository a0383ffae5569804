"""Parser of the protocol's tags in a model's text. It separates use from mention; no other module does.

A reasoning model quotes its instructions ("end with <answer> your answer </answer>"). A tag that is only mentioned remains text, and decoding
continues.

- A tag in quotation marks or backticks is a mention. So is a pair that contains the system prompt's placeholder or an ellipsis.
- While the reasoning is open (`<think>` without `</think>`), a call counts only if it is well-formed: both tags have one name, the text between them
  names something and does not join the tags ("<retrieve> and </retrieve>"), and it is neither quoted nor in a code block. A frame that the model
  writes itself is rejected under the same conditions. All other tags are mentions.
- While the reasoning is open, an answer counts only if the turn ends right after it.
- Outside the reasoning every other pair counts, and a malformed one is rejected with advice.

`</think>` closes the reasoning unless it is quoted or part of a pair that names the marks ("inside <think> and </think>"). Some models use other
marks (`<thinking>`, `<thought>`, `◁think▷`): only the closing mark of the same kind closes the reasoning.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from act2see.core.trace import Answer, Generate, Retrieve, Step, Thought

STOPS = ("</retrieve>", "</generate>", "</answer>", "</frame>")
"""Stop strings. `</frame>` is among them because only a tool may write a frame: a model that writes one gets an error."""
MAX_QUERY_CHARACTERS = 1000
"""Longer calls are rejected. Not in the paper; our choice: no retriever or generator reads that much."""
PLACEHOLDERS = {"retrieve": "what to look for", "generate": "its description", "answer": "your answer", "frame": "and"}
"""The system prompt's placeholder for each pair of tags."""
SPOT_PLACEHOLDERS = {"moment": "at T s", "stretch": "T1 to T2 s", "zoom": "zoom X0 Y0 X1 Y1 at T s"}
"""The system prompt's placeholders inside a retrieve call with a time or a place."""

_ELLIPSES = ("...", "…")
_PLACEHOLDERS = {name: {words} for name, words in PLACEHOLDERS.items()}
_PLACEHOLDERS["retrieve"] |= {words.casefold() for words in SPOT_PLACEHOLDERS.values()}
_MARKS = ("think", "thinking", "thought")
"""Names of reasoning marks: Qwen and most others, Gemini. Kimi uses `think` in other brackets."""

_TAG = re.compile(rf"(?:<(?=/?\w+>)|◁(?=/?think▷))(/?)({'|'.join(_MARKS)}|retrieve|generate|frame|answer)[>▷]")
_CLOSING_MARK = re.compile(rf"(?:</(?:{'|'.join(_MARKS)})>|◁/think▷)\Z")
_NAMES_THE_MARKS = re.compile(r"<think>\s{0,4}[^\n<]{0,40}\s{0,4}</think>")
_ANY_PAIR_OF_MARKS = re.compile(r"<think>[^<]*</think>")
_JOINS_THE_TAGS = re.compile(r"\s*(?:and|or|then|to|followed by|through)\b", re.IGNORECASE)
_QUOTES = "`\"'“”‘’«»„"
_STEPS: dict[str, type[Retrieve] | type[Generate] | type[Answer]] = {"retrieve": Retrieve, "generate": Generate, "answer": Answer}


@dataclass(frozen=True, slots=True)
class Use:
    """A pair of tags that counts, from `start` to `end` in the text with `inner` between them. `problem` is the reason if it is rejected."""

    name: str
    start: int
    inner: str
    end: int
    problem: str | None = None


def first_use(text: str, before: str = "") -> Use | None:
    """The first pair of tags in `text` that counts. `before` is the preceding text of the same turn, including the opening."""
    return _Scan(before + text, len(before)).run()


def is_thinking(text: str) -> bool:
    """Whether the reasoning is open after this text of a turn."""
    scan = _Scan(text, len(text))
    scan.run()
    return scan.thinking


def is_mention(text: str, before: str = "") -> bool:
    """Whether text that ends with a stop string uses no tag, so that decoding has to continue."""
    return text.endswith(STOPS) and first_use(text, before) is None


def parse_chunk(text: str, before: str = "", *, ended: bool = False) -> tuple[list[Step], str | None]:
    """The steps in text decoded up to a stop, and the problem with their call or answer (None if valid).

    `before` is the preceding text of the same turn; `ended` states that the turn ended here. Text that does not count becomes a `Thought`, exactly as
    written. Text after a call or an answer is dropped, because decoding stops there.
    """
    found = first_use(text, before) or (_last_answer(text, before) if ended else None)
    if found is None:
        return ([Thought(text)] if text else []), None
    if found.problem is not None:
        return [Thought(text[: found.end])], found.problem
    ahead = text[: found.start]
    return [*([Thought(ahead)] if ahead else []), _STEPS[found.name](found.inner)], None


def _last_answer(text: str, before: str) -> Use | None:
    """The answer at the end of a turn whose reasoning is open, or is closed right after the answer."""
    end = len(_CLOSING_MARK.sub("", text.rstrip()).rstrip())
    start = text.rfind("<answer>", 0, end)
    if start < 0 or not text.endswith("</answer>", start, end) or not is_thinking(before + text[:start]) or _is_quoted(text, start):
        return None
    inner = text[start + len("<answer>") : end - len("</answer>")]
    return Use("answer", start, inner, end) if _names_something("answer", inner) and not _TAG.search(inner) else None


@dataclass(slots=True)
class _Scan:
    """One pass over a turn's tags. Tags before `begin` only determine whether the reasoning is open."""

    text: str
    begin: int
    thinking: bool = False
    _mark: str = ""
    """The mark that closes the reasoning."""
    _thinking_since: int = 0
    _tags: list[re.Match[str]] = field(default_factory=list)
    """Tags that may belong to the next pair."""
    _opened: dict[str, int] = field(default_factory=dict)
    """Index in `_tags` of each name's last opening tag, so that the scan stays linear for thousands of tags."""
    _fences: list[int] | None = None
    """Offsets of code fences; None until needed."""

    def run(self) -> Use | None:
        skip_to = 0
        for tag in _TAG.finditer(self.text):
            if tag.start() < skip_to or self._is_in_quotes(tag):
                continue  # mentions
            if tag[2] in _MARKS:
                skip_to = self._think(tag)
                continue
            if tag.start() < self.begin:
                continue
            if not tag[1]:
                self._opened[tag[2]] = len(self._tags)
            self._tags.append(tag)
            if tag[1]:
                found = self._use_in_reasoning(tag) if self.thinking else self._use(tag)
                if found is not None:
                    return found
        return None

    def _think(self, tag: re.Match[str]) -> int:
        """Process a reasoning mark. Returns the offset up to which tags are mentions."""
        if tag[1]:
            if self.thinking and tag[0] == self._mark:
                self.thinking = False
                self._forget()
            return 0
        if not self.thinking:
            self.thinking, self._thinking_since = True, tag.end()
            self._mark = f"{tag[0][0]}/{tag[0][1:]}"
            return 0
        named = _NAMES_THE_MARKS.match(self.text, tag.start()) if self._has_thought(tag) else None
        if self._tags and self._stands_right_behind(self._tags[-1], tag):  # inside a call, which is malformed
            named = _ANY_PAIR_OF_MARKS.match(self.text, tag.start())
        return named.end() if named else 0

    def _has_thought(self, tag: re.Match[str]) -> bool:
        return bool(self.text[self._thinking_since : tag.start()].strip())

    def _use_in_reasoning(self, closing: re.Match[str]) -> Use | None:
        name = closing[2]
        at = self._opened.get(name)
        if name == "answer" or at is None or self._is_mentioned(self._tags[at]):
            return None
        opening = self._tags[at]
        inner = self.text[opening.end() : closing.start()]
        if _TAG.match(inner.lstrip()) or (at and self._stands_right_behind(self._tags[at - 1], opening)):
            return self._found(opening, closing, _tags_inside(name))
        if _TAG.search(inner) or not _names_something(name, inner) or _JOINS_THE_TAGS.match(inner):
            return None
        return self._found(opening, closing, _problem_of_pair(name, inner))

    def _use(self, closing: re.Match[str]) -> Use | None:
        name, tags = closing[2], self._tags
        self._forget()
        match [(tag[2], not tag[1]) for tag in tags]:
            case [(opened, True), _] if opened == name:
                inner = self.text[tags[0].end() : closing.start()]
                if _squeezed(inner) in {*_PLACEHOLDERS[name], *_ELLIPSES}:
                    return None
                return self._found(tags[0], closing, _problem_of_pair(name, inner))
            case [_] if _is_quoted(self.text, closing.start()):
                return None
            case kinds:
                return self._found(tags[0], closing, _problem_of_tags(name, kinds))

    def _found(self, opening: re.Match[str], closing: re.Match[str], problem: str | None) -> Use:
        inner = self.text[opening.end() : closing.start()]
        return Use(closing[2], opening.start() - self.begin, inner, closing.end() - self.begin, problem)

    def _forget(self) -> None:
        self._tags, self._opened = [], {}

    def _stands_right_behind(self, opening: re.Match[str], tag: re.Match[str]) -> bool:
        return not opening[1] and not self.text[opening.end() : tag.start()].strip()

    def _is_mentioned(self, opening: re.Match[str]) -> bool:
        """Whether a pair that opens here is quoted or in a code block."""
        if self._fences is None:
            self._fences = [fence.start() for fence in re.finditer("```", self.text)]
        return _is_quoted(self.text, opening.start()) or bisect_left(self._fences, opening.start()) % 2 == 1

    def _is_in_quotes(self, tag: re.Match[str]) -> bool:
        """Whether an opening tag or a mark is quoted. False for closing tags, which count with their opening one: a stream ends right after them."""
        if tag[1] and tag[2] not in _MARKS:
            return False
        return _is_quoted(self.text, tag.start()) and self.text[tag.end() : tag.end() + 1] in tuple(_QUOTES)


def _is_quoted(text: str, start: int) -> bool:
    return start > 0 and text[start - 1] in _QUOTES


def _squeezed(text: str) -> str:
    return " ".join(text.split()).casefold()


def _names_something(name: str, inner: str) -> bool:
    return any(map(str.isalnum, inner)) and _squeezed(inner) not in _PLACEHOLDERS[name]


# Error messages for rejected pairs, which the model reads


def _tags_inside(name: str) -> str:
    return (
        "only the tool writes a frame: ask with retrieve, and it comes back" if name == "frame" else f"tags inside a {name}: write plain words in it"
    )


def _problem_of_tags(name: str, tags: Sequence[tuple[str, bool]]) -> str:
    if name == "frame":
        return _tags_inside(name)
    match tags:
        case [(opened, True), _]:
            return f"the call was opened as {opened} and closed as {name}: open and close it with the same tag"
        case [_]:
            return f"a closing {name} without an opening one: write both"
        case _:
            return f"tags inside a {name}: write one call at a time, with plain words in it"


def _problem_of_pair(name: str, inner: str) -> str | None:
    if name == "frame" or _TAG.search(inner):
        return _tags_inside(name)
    if not inner.strip():
        return f"an empty {name}: put words between its tags"
    if name != "answer" and len(inner) > MAX_QUERY_CHARACTERS:
        return f"the {name} has {len(inner):,} characters; at most {MAX_QUERY_CHARACTERS:,} are read: say it shorter"
    return None
