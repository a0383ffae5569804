"""Which lines of a transcript a query is about: rare words weigh more, and a few wrong letters are forgiven, as text read off a screen has them.

The score is lexical: words are compared, not meanings. It is calibrated: see `_CALIBRATION`.
"""

import itertools
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act2see.core.trace import Line

THRESHOLD = 0.45
"""Lines that score no more do not match: 1 in 23 queries about something else passes (`benchmarks/real_videos.py --calibrate`)."""
# Logistic regression on coverage and matched weight: intercept, and a factor for each. Fitted by the same script.
_CALIBRATION = (-5.78, 7.53, 2.15)

_MOST_MATCHED = 3.0
_OTHERS = 0.85
"""Weight of a word that is not in the line itself but in one beside it: said just before or after, or on the screen with it. Our choice."""
_NEXT_SECONDS = 3.0
"""Pause after which the next line is no longer the same passage. Our choice."""
_COMMON_WORDS = """
a an and any are as at be been being but by can could did do does for from had has have he her hers him his how i if in into is it its just me my
no not of off on onto or our out over she should so some than that the their them then there these they this those to too under until up us was
we were what when where which while who whom whose why will with would you your der die das und ist ein eine le la les un une et est el los las y
de
"""
_COMMON = frozenset(_COMMON_WORDS.split())
# How people point at words: what is said of the video, and not in it.
_FRAMING_WORDS = """
say says said saying tell tells told speak speaks spoken talk talks talking mention mentions mentioned ask asks asked explain explains explained
show shows shown showing read reads written write display displays displayed appear appears see seen moment part point scene frame video clip
screen slide text word words title caption sign page line about someone somebody person speaker man woman narrator voice
"""
_FRAMING = frozenset(_FRAMING_WORDS.split())
SAY_LITTLE = _COMMON | _FRAMING
_COMMON_WEIGHT, _FRAMING_WEIGHT = 0.03, 0.15
_TOKEN = re.compile(r"[^\W_]+")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
_LOOKS_LIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "j": "l", "5": "s", "8": "b", "6": "b", "9": "g", "q": "g"})
_SMALL_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
_SMALL = _SMALL_WORDS.split()
_NUMBERS = {word: number for number, word in enumerate(_SMALL)} | {
    word: 10 * number for number, word in enumerate(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}


def tokens_of(text: str) -> list[str]:
    """Words without case and accents; numbers in digits; scripts without spaces in pairs of letters."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).replace("%", " percent ")
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)|(?<=\w)['’](?=\w)", "", plain)
    found: list[str] = []
    for token in _TOKEN.findall(plain):
        if _WIDE.search(token) and len(token) > 1:
            found.extend(token[at : at + 2] for at in range(len(token) - 1))
        else:
            found.append(token)
    return _with_digits(found)


def _with_digits(tokens: Sequence[str]) -> list[str]:
    """`eighty four` becomes `84`, as speech recognition writes it."""
    found: list[str] = []
    total, current, last = 0, None, 0
    for token in [*tokens, ""]:
        number = _NUMBERS.get(token)
        if number is not None and (current is None or (last >= 20 and last % 10 == 0 and number < 10) or last == 100):
            current, last = (current or 0) + number, number
            continue
        if token in _SCALES and current is not None:
            if token == "hundred":
                current, last = current * 100, 100
            else:
                total, current, last = total + current * _SCALES[token], 0, 100
            continue
        if current is not None:
            found.append(str(total + current))
            total, current, last = 0, None, 0
        if number is not None:
            current, last = number, number
        elif token:
            found.append(token)
    return found


def _stem(token: str) -> str:
    """The word without a plural's or a verb's common English ending."""
    for ending, left in (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if token.endswith(ending) and len(token) - len(ending) + len(left) >= 3 and not token.endswith("ss"):
            token = token.removesuffix(ending) + left
            break
    return token.removesuffix("e") if len(token) > 3 else token


def calibrated(coverage: NDArray[np.float64], matched: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability that a line with these features is what the query is about."""
    intercept, slope, per_word = _CALIBRATION
    return np.asarray(1 / (1 + np.exp(-(intercept + slope * coverage + per_word * matched))))


@dataclass(frozen=True, slots=True)
class Hit:
    """A line and how well it fits a query, from 0 to 1."""

    line: Line
    score: float


class Matcher:
    """Searches the lines of one transcript, which must be in time order."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = tuple(lines)
        self._vocabulary: dict[str, int] = {}
        holds: list[set[int]] = []
        for number, line in enumerate(self.lines):
            for token in set(tokens_of(line.text)):
                at = self._vocabulary.setdefault(token, len(holds))
                if at == len(holds):
                    holds.append(set())
                holds[at].add(number)
        self._holds = [np.array(sorted(numbers), np.int64) for numbers in holds]
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_look: dict[str, list[str]] = defaultdict(list)
        self._by_pair: dict[str, list[str]] = defaultdict(list)
        for token in self._vocabulary:
            self._by_stem[_stem(token)].append(token)
            self._by_look[_look(token)].append(token)
            for pair in {token[at : at + 2] for at in range(len(token) - 1)}:
                self._by_pair[pair].append(token)
        self._packed = ["".join(tokens_of(line.text)) if _is_read(line) else "" for line in self.lines]

    def scores(self, query: str) -> NDArray[np.float64]:
        """How well each line fits the query, of shape (lines,): 0 where it has none of its words."""
        coverage, matched = self.features(query)
        return np.where(coverage > 0, calibrated(coverage, matched), 0.0)

    def features(self, query: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What `scores` rests on, each of shape (lines,): the share of the query's weight that a line has, and how much that is, at most 3."""
        words = list(dict.fromkeys(tokens_of(query)))
        coverage, matched = np.zeros(len(self.lines)), np.zeros(len(self.lines))
        if not words or not self.lines:
            return coverage, matched
        own = np.stack([self._similarity(word) for word in words], axis=1)
        weights = self._weights(words, own)
        found = np.flatnonzero((own * weights).any(axis=1))
        best = own[found].copy()
        for row, number in enumerate(found.tolist()):
            near = self._near(number)
            if near:
                best[row] = np.maximum(best[row], _OTHERS * own[near].max(axis=0))
        # A line is as good as its passage, but of the lines of a passage the one with most of the words is the evidence.
        coverage[found] = (0.95 * best + 0.05 * own[found]) @ weights / weights.sum()
        matched[found] = np.minimum(best @ weights, _MOST_MATCHED)
        return coverage, matched

    def find(self, query: str) -> list[Hit]:
        """The lines that have any word of the query, best first; ties in time order."""
        scores = self.scores(query)
        order = np.argsort(-scores, kind="stable")
        return [Hit(self.lines[at], float(scores[at])) for at in order.tolist() if scores[at] > 0]

    def _weights(self, words: Sequence[str], own: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each word of a query counts for: much if few lines have it, little if it is in every text or only points at the video."""
        count = len(self.lines)
        frequency = (own >= 0.8).sum(axis=0)
        rarity = np.log((count + 1) / (frequency + 1)) / math.log(count + 1)
        base = np.array(
            [_COMMON_WEIGHT if word in _COMMON else _FRAMING_WEIGHT if word in _FRAMING else min(1.0, 0.5 + len(word) / 12) for word in words]
        )
        return np.asarray(base * (0.5 + 0.5 * rarity))

    def _similarity(self, word: str) -> NDArray[np.float64]:
        """How much each line has of one word, from 0 to 1."""
        similar: dict[str, float] = {word: 1.0} if word in self._vocabulary else {}
        if not word.isdigit():
            for other in self._by_stem.get(_stem(word), ()):
                similar.setdefault(other, 0.95)
        if len(word) >= 4:
            for other in self._by_look.get(_look(word), ()):
                similar.setdefault(other, 0.9)
            if not word.isdigit():
                for other, value in self._fuzzy(word):
                    similar.setdefault(other, value)
        found = np.zeros(len(self.lines))
        for other, value in similar.items():
            rows = self._holds[self._vocabulary[other]]
            found[rows] = np.maximum(found[rows], value)
        if len(word) >= 6 or (len(word) >= 2 and _WIDE.search(word)):  # spaces on a screen are often lost, or found within words
            for number, packed in enumerate(self._packed):
                if packed and found[number] < 0.85 and word in packed:
                    found[number] = 0.85
        return found

    def _fuzzy(self, word: str) -> list[tuple[str, float]]:
        """Words of the vocabulary with a few other letters: one of four to seven, two of more."""
        most = 1 if len(word) < 8 else 2
        shared: dict[str, int] = defaultdict(int)
        for pair in {word[at : at + 2] for at in range(len(word) - 1)}:
            for other in self._by_pair.get(pair, ()):
                shared[other] += 1
        needed = max(1, len(word) - 1 - 2 * most - 1)
        close = []
        for other, count in shared.items():
            if count >= needed and abs(len(other) - len(word)) <= most and not other.isdigit() and (edits := _edits(word, other, most)) <= most:
                close.append((other, 0.95 - 1.2 * edits / len(word)))
        return close

    def _near(self, number: int) -> list[int]:
        """The lines of the same source that are on the screen with this one; of speech and subtitles those just before and after."""
        line = self.lines[number]
        near = []
        for step in (-1, 1):
            at = number + step
            while 0 <= at < len(self.lines) and abs(at - number) <= 80:
                other = self.lines[at]
                if other.source == line.source:
                    gap = max(other.start_seconds - line.stop_seconds, line.start_seconds - other.stop_seconds)
                    if gap < 0 if _is_read(line) else gap <= _NEXT_SECONDS:
                        near.append(at)
                    if not _is_read(line):
                        break
                at += step
        return near


def _is_read(line: Line) -> bool:
    return line.source.startswith("screen")


def _look(token: str) -> str:
    """The token with letters that look alike made equal."""
    return token.replace("rn", "m").replace("vv", "w").translate(_LOOKS_LIKE)


def _edits(one: str, other: str, most: int) -> int:
    """The number of letters to insert, delete, replace or swap; more than `most` may be any larger number."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        new = [number]
        for at, second in enumerate(other, 1):
            cost = min(row[at] + 1, new[-1] + 1, row[at - 1] + (letter != second))
            if number > 1 and at > 1 and letter == other[at - 2] and one[number - 2] == second:
                cost = min(cost, before[at - 2] + 1)
            new.append(cost)
        if min(new) > most:
            return most + 1
        before, row = row, new
    return row[-1]


def best_over_time(lines: Sequence[Line], scores: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """At each of these increasing times the best score of a line that is said or stands then, of shape (times,)."""
    best = np.zeros(len(seconds))
    for line, score in zip(lines, scores.tolist(), strict=True):
        if score > 0:
            first = max(0, int(np.searchsorted(seconds, line.start_seconds, side="right")) - 1)
            stop = max(first + 1, int(np.searchsorted(seconds, line.stop_seconds, side="left")))
            best[first:stop] = np.maximum(best[first:stop], score)
    return best


def around(lines: Sequence[Line], seconds: Sequence[float], within_seconds: float) -> list[Line]:
    """The lines that are said or stand within so many seconds of any of the times, in time order and each once."""
    times = np.sort(np.array(seconds, np.float64))
    chosen = []
    for line in lines:
        at = int(np.searchsorted(times, line.start_seconds - within_seconds))
        if at < len(times) and times[at] <= line.stop_seconds + within_seconds:
            chosen.append(line)
    return [line for line, _ in itertools.groupby(chosen)]
