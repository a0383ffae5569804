"""How options and answers are written, and which letter an official scorer is given."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.benchmarks.choosing import check_option_count, checked_index, is_right, letter_of, right_index, scorer_output, without_letters
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from made_up_sets import answered

CHOICES = ("red", "A man", "blue", "red")


def sample(answer: str = "A man", choices: tuple[str, ...] = CHOICES) -> Sample:
    return Sample("q", Path("x.mp4"), "?", choices, answer, "all")


@pytest.mark.parametrize("form", ["{}. {}", "{}) {}", "({}) {}", "({}): {} ", "{}: {}", " {}.{}"])
def test_letters_before_options_are_taken_off(form: str) -> None:
    options = [form.format(letter, text) for letter, text in zip("ABCD", CHOICES, strict=True)]
    assert without_letters(options) == CHOICES


@pytest.mark.parametrize("options", [("A man", "B flat"), ("A. red", "blue"), ("B. red", "A. blue"), ("A. red", "C. blue")])
def test_options_whose_letters_are_not_their_own_stay(options: tuple[str, ...]) -> None:
    assert without_letters(options) == options


@given(st.lists(st.text("abc xyz", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=10))
def test_options_in_lower_case_come_back_from_every_form(options: list[str]) -> None:
    assert without_letters(options) == tuple(options)
    assert without_letters([f"({chr(65 + number)}): {text}" for number, text in enumerate(options)]) == tuple(options)


@pytest.mark.parametrize(("answer", "index"), [("A", 0), ("(D)", 3), (" B. ", 1), ("C:", 2)])
def test_answers_that_name_a_choice(answer: str, index: int) -> None:
    assert right_index(answer, 4) == index


@pytest.mark.parametrize("answer", ["E", "(E)", "a", "", "AB", "1", "A or B", "The answer is A"])
def test_answers_that_name_none(answer: str) -> None:
    with pytest.raises(ConfigError, match=r"the answer .* is not one of the choices A to D"):
        right_index(answer, 4)


def test_counts_and_indexes() -> None:
    check_option_count(("a", "b"), 2, 3)
    with pytest.raises(ConfigError, match="got 2 options, expected 4 or 5"):
        check_option_count(("a", "b"), 4, 5)
    with pytest.raises(ConfigError, match="empty option"):
        check_option_count(("a", " "), 2)
    assert checked_index(4, 5) == 4
    for index in (-1, 5):
        with pytest.raises(ConfigError, match=f"the answer {index} is not one of the choices 0 to 4"):
            checked_index(index, 5)


@pytest.mark.parametrize(
    ("text", "right"),
    [("B", True), ("(b)", True), ("B. A man", True), ("a man.", True), ("A", False), ("blue", False)]
    + [(text, None) for text in (None, "", "A man in blue, so B", "E", "B or C", "red")],
)
def test_only_what_names_a_choice_for_sure_is_scored(text: str | None, right: bool | None) -> None:
    assert is_right(sample(), answered("q", text)) is right


def test_equal_choices_are_equally_right() -> None:
    twice = sample("red")
    assert is_right(twice, answered("q", "A")) is True
    assert is_right(twice, answered("q", "D")) is True
    assert letter_of(twice, answered("q", "D")) == "D"
    assert letter_of(twice, answered("q", "B")) == letter_of(twice) == "A"


def test_a_question_whose_answer_is_kept_is_never_right() -> None:
    assert is_right(sample(""), answered("q", "B")) is None


def test_what_an_official_scorer_is_given() -> None:
    assert scorer_output(sample(), answered("q", "a man"), "({})") == "(B)"
    assert scorer_output(sample(), answered("q", "c."), "Answer: {}") == "Answer: C"
    assert scorer_output(sample(), answered("q", "a man in blue"), "({})") == "a man in blue"
    assert scorer_output(sample(), answered("q", None)) == scorer_output(sample(), None) == ""


def test_more_options_than_letters_stay_as_they_are() -> None:
    assert without_letters([" x "] * 40) == ("x",) * 40
