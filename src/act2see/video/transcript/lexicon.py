"""The words of transcripts, and which of them are similar to a query's: by their endings, by letters that look alike, and with wrong letters."""

import re
import threading
import unicodedata
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_TOKEN = re.compile(r"[^\W_]+")
WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")
_LOOKS_LIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "j": "l", "5": "s", "8": "b", "6": "b", "9": "g", "q": "g"})
_SMALL_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
_SMALL = _SMALL_WORDS.split()
_NUMBERS = {word: number for number, word in enumerate(_SMALL)} | {
    word: 10 * number for number, word in enumerate(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2)
}
_NO_LENGTH = -99
_QUERY_WORDS_KEPT = 1000
_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}


def tokens_of(text: str) -> list[str]:
    """Words without case and accents; numbers in digits; scripts without spaces in pairs of letters."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).replace("%", " percent ")
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)|(?<=\w)['’](?=\w)", "", plain)
    found: list[str] = []
    for token in _TOKEN.findall(plain):
        if WIDE.search(token) and len(token) > 1:
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


class Lexicon:
    """Numbers for words, which several transcripts share: what is similar to a query's word is then looked up once for all of them.

    Safe for several threads. It only grows.
    """

    def __init__(self) -> None:
        self._adding = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._words: list[str] = []
        self._by_stem: dict[str, list[int]] = {}
        self._by_look: dict[str, list[int]] = {}
        self._by_pair: dict[str, array[int]] = {}
        self._lengths: array[int] = array("i")  # of numbers a length that no word has: they are not similar to anything
        self._letters: array[int] = array("q")  # a bit for each letter that a word has
        self._similar: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def __len__(self) -> int:
        return len(self._words)

    def numbers(self, words: Iterable[str]) -> list[int]:
        """Each word's number; new words get one."""
        with self._adding:
            return [number if (number := self._numbers.get(word)) is not None else self._add(word) for word in words]

    def _add(self, word: str) -> int:
        number = self._numbers[word] = len(self._words)
        self._words.append(word)
        self._by_stem.setdefault(_stem(word), []).append(number)
        self._by_look.setdefault(_look(word), []).append(number)
        for pair in {word[at : at + 2] for at in range(len(word) - 1)}:
            self._by_pair.setdefault(pair, array("i")).append(number)
        self._lengths.append(_NO_LENGTH if word.isdigit() else len(word))
        self._letters.append(_letters(word))
        self._similar.clear()
        return number

    def similar(self, word: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The numbers of similar words, increasing, and how similar each is, from 0 to 1."""
        found = self._similar.get(word)
        if found is None:
            with self._adding:
                items = sorted(self._look_up(word).items())
                found = np.array([number for number, _ in items], np.int64), np.array([value for _, value in items], np.float64)
                if len(self._similar) >= _QUERY_WORDS_KEPT:
                    self._similar.clear()
                self._similar[word] = found
        return found

    def _look_up(self, word: str) -> dict[int, float]:
        similar: dict[int, float] = {self._numbers[word]: 1.0} if word in self._numbers else {}
        if not word.isdigit():
            for other in self._by_stem.get(_stem(word), ()):
                similar.setdefault(other, 0.95)
        if len(word) >= 4:
            for other in self._by_look.get(_look(word), ()):
                similar.setdefault(other, 0.9)
            if not word.isdigit():
                for other, value in self._fuzzy(word):
                    similar.setdefault(other, value)
        return similar

    def _fuzzy(self, word: str) -> list[tuple[int, float]]:
        """Words with a few other letters: one of four to seven, two of more."""
        most = 1 if len(word) < 8 else 2
        pairs = {word[at : at + 2] for at in range(len(word) - 1)}
        sharing = [np.array(self._by_pair[pair]) for pair in sorted(pairs) if pair in self._by_pair]
        if not sharing:
            return []
        needed = max(1, len(word) - 1 - 2 * most - 1)
        near = np.flatnonzero(np.bincount(np.concatenate(sharing)) >= needed)
        near = near[np.abs(np.array(self._lengths)[near] - len(word)) <= most]
        # Each edit takes at most one letter away and brings another.
        near = near[np.bitwise_count(np.array(self._letters)[near] ^ _letters(word)) <= 2 * most]
        edits = _edits(word, [self._words[number] for number in near.tolist()], most)
        return [(number, 0.95 - 1.2 * count / len(word)) for number, count in zip(near.tolist(), edits.tolist(), strict=True) if count <= most]


def _letters(word: str) -> int:
    bits = 0
    for letter in word:
        bits |= 1 << ord(letter) % 61
    return bits


def _look(token: str) -> str:
    """The token with letters that look alike made equal."""
    return token.replace("rn", "m").replace("vv", "w").translate(_LOOKS_LIKE)


def _edits(word: str, others: Sequence[str], most: int) -> NDArray[np.int64]:
    """The number of letters to insert, delete, replace or swap to get each of the others; more than `most` may be any larger number.

    The others are at most `most` letters shorter or longer.
    """
    width = len(word) + most
    letters = np.array(others, f"<U{width}").view(np.uint32).reshape(len(others), width)
    codes = [ord(letter) for letter in word]
    far = np.full(len(others), most + 1)
    before: list[NDArray[np.int64]] = []
    row = [np.full(len(others), min(at, most + 1)) for at in range(width + 1)]
    for number, code in enumerate(codes, 1):
        new = [far] * (width + 1)
        # Further from the diagonal there are more than `most` letters too few or too many.
        for at in range(max(0, number - most), min(width, number + most) + 1):
            if at == 0:
                new[0] = np.full(len(others), number)
                continue
            cost = np.minimum(np.minimum(row[at], new[at - 1]) + 1, row[at - 1] + (letters[:, at - 1] != code))
            if number > 1 and at > 1:
                is_swapped = (letters[:, at - 2] == code) & (letters[:, at - 1] == codes[number - 2])
                cost = np.where(is_swapped, np.minimum(cost, before[at - 2] + 1), cost)
            new[at] = cost
        before, row = row, new
    lengths = [len(other) for other in others]
    return np.stack(row)[lengths, np.arange(len(others))]
