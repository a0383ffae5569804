"""Calibrates the score of `act2see.video.transcript.matching` on texts that every Python has: the docstrings of its standard library.

A module is a "talk": its sentences are lines, some with letters read wrongly and spaces lost. Present queries take one to four words of a line, and
up to as many of another talk, as a person does who remembers a passage in other words. Absent queries take the words of another talk, of which the
video may have half. Modules of the test split are never fitted to.
"""

import contextlib
import importlib
import inspect
import io
import random
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act2see.core.trace import Line
from act2see.video.transcript import matching
from act2see.video.transcript.matching import Matcher, tokens_of

MODULES = {
    "calibration": "argparse ast asyncio bisect calendar collections configparser contextlib csv dataclasses datetime difflib email enum fractions "
    "functools gettext glob gzip heapq html imaplib",
    "test": "inspect ipaddress itertools json logging mailbox mimetypes netrc optparse pathlib pickle platform plistlib pprint queue random sched "
    "shelve shutil smtplib socketserver sqlite3 statistics string tarfile tempfile textwrap threading timeit tokenize trace turtle unittest wave "
    "weakref zipfile",
}
TEMPLATES = ("where she mentions {}", "the slide about {}", "{}", "when he talks about {}", "the screen says {}", "the part on {}", "a {}")
QUERIES = 25
"""Present and absent ones of each module."""
MAX_FALSE_ALARMS = 0.045
"""Share of absent queries that may pass on the calibration split, below 1 in 20 because the test split differs."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query about one talk, and which line it was made of; None for an absent one."""

    text: str
    words: tuple[str, ...]
    line: int | None
    lines: Sequence[str]
    coverage: NDArray[np.float64]
    matched: NDArray[np.float64]

    def best(self, score: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]) -> tuple[int, float]:
        """The best line and its score."""
        scores = np.where(self.coverage > 0, score(self.coverage, self.matched), 0.0)
        return int(scores.argmax()), float(scores.max())

    def is_right(self, at: int) -> bool:
        """Whether a line is the query's, one beside it, or has all of its words."""
        return self.line is not None and (abs(at - self.line) <= 1 or set(self.words) <= set(tokens_of(self.lines[at])))


def sentences(name: str) -> list[str]:
    """The first 150 lines of a module's documentation."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        module = importlib.import_module(name)
    documented = [one for key, one in sorted(vars(module).items()) if not key.startswith("_") and (inspect.isclass(one) or inspect.isfunction(one))]
    texts = [inspect.getdoc(module), *(inspect.getdoc(one) for one in documented if str(getattr(one, "__module__", "")).startswith(name))]
    parts = [" ".join(part.split()) for text in texts for part in re.split(r"(?<=[.!?])\s+|\n\n", text or "")]
    lines = [line for part in parts for line in textwrap.wrap(part, 60)]
    return [line for line in lines if sum(token.isalpha() for token in tokens_of(line)) >= 5][:150]


def queries(split: str, seed: int) -> list[Query]:
    """Present and absent queries of a split's modules."""
    rng = random.Random(seed)
    talks = {name: lines for name in MODULES[split].split() if len(lines := sentences(name)) >= 20}
    found = []
    for name, lines in talks.items():
        source, errors = rng.choice((("speech:a", 0.01), ("screen:a", 0.03)))
        matcher = Matcher([Line(4.0 * at, 4.0 * at + 3.5, _garbled(line, rng, errors), source) for at, line in enumerate(lines)])
        vocabulary = {token for line in lines for token in tokens_of(line)}
        others = [other for other in talks if other != name]
        for _ in range(QUERIES):
            at, words = _drawn(lines, rng, lambda words: True)
            _, strange = _drawn(talks[rng.choice(others)], rng, lambda words: True)
            shown = [*words, *strange[: min(len(words), rng.choice((0, 0, 1, 1, 2)))]]
            found.append(_query(matcher, rng, lines, at, words, shown))
            of_others = talks[rng.choice(others)]
            _, words = _drawn(of_others, rng, lambda words, known=vocabulary: sum(word in known for word in words) <= len(words) // 2)
            found.append(_query(matcher, rng, lines, None, words, words))
    return found


def _query(matcher: Matcher, rng: random.Random, lines: Sequence[str], at: int | None, words: Sequence[str], shown: Sequence[str]) -> Query:
    text = rng.choice(TEMPLATES).format(" ".join(shown))
    return Query(text, tuple(words), at, lines, *matcher.features(text))


def _drawn(lines: Sequence[str], rng: random.Random, accepts: Callable[[Sequence[str]], bool]) -> tuple[int, list[str]]:
    """One to four words of a line that say something, in their order."""
    while True:
        at = rng.randrange(len(lines))
        said = [word for word in dict.fromkeys(tokens_of(lines[at])) if len(word) > 2 and word.isalpha() and word not in matching.SAY_LITTLE]
        count = min(len(said), rng.choice((1, 2, 2, 3, 3, 4)))
        words = sorted(rng.sample(said, count), key=said.index)
        if words and accepts(words):
            return at, words


def _garbled(text: str, rng: random.Random, errors: float) -> str:
    wrong = [rng.choice("ocnlitse") if letter.isalpha() and rng.random() < errors else letter for letter in text]
    return "".join(letter for letter in wrong if letter != " " or rng.random() >= errors)


def fit(drawn: Sequence[Query]) -> tuple[float, float, float]:
    """Logistic regression of whether the best line is right, by Newton's method; the best line depends on the fit, so it is repeated."""
    weights = np.array([-6.0, 8.0, 1.0])
    for _ in range(5):

        def score(coverage: NDArray[np.float64], matched: NDArray[np.float64], now: NDArray[np.float64] = weights) -> NDArray[np.float64]:
            return np.asarray(1 / (1 + np.exp(-(now[0] + now[1] * coverage + now[2] * matched))))

        best = [(query, *query.best(score)) for query in drawn]
        rows = np.array([(1.0, query.coverage[at], query.matched[at]) for query, at, value in best if value > 0])
        labels = np.array([float(query.is_right(at)) for query, at, value in best if value > 0])
        for _ in range(50):
            p = 1 / (1 + np.exp(-rows @ weights))
            weights = weights + np.linalg.solve((rows.T * (p * (1 - p))) @ rows + 1e-3 * np.eye(3), rows.T @ (labels - p) - 1e-3 * weights)
    return float(weights[0]), float(weights[1]), float(weights[2])


def calibrate() -> None:
    """Print the fit, the threshold, and what they give on the test split."""
    ours = queries("calibration", 0)
    print(f"{len(ours)} queries of the calibration split: _CALIBRATION = {tuple(round(one, 2) for one in fit(ours))}, now {matching._CALIBRATION}")
    absent = sorted(query.best(matching.calibrated)[1] for query in ours if query.line is None)
    print(f"threshold with {MAX_FALSE_ALARMS:.1%} false alarms: {absent[int((1 - MAX_FALSE_ALARMS) * len(absent))]:.3f}, now {matching.THRESHOLD}")
    for name, drawn in (("calibration", ours), ("test", queries("test", 1))):
        best = [(query, *query.best(matching.calibrated)) for query in drawn]
        present = [(query.is_right(at), value) for query, at, value in best if query.line is not None]
        alarms = [value > matching.THRESHOLD for query, _, value in best if query.line is None]
        right = np.mean([is_right and value > matching.THRESHOLD for is_right, value in present])
        wrong = np.mean([not is_right and value > matching.THRESHOLD for is_right, value in present])
        print(f"{name}: {len(present)} present: {right:.1%} right, {wrong:.1%} wrong; {len(alarms)} absent: {np.mean(alarms):.1%} false alarms")
        for low in np.arange(0, 1, 0.2):
            inside = [query.is_right(at) for query, at, value in best if low <= value < low + 0.2]
            print(f"  score {low:.1f} to {low + 0.2:.1f}: {np.mean(inside or [0]):.0%} right of {len(inside)}")
