"""Which lines fit a query: rare words, wrong letters, lost spaces, spoken numbers, and what is not there."""

import numpy as np
import pytest

from act2see.core.trace import Line
from act2see.video.transcript.lexicon import Lexicon, tokens_of
from act2see.video.transcript.matching import THRESHOLD, Matcher, around, best_over_time

SAID = [
    "Good morning everybody and welcome",
    "First let us look at the sales of last quarter",
    "They grew by 84% in the north",
    "The budget for the new laboratory is two million",
    "Then there is the question of hiring",
    "Thank you for your attention",
]
TALK = Matcher([Line(5.0 * at, 5.0 * at + 4, text, "speech:tiny") for at, text in enumerate(SAID)])
SCREEN = Matcher(
    [
        Line(0, 10, "Quarterly Resu1ts", "screen:ocr"),
        Line(0, 10, "revenue and costs", "screen:ocr"),
        Line(10, 20, "THANKSFORWATCHING", "screen:ocr"),
        Line(20, 30, "git cornmit --amend", "screen:ocr"),
    ]
)


@pytest.mark.parametrize(
    ("query", "right"),
    [
        ("where she mentions the budget", 3),
        ("laboratories", 3),
        ("growth of eighty four percent in the north", 2),
        ("hireing", 4),
        ("he thanks for the attention", 5),
    ],
)
def test_the_line_with_the_rare_words_is_best(query: str, right: int) -> None:
    best = TALK.find(query)[0]
    assert best.line.text == SAID[right]
    assert best.score > THRESHOLD


@pytest.mark.parametrize(
    ("query", "right"),
    [("quarterly results", 0), ("the screen says thanks for watching", 10), ("the commit is amended", 20), ("results of revenue and costs", 0)],
)
def test_what_was_read_wrongly_is_found(query: str, right: float) -> None:
    best = SCREEN.find(query)[0]
    assert (best.line.start_seconds, best.score > THRESHOLD) == (right, True)


@pytest.mark.parametrize(
    "query", ["a dog", "an elephant at the beach", "where he talks about football", "the moment with the guitar", "what is it", "?!"]
)
def test_what_is_not_there_does_not_pass(query: str) -> None:
    for matcher in (TALK, SCREEN):
        assert max((hit.score for hit in matcher.find(query)), default=0.0) <= THRESHOLD


def test_words_said_just_before_count_less_than_the_lines_own() -> None:
    passage = Matcher([Line(0, 2, "the budget", "speech:a"), Line(2, 4, "of the laboratory", "speech:a"), Line(30, 32, "the budget", "speech:a")])
    scores = passage.scores("laboratory budget")
    assert scores[0] > scores[2]
    assert scores[1] > scores[2]


def test_numbers_and_scripts_without_spaces() -> None:
    assert tokens_of("Eighty four of 1,200 cafés, two hundred and five") == ["84", "of", "1200", "cafes", "200", "and", "5"]
    assert tokens_of("nineteen ninety") == ["19", "90"]
    assert Matcher([Line(0, 1, "東京の天気予報", "subtitles:a")]).find("天気")[0].score > THRESHOLD


def test_a_score_is_between_0_and_1_and_an_empty_transcript_has_none() -> None:
    assert Matcher([]).scores("budget").shape == (0,)
    scores = TALK.scores("the budget of the laboratory")
    assert ((scores >= 0) & (scores <= 1)).all()


def test_lines_around_times_are_each_given_once() -> None:
    lines = [Line(0, 1, "a"), Line(4, 5, "b"), Line(5, 30, "c"), Line(40, 41, "d")]
    assert [line.text for line in around(lines, [6.0, 7.0, 20.0], 1.5)] == ["b", "c"]
    assert around(lines, [], 1.5) == []


@pytest.mark.parametrize("query", ["the budget", "hireing", "git commit", "thanks for watching", "eighty four percent", "football"])
def test_transcripts_that_share_a_lexicon_have_the_scores_that_each_has_alone(query: str) -> None:
    lexicon = Lexicon()
    shared = [Matcher(alone.lines, lexicon) for alone in (TALK, SCREEN)]
    assert np.array_equal(lexicon.similar("budget")[1], [1.0])
    for alone, together in zip((TALK, SCREEN), shared, strict=True):
        assert np.array_equal(alone.scores(query), together.scores(query))
    later = Matcher([Line(0, 1, "a budgte", "screen:ocr")], lexicon)  # a new word is similar to what was asked for before
    assert later.find("budget")[0].score > 0


@pytest.mark.parametrize("seed", range(5))
def test_scores_over_time_are_the_best_of_the_lines_that_stand_then(seed: int) -> None:
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.uniform(0, 50, 40))
    lines = [Line(float(at), float(at + rng.exponential(6)), "a", "screen:ocr") for at in starts]
    scores = np.where(rng.random(40) < 0.3, 0.0, rng.random(40))
    seconds = np.sort(rng.uniform(0, 60, 150))
    expected = np.zeros(150)
    for line, score in zip(lines, scores, strict=True):
        first = max(0, int(np.searchsorted(seconds, line.start_seconds, side="right")) - 1)
        stop = max(first + 1, int(np.searchsorted(seconds, line.stop_seconds)))
        expected[first:stop] = np.maximum(expected[first:stop], score)
    assert np.array_equal(best_over_time(lines, scores, seconds), expected)
