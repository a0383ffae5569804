"""The official figures of a run: what each scorer is given, its own denominators, and what guessing gets."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from act2see import registry
from act2see.benchmarks.official.baselines import official_baselines
from act2see.benchmarks.official.report import official_score, official_summary
from act2see.benchmarks.official.rules import RULES, Answered, Figures, items_of_three
from act2see.benchmarks.official.verdict import Verdict
from act2see.config import EvalConfig
from act2see.core.chat import letters
from act2see.core.interfaces import Sample
from made_up_sets import MAKERS, answered

CLIP = Path("clip.mp4")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Sample]]:
    """The questions of each made-up data set that has an official rule."""
    root = tmp_path_factory.mktemp("made-up")
    for name in RULES:
        MAKERS[name](root / name)
    return {name: list(registry.data_set(name, EvalConfig(data=root / name)).samples()) for name in RULES}


def right(sample: Sample) -> str:
    return letters(26)[sample.choices.index(sample.answer)] if sample.choices else sample.answer


def asked(samples: Sequence[Sample], *answers: str | None) -> list[Answered]:
    """Each question with an answer; None is a trace without one."""
    return [(sample, answered(sample.id, text, sample.choices)) for sample, text in zip(samples, answers, strict=True)]


def choice(id: str, answer: str, kind: str = "task", *groups: str) -> Sample:
    return Sample(id, CLIP, "Which?", ("red", "green", "blue", "white", "grey"), answer, kind, groups)


@pytest.mark.parametrize("name", RULES)
def test_a_perfect_model_is_right_by_every_official_rule(made_up: dict[str, list[Sample]], name: str) -> None:
    samples = made_up[name]
    everything = asked(samples, *map(right, samples))
    verdicts = [RULES[name].judge(*one) for one in everything]
    empty = [one for one in samples if one.answer == "[]"]  # two empty lists: the original divides by zero and drops the item
    assert [verdict.outcome for verdict in verdicts].count("excluded") == len(empty)
    assert {verdict.share for verdict in verdicts} <= {1.0, None}
    figures = RULES[name].figures(everything)
    if name == "egonormia":  # what is dropped was counted in part already: more than all are right
        assert (figures.n, figures.left_out, figures.accuracy) == (18, 2, round(20 / 18, 4))
    else:
        assert (figures.accuracy, figures.left_out) == (1.0, 0)
        assert set(figures.by.values()) == {1.0}


@pytest.mark.parametrize("name", RULES)
def test_a_model_without_an_answer_is_right_by_none(made_up: dict[str, list[Sample]], name: str) -> None:
    nothing = [(sample, None) for sample in made_up[name]]
    figures = RULES[name].figures(nothing)
    expected = {"video-mme": None, "egonormia": None, "minerva": 0.2}  # not counted, not counted, drawn
    assert figures.accuracy == expected.get(name, 0.0)
    assert (figures.n == 0) == (expected.get(name, 0.0) is None)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("video-mme", ["C", "C", "", "a blue one"]),
        ("videoespresso", ["(C)", "(C)", "", "a blue one"]),
        ("vitib", ["Answer: C", "Answer: C", "", "a blue one"]),
        ("causalvqa", ["Your Answer Letter: C END", "Your Answer Letter: C END", "", "a blue one"]),
        ("minerva", ["Answer: C", "Answer: C", "", "a blue one"]),
        ("vcr-bench", ["C", "C", "", "a blue one"]),
        ("egonormia", ["3", "3", "", "a blue one"]),
    ],
)
def test_what_a_scorer_is_given(name: str, given: list[str]) -> None:
    answers = ["c.", "blue", None, "a blue one"]
    assert [RULES[name].output(*one) for one in asked([choice("q/1", "blue")] * 4, *answers)] == given
    assert RULES[name].output(choice("q/1", "blue"), None) == ""


def test_words_before_an_answer_are_never_given_to_a_scorer() -> None:
    trace = answered("q", "C")
    assert RULES["video-mme"].output(choice("q", "blue"), trace) == "C"
    assert RULES["videoespresso"].judge(choice("q", "blue"), answered("q", "A blue one")) == Verdict("A", "wrong", 0.0)


def test_where_two_choices_say_the_same_either_is_right() -> None:
    twice = Sample("q", CLIP, "Which?", ("red", "blue", "blue"), "blue", "task")
    for name in ("video-mme", "videoespresso", "vitib", "minerva", "causalvqa"):
        assert [RULES[name].judge(twice, answered("q", letter)).outcome for letter in "ABC"] == ["wrong", "correct", "correct"]


def test_an_answer_that_is_kept_by_the_makers_is_not_judged() -> None:
    kept = Sample("q/1", CLIP, "Which?", ("red", "blue"), "", "task")
    assert RULES["causalvqa"].judge(kept, answered("q", "A")) == Verdict(None, "excluded", None)
    assert RULES["causalvqa"].figures([(kept, None)]) == Figures(n=0, left_out=1, accuracy=None, by={})


# Denominators


def test_video_mme_leaves_out_what_it_cannot_read() -> None:
    samples = [choice(f"q{number}", "blue", "task", "duration: short") for number in range(4)]
    figures = RULES["video-mme"].figures(asked(samples, "C", "A", "none of them", None))
    assert figures == Figures(n=2, left_out=2, accuracy=0.5, by={"duration: short": 0.5, "task": 0.5})


def test_vitib_counts_every_task_the_same() -> None:
    samples = [choice("q0", "red", "small"), *(choice(f"q{number}", "red", "large") for number in range(1, 5))]
    answers = ["A", "B", "B", "B", None]
    assert RULES["vitib"].figures(asked(samples, *answers)).accuracy == 0.5
    assert RULES["videoespresso"].figures(asked(samples, *answers)).accuracy == 0.2


def test_causalvqa_counts_pairs() -> None:
    easy, hard = ("difficulty: easy", "x, easy"), ("difficulty: hard", "x, hard")
    samples = [
        choice("p/1", "red", "x", *easy),
        choice("p/2", "blue", "x", *easy),
        choice("q/1", "red", "x", *hard),
        choice("q/2", "red", "x", *hard),
    ]
    figures = RULES["causalvqa"].figures(asked(samples, "A", "C", "A", "B"))
    assert (figures.n, figures.accuracy) == (2, 0.5)
    assert figures.by["all: single"] == 0.75
    assert (figures.by["x, easy: paired"], figures.by["x, hard: paired"], figures.by["x, hard: single"]) == (1.0, 0.0, 0.5)


def test_minerva_is_worth_a_fifth_where_it_would_draw() -> None:
    samples = [choice(f"q{number}", "blue") for number in range(3)]
    assert RULES["minerva"].figures(asked(samples, "C", "A", None)).accuracy == 0.4


def three(name: str) -> list[Sample]:
    """An item whose third behaviour and third justification are right, and whose first and third behaviours are sensible."""
    why = Sample(f"{name}/justification", CLIP, "Why?", ("None", "x", "y", "z", "None"), "y", "justification")
    sensible = Sample(f"{name}/sensible", CLIP, "Which ones?", (), "[1, 3]", "sensible")
    return [choice(f"{name}/behaviour", "blue", "behaviour"), why, sensible]


@pytest.mark.parametrize(
    ("answers", "figures"),
    [
        (("C", "C", "[1, 3]"), {"behaviour": 1.0, "justification": 1.0, "both": 1.0, "sensible": 1.0}),
        (("C", "B", "3"), {"behaviour": 1.0, "justification": 0.0, "both": 0.0, "sensible": 0.5}),
        (("A", "y", "[2]"), {"behaviour": 0.0, "justification": 1.0, "both": 0.0, "sensible": 0.0}),
        (("C", None, "[1, 3]"), None),  # without a number in one of two the item is not counted
        (("C", "C", None), None),
        (("C", "C", "all of them"), None),
    ],
)
def test_egonormia_counts_items_of_three(answers: tuple[str | None, ...], figures: dict[str, float] | None) -> None:
    found = RULES["egonormia"].figures(asked(three("clip-1"), *answers))
    assert found.by == (figures or dict.fromkeys(("behaviour", "justification", "both", "sensible")))
    assert (found.n, found.left_out) == ((1, 0) if figures else (0, 1))


def test_egonormia_where_two_options_say_the_same() -> None:
    behaviour = Sample("q/behaviour", CLIP, "What?", ("None", "go", "stay", "run", "None"), "None", "behaviour")
    why = Sample("q/justification", CLIP, "Why?", ("x", "y", "z", "w", "None"), "None", "justification")
    best, _ = items_of_three(asked([behaviour, why], "E", "E"))["q"]
    assert (best.correct, best.points) == ((4, 4), (1, 1, 1))


def test_egonormia_with_shuffled_options() -> None:
    """Each question has its own order then, and its own right index."""
    behaviour, why, which = three("clip-1")
    why = replace(why, choices=("y", "None", "x", "z", "None"))
    best, _ = items_of_three(asked([behaviour, why, which], "C", "A", "[1, 3]"))["clip-1"]
    assert (best.results, best.points) == ((2, 0), (1, 1, 1))
    assert items_of_three(asked([which], "[1]"))["clip-1"][0].correct == (-1, -1)


def test_egonormia_judges_each_question_by_itself() -> None:
    behaviour, justification, sensible = three("clip-1")
    rule = RULES["egonormia"]
    assert rule.judge(behaviour, answered("q", "C")) == Verdict((2,), "correct", 1.0)
    assert rule.judge(behaviour, answered("q", "option 9")) == Verdict((4,), "wrong", 0.0)
    assert rule.judge(justification, answered("q", "option 9")) == Verdict((-1,), "wrong", 0.0)
    assert rule.judge(justification, None) == Verdict(None, "excluded", None)
    assert rule.judge(sensible, answered("q", "[1]")) == Verdict((0,), "share", 0.5)
    assert rule.judge(sensible, answered("q", "some")) == Verdict((-1, -1), "excluded", None)


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        ("[10, 20]", "[10, 20]", "correct"),
        ("[10, 20]", "It lasts from 0:10 on: [10, 19].", "correct"),  # the one list in the answer
        ("[10, 20]", "[10, 12]", "wrong"),
        ("[10, 20]", "from 10 to 20", "excluded"),  # only a judge can tell
        ("[10, 20]", None, "wrong"),
        ("[0, 0, 10, 10]", "[0, 0, 10, 10]", "correct"),
        ("[0, 0, 10, 10]", "[5, 5, 15, 15]", "wrong"),
        ("In the kitchen", "in the  kitchen.", "correct"),
        ("In the kitchen", "Where one cooks", "excluded"),
        ("In the kitchen", None, "wrong"),
    ],
)
def test_vcr_bench_without_a_judge(gold: str, answer: str | None, outcome: str) -> None:
    sample = Sample("q", CLIP, "When?", (), gold, "Plot", ("duration: 0-60 s",))
    verdict = RULES["vcr-bench"].judge(sample, answered("q", answer))
    assert verdict.outcome == outcome
    assert verdict.share == {"correct": 1.0, "wrong": 0.0, "excluded": None}[outcome]


# Guessing


def test_what_guessing_gets() -> None:
    first = Sample("q0", CLIP, "?", ("aa", "b", "cc"), "b", "one")
    second = Sample("q1", CLIP, "?", ("aa", "bbb", "c", "dddd"), "dddd", "two")
    samples = [first, second, replace(first, id="q2"), replace(first, id="q3", answer="cc")]
    found = official_baselines(RULES["videoespresso"], samples)
    draw = found.pop("random")
    assert found == {"always A": 0.0, "always B": 0.5, "always C": 0.25, "always D": 0.25, "longest": 0.25, "shortest": 0.5}
    assert draw in (0.0, 0.25, 0.5, 0.75, 1.0)


def test_guesses_are_the_same_each_time_and_random_ones_are_near_chance() -> None:
    samples = [Sample(f"q{number}", CLIP, "?", tuple("wxyz"), "wxyz"[number % 4], "task") for number in range(400)]
    first, second = (official_baselines(RULES["video-mme"], samples) for _ in range(2))
    assert first == second
    assert 0.15 < (first["random"] or 0) < 0.35
    assert first["always A"] == first["longest"] == first["shortest"] == 0.25


def test_the_headline_of_guesses_is_the_datas_own_mean() -> None:
    """Over all items or over tasks: as far apart as the tasks are unequal."""
    samples = [choice("q0", "red", "small"), *(choice(f"q{number}", "blue", "large") for number in range(1, 5))]
    assert official_baselines(RULES["videoespresso"], samples)["always A"] == 0.2
    assert official_baselines(RULES["vitib"], samples)["always A"] == 0.5


def test_what_cannot_be_guessed_is_not() -> None:
    open_one = Sample("q0", CLIP, "?", (), "the kitchen", "task")
    kept = Sample("q1", CLIP, "?", ("a", "b"), "", "task")
    for samples in ([], [open_one], [kept], [open_one, choice("q2", "red")]):
        assert official_baselines(RULES["vcr-bench"], samples) == {}


# What is written down


def test_a_score_and_a_summary_say_the_official_side_where_there_is_one() -> None:
    sample = choice("q", "blue", "task")
    trace = answered("q", "C", sample.choices)
    assert official_score("video-mme", sample, trace) == {"official": "correct", "official_extracted": "C"}
    assert official_score("synthetic", sample, trace) == {}
    summary = official_summary("video-mme", [(sample, trace), (sample, None)])
    guesses = summary["official"]["baselines"]
    figures = {"source": RULES["video-mme"].source, "n": 1, "left_out": 1, "accuracy": 1.0, "by": {"task": 1.0}}
    assert summary["official"] == {**figures, "baselines": guesses}
    assert list(summary["official"]) == [*figures, "baselines"]
    assert (guesses["always C"], guesses["always A"]) == (1.0, 0.0)
    assert official_summary("synthetic", [(sample, trace)]) == {}


def test_every_rule_says_where_it_was_read() -> None:
    assert all("@" in rule.source for rule in RULES.values())
    assert len({rule.source for rule in RULES.values()}) == len(RULES)
