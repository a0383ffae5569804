"""What a query to a hot index of many hours of words costs: lines in memory, as after a first query.

    python benchmarks/many_hours.py [--hours 100] [--queries 200] [--seed 0]

The lines are generated: words that occur as often as in natural text (Zipf's law), said every 3.6 s, and in every second hour text on a screen, four
lines at a time. Queries take one to four words of a line; every second one misspells a word, or asks for words that are nowhere. Two cases: one
video of so many hours, and so many videos of an hour each.
"""

import argparse
import json
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

from act2see.core.trace import Line
from act2see.video.transcript.lexicon import Lexicon
from act2see.video.transcript.matching import Matcher, best_over_time

VOCABULARY = 40_000
LINE_SECONDS, SCREEN_SECONDS, SCREEN_LINES = 3.6, 15.0, 4


def words(rng: random.Random) -> list[str]:
    """Words of two to four syllables, the most frequent first."""
    syllables = [a + b for a in "bcdfglmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "ist", "or")]
    found: dict[str, None] = {}
    while len(found) < VOCABULARY:
        found["".join(rng.choices(syllables, k=rng.choice((2, 2, 3, 3, 4))))] = None
    return list(found)


def hour(rng: random.Random, vocabulary: Sequence[str], weights: Sequence[float], *, with_screen: bool) -> list[Line]:
    """The lines of an hour, in time order."""

    def text() -> str:
        return " ".join(rng.choices(vocabulary, cum_weights=weights, k=rng.randint(4, 12)))

    lines = [Line(at, at + LINE_SECONDS - 0.4, text(), "speech:base") for at in np.arange(0, 3600, LINE_SECONDS).tolist()]
    if with_screen:
        times = np.arange(0, 3600, SCREEN_SECONDS).tolist()
        lines += [Line(at, at + SCREEN_SECONDS, text(), "screen:rapidocr") for at in times for _ in range(SCREEN_LINES)]
    return sorted(lines, key=lambda line: line.start_seconds)


def query(rng: random.Random, lines: Sequence[Line], kind: str) -> str:
    """A query of one to four words."""
    chosen = rng.sample(said := rng.choice(lines).text.split(), min(len(said), rng.randint(1, 4)))
    if kind == "misspelt":
        at = rng.randrange(len(chosen[0]))
        chosen[0] = chosen[0][:at] + rng.choice("aeiou") + chosen[0][at + 1 :]
    if kind == "absent":
        chosen = ["".join(rng.choices("qxzkjhy", k=7)) for _ in chosen]
    return f"where she mentions {' '.join(chosen)}"


def measure(name: str, matchers: Sequence[Matcher], asked: Sequence[str]) -> None:
    """Print milliseconds of CPU for a query to all of them, up to the best line's scores over time."""
    spent = []
    for text in asked:
        begun = time.process_time()
        for matcher in matchers:
            matcher.scores(text)
        spent.append(1000 * (time.process_time() - begun))
    cuts = statistics.quantiles(spent, n=20)
    print(
        json.dumps({"case": name, "queries": len(asked), "median_ms": round(statistics.median(spent), 2), "p95_ms": round(cuts[18], 2)}), flush=True
    )


def timed(make: Callable[[], list[Matcher]]) -> list[Matcher]:
    """Matchers, and what they cost."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    made = make()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"matchers": len(made), "cpu_seconds": round(time.process_time() - begun, 2), "mebibytes": round(grown)}), flush=True)
    return made


def main() -> None:
    """Measure both cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=100)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    vocabulary = words(rng)
    weights = list(accumulate(1 / (rank + 3) for rank in range(VOCABULARY)))
    hours = [hour(rng, vocabulary, weights, with_screen=number % 2 == 1) for number in range(options.hours)]
    whole = [Line(3600 * n + one.start_seconds, 3600 * n + one.stop_seconds, one.text, one.source) for n, part in enumerate(hours) for one in part]
    kinds = ("present", "misspelt", "present", "absent")
    asked = [query(rng, whole, kinds[number % 4]) for number in range(options.queries)]
    print(json.dumps({"hours": options.hours, "lines": len(whole), "seed": options.seed}), flush=True)
    one = timed(lambda: [Matcher(whole)])
    measure("one video", one, asked)
    seconds = np.arange(0, 3600 * options.hours, 1 / 3)
    begun = time.process_time()
    for text in asked[:20]:
        best_over_time(whole, one[0].scores(text), seconds)
    print(json.dumps({"case": "one video, with its curve at 3 fps", "mean_ms": round(50 * (time.process_time() - begun), 2)}), flush=True)
    lexicon = Lexicon()
    measure("videos of an hour", timed(lambda: [Matcher(part, lexicon) for part in hours]), asked)


if __name__ == "__main__":
    main()
