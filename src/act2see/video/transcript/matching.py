"""Which lines of a transcript a query is about: rare words weigh more, and a few wrong letters are forgiven, as text read off a screen has them.

The score is lexical: words are compared, not meanings. It is calibrated: see `_CALIBRATION`.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act2see.core.trace import Line
from act2see.video.transcript.lexicon import WIDE, Lexicon, tokens_of

THRESHOLD = 0.45
"""Lines that score no more do not match: 1 in 23 queries about something else passes (`benchmarks/real_videos.py --calibrate`)."""
# Logistic regression on coverage and matched weight: intercept, and a factor for each. Fitted by the same script.
_CALIBRATION = (-5.78, 7.53, 2.15)

_MOST_MATCHED = 3.0
_OTHERS = 0.85
"""Weight of a word that is not in the line itself but in one beside it: said just before or after, or on the screen with it. Our choice."""
_PACKED = 0.85
"""Weight of a word that a line on a screen has across its spaces. Our choice."""
_NEXT_LINES = 80
"""How many lines apart lines may be that are beside each other. Our choice."""
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
    """Searches the lines of one transcript, which must be in time order. A lexicon may be shared by several, which makes searching them faster."""

    def __init__(self, lines: Sequence[Line], lexicon: Lexicon | None = None) -> None:
        self.lines = tuple(lines)
        self._lexicon = Lexicon() if lexicon is None else lexicon
        words = [tokens_of(line.text) for line in self.lines]
        counts = [len(of_line) for of_line in words]
        numbers = np.array(self._lexicon.numbers(word for of_line in words for word in of_line), np.int64)
        pairs = np.unique(numbers * max(1, len(words)) + np.repeat(np.arange(len(words)), counts))
        self._rows = (pairs % max(1, len(words))).astype(np.int32)  # the lines of each word, one word after the other
        self._words, starts = np.unique(pairs // max(1, len(words)), return_index=True)
        self._starts = np.append(starts, len(pairs))
        is_read = [_is_read(line) for line in self.lines]
        packed = ["".join(of_line) for of_line, one in zip(words, is_read, strict=True) if one]
        self._packed = "\n".join(packed)
        self._packed_stops = np.cumsum([len(text) + 1 for text in packed])
        self._packed_lines = np.flatnonzero(is_read)
        self._near_starts, self._near = _neighbours(self.lines, is_read)

    def scores(self, query: str) -> NDArray[np.float64]:
        """How well each line fits the query, of shape (lines,): 0 where it has none of its words."""
        coverage, matched = self.features(query)
        found = np.flatnonzero(coverage)
        scores = np.zeros(len(coverage))
        scores[found] = calibrated(coverage[found], matched[found])
        return scores

    def features(self, query: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What `scores` rests on, each of shape (lines,): the share of the query's weight that a line has, and how much that is, at most 3."""
        words, base = _asked(query)
        coverage, matched = np.zeros(len(self.lines)), np.zeros(len(self.lines))
        if not words or not self.lines:
            return coverage, matched
        similar = self._similarity(words)
        weights = self._weights(base, similar)
        found = np.flatnonzero(similar.any(axis=0))
        own = similar[:, found]
        best = np.maximum(own, _OTHERS * self._beside(similar)[:, found])
        # A line is as good as its passage, but of the lines of a passage the one with most of the words is the evidence.
        coverage[found] = weights @ (0.95 * best + 0.05 * own) / weights.sum()
        matched[found] = np.minimum(weights @ best, _MOST_MATCHED)
        return coverage, matched

    def find(self, query: str) -> list[Hit]:
        """The lines that have any word of the query, best first; ties in time order."""
        scores = self.scores(query)
        order = np.argsort(-scores, kind="stable")
        return [Hit(self.lines[at], float(scores[at])) for at in order.tolist() if scores[at] > 0]

    def _weights(self, base: NDArray[np.float64], similar: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each word of a query counts for: much if few lines have it, little if it is in every text or only points at the video."""
        count = len(self.lines)
        frequency = np.count_nonzero(similar >= 0.8, axis=1)
        rarity = np.log((count + 1) / (frequency + 1)) / math.log(count + 1)
        return np.asarray(base * (0.5 + 0.5 * rarity))

    def _similarity(self, words: Sequence[str]) -> NDArray[np.float64]:
        """How much each line has of each word, from 0 to 1, of shape (words, lines)."""
        found = np.zeros((len(words), len(self.lines)))
        similar = [self._lexicon.similar(word) for word in words]
        numbers = np.concatenate([numbers for numbers, _ in similar])
        places = np.searchsorted(self._words, numbers)
        here = np.flatnonzero(np.append(self._words, -1)[places] == numbers)
        places, values = places[here], np.concatenate([values for _, values in similar])[here]
        of_word = np.repeat(np.arange(len(words)), [len(numbers) for numbers, _ in similar])[here]
        chosen, counts = _ranges(self._starts, places)
        np.maximum.at(found.reshape(-1), np.repeat(of_word * len(self.lines), counts) + self._rows[chosen], np.repeat(values, counts))
        for word, of_word_found in zip(words, found, strict=True):
            if self._packed and (
                len(word) >= 6 or (len(word) >= 2 and WIDE.search(word))
            ):  # spaces on a screen are often lost, or found within words
                rows = self._packed_rows(word)
                of_word_found[rows] = np.maximum(of_word_found[rows], _PACKED)
        return found

    def _packed_rows(self, word: str) -> NDArray[np.int64]:
        """The lines on a screen that have a word if their spaces are left out."""
        places = []
        at = self._packed.find(word)
        while at >= 0:
            places.append(at)
            at = self._packed.find(word, at + len(word))
        return self._packed_lines[np.unique(np.searchsorted(self._packed_stops, places, side="right"))]

    def _beside(self, similar: NDArray[np.float64]) -> NDArray[np.float64]:
        """How much the lines beside each line have of each word, of shape (words, lines)."""
        found = np.zeros_like(similar)
        places = np.flatnonzero(similar)
        rows = places % len(self.lines)
        chosen, counts = _ranges(self._near_starts, rows)
        np.maximum.at(found.reshape(-1), np.repeat(places - rows, counts) + self._near[chosen], np.repeat(similar.reshape(-1)[places], counts))
        return found


def _ranges(starts: NDArray[np.int64], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers from `starts[place]` up to `starts[place + 1]` for each place, one range after the other, and how many each has."""
    begins = starts[places]
    counts = starts[places + 1] - begins
    return np.arange(counts.sum()) + np.repeat(begins - np.cumsum(counts) + counts, counts), counts


@functools.lru_cache(maxsize=64)
def _asked(query: str) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The words of a query, each once, and what each counts for before it is known how rare it is."""
    words = tuple(dict.fromkeys(tokens_of(query)))
    base = [_COMMON_WEIGHT if word in _COMMON else _FRAMING_WEIGHT if word in _FRAMING else min(1.0, 0.5 + len(word) / 12) for word in words]
    return words, np.array(base)


def _neighbours(lines: Sequence[Line], is_read: Sequence[bool]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The lines beside each line: those of the same source that are on the screen with it; of speech and subtitles those just before and after.

    The second array has them, one line's after the other's; the first, of shape (lines + 1,), says where each line's begin.
    """
    count = len(lines)
    starts, stops = (np.array([getattr(line, end) for line in lines], np.float64) for end in ("start_seconds", "stop_seconds"))
    known: dict[str, int] = {}
    sources = np.array([known.setdefault(line.source, len(known)) for line in lines], np.int32)
    on_screen = np.array(is_read, bool)
    is_next_known = on_screen.copy()  # of speech and subtitles only the next line of the source counts
    befores, afters = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for step in range(1, min(_NEXT_LINES + 1, count)):
        before, after = slice(0, count - step), slice(step, count)
        same = sources[before] == sources[after]
        gap = np.maximum(starts[after] - stops[before], starts[before] - stops[after])
        near = np.where(on_screen[before], gap < 0, ~is_next_known[before] & (gap <= _NEXT_SECONDS)) & same
        is_next_known[before] |= same
        rows = np.flatnonzero(near).astype(np.int32)
        befores.append(rows)
        afters.append(rows + np.int32(step))
    of, near = np.concatenate([*befores, *afters]), np.concatenate([*afters, *befores])
    return np.searchsorted(np.sort(of), np.arange(count + 1)), near[np.argsort(of, kind="stable")]


def _is_read(line: Line) -> bool:
    return line.source.startswith("screen")


def best_over_time(lines: Sequence[Line], scores: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """At each of these increasing times the best score of a line that is said or stands then, of shape (times,)."""
    best = np.zeros(len(seconds))
    chosen = np.flatnonzero(scores)
    if not len(chosen) or not len(seconds):
        return best
    ours = scores[chosen]
    starts, stops = (np.array([getattr(lines[at], end) for at in chosen.tolist()], np.float64) for end in ("start_seconds", "stop_seconds"))
    first = np.maximum(0, np.searchsorted(seconds, starts, side="right") - 1)
    stop = np.maximum(first + 1, np.searchsorted(seconds, stops, side="left"))
    # Two runs of 2 ** level times cover a line's times; from the longest runs down, each passes its best to its two halves.
    levels = np.frexp(stop - first)[1] - 1
    for level in range(int(levels.max()), -1, -1):
        length = 1 << level
        now = levels == level
        np.maximum.at(best, first[now], ours[now])
        np.maximum.at(best, stop[now] - length, ours[now])
        if level:
            half = length >> 1
            best[half:] = np.maximum(best[half:], best[:-half])
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
