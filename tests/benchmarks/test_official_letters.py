"""The official rules that read one letter: Video-MME, VideoEspresso, ViTIB, CausalVQA and MINERVA, and what each must not be fooled to differ in."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.benchmarks.official import causalvqa, minerva, videoespresso, videomme, vitib
from act2see.benchmarks.official.verdict import Verdict, letter_verdict, mean_share

PIECES = [
    "A",
    "B",
    "C",
    "D",
    "E",
    "a",
    "e",
    " ",
    "\n",
    "\t",
    "Answer:",
    "answer is",
    "Option:",
    "The answer",
    "Best answer:",
    "(",
    ")",
    ".",
    ",",
    "1",
    "1,5",
]
outputs = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)

# What all of them share


RULES: list[tuple[str, Callable[[str, str], Verdict], str]] = [
    (videomme.FORM, videomme.verdict, "{}"),
    (videoespresso.FORM, videoespresso.verdict, "({})"),
    (vitib.FORM, vitib.verdict, "({})"),
    (causalvqa.FORM, causalvqa.verdict, "{}"),
    (minerva.FORM, minerva.verdict, "{}"),
]


@pytest.mark.parametrize("letter", "ABCD")
@pytest.mark.parametrize(("form", "verdict", "gold"), RULES)
def test_our_own_answer_in_its_form_is_read_as_it_is_meant(form: str, verdict: Callable[[str, str], Verdict], gold: str, letter: str) -> None:
    other = "A" if letter == "D" else "D"
    assert verdict(form.format(letter), gold.format(letter)) == Verdict(letter, "correct", 1.0)
    assert verdict(form.format(letter), gold.format(other)) == Verdict(letter, "wrong", 0.0)


def test_the_forms() -> None:
    assert [rule.FORM.format("C") for rule in (videomme, videoespresso, vitib, causalvqa)] == [
        "C",
        "(C)",
        "Answer: C",
        "Your Answer Letter: C END",
    ]
    assert minerva.extract(minerva.FORM.format("C")) == "C"


def test_a_mean_is_over_what_is_in_the_denominator() -> None:
    assert mean_share([]) is None
    assert mean_share([Verdict("", "excluded", None)]) is None
    assert mean_share(
        [letter_verdict("A", True), letter_verdict("B", False), Verdict("", "excluded", None), Verdict("", "random", 0.2)]
    ) == pytest.approx(0.4)


# Video-MME


@pytest.mark.parametrize(
    ("output", "letter"),
    [
        ("", ""),
        ("   \n", ""),
        ("c", ""),
        ("E", ""),
        (" C", "C"),
        ("\n\nC\n", "C"),
        ("(d) or D", "D"),
        ("Answer: b", ""),  # the opening's capital A goes with it
        ("Answer:B", "B"),
        ("Answer\n: C", "A"),  # no opening that is struck out
        ("answer: D", "D"),
        ("ANSWER: D", "A"),
        ("Best answer: D", "B"),  # a comma is missing in the original
        ("Best option: D", "B"),
        ("Best answer:Best option: D", "D"),  # what the two openings became without it
        ("The best option is: D", "D"),
        ("The correct option is C", "C"),
        ("The correct answer is: (A)", "A"),
        ("AnThe answerswer: C", "C"),  # openings are struck out one after the other: an earlier one can make a later one
        ("AnOption:swer: C", "A"),  # but not the other way round
        ("word " * 20, ""),
        ("word " * 20 + "D", "D"),
        ("<answer>C</answer>", "C"),
        ("Because it falls, C", "B"),
        ("Ａ", ""),  # a letter of another alphabet
    ],
)
def test_video_mme(output: str, letter: str) -> None:
    assert videomme.extract(output) == letter
    assert videomme.verdict(output, letter or "C").outcome == ("correct" if letter else "excluded")


def test_video_mme_compares_with_the_answer_as_it_is_written() -> None:
    assert videomme.verdict("C", "(C)").outcome == "wrong"
    assert videomme.verdict("", "").outcome == "excluded"


@given(outputs)
def test_video_mme_reads_a_capital_that_is_there_or_nothing(output: str) -> None:
    letter = videomme.extract(output)
    assert letter == "" or (letter in "ABCD" and letter in output)


# VideoEspresso


@pytest.mark.parametrize(
    ("output", "letter"),
    [("", None), ("b", None), ("E", None), ("Answer: C", "A"), ("\nD", "D"), ("(C)", "C"), ("I see Dogs, so A", "D"), (None, None)],
)
def test_videoespresso(output: str | None, letter: str | None) -> None:
    assert videoespresso.extract(output) == letter
    assert videoespresso.verdict(output, f"({letter})").outcome == ("correct" if letter else "wrong")


@pytest.mark.parametrize("gold", [None, "", "(E)", "c"])
def test_videoespresso_without_a_right_letter_has_no_right_output(gold: str | None) -> None:
    assert [videoespresso.verdict(output, gold).outcome for output in ("(A)", "", None)] == ["wrong"] * 3


@given(outputs)
def test_videoespresso_reads_the_first_capital(output: str) -> None:
    match = re.search("[A-D]", output)
    assert videoespresso.extract(output) == (match.group() if match else None)


# ViTIB


@pytest.mark.parametrize(
    ("output", "letter"),
    [
        ("", None),
        ("B", None),
        ("answer: B", None),
        ("Answer: b", None),
        ("Answer:B", "B"),
        ("Answer:\t B", "B"),
        ("Answer:\r\nB", "B"),
        ("Ans\nwer: B", "B"),  # line ends are taken out, and join what they parted
        ("Answer:\n\n\nB", "B"),
        ("Answer: **B**", None),
        ("Answer: ?\nAnswer: D", "D"),  # the first that is followed by a letter
        ("Answer: A\nAnswer: B", "A"),
        ("The Answer: Zebra", "Z"),
        ("Answer: É", None),
    ],
)
def test_vitib(output: str, letter: str | None) -> None:
    assert vitib.extract(output) == letter


@pytest.mark.parametrize(
    ("gold", "is_right"),
    [("(B)", True), ("B", True), (" (B)\n", True), ("((B", True), ("( B )", False), ("(b)", False), ("(B): red", False), ("", False)],
)
def test_vitib_takes_brackets_from_the_right_answer_and_space_from_around_it(gold: str, is_right: bool) -> None:
    assert vitib.verdict("Answer: B", gold).outcome == ("correct" if is_right else "wrong")
    assert vitib.verdict("nothing", gold).outcome == "wrong"


# CausalVQA


@pytest.mark.parametrize(
    ("output", "letter"),
    [
        ("", None),
        ("F", None),
        ("e", "E"),
        ("A ball, so B", "B"),
        ("B, a ball", "A"),  # the article
        ("Your Answer Letter: B END", "B"),
        ("Your Answer Letter: B END a", "A"),  # the original's own form is never looked for
        ("Your Answer Letter:BEND", None),
        ("(B)", "B"),
        ("B.", "B"),
        ("x.B", None),  # a full stop goes, and joins
        ("3.B", None),
        ("B.5", "B"),
        ("x-B", "B"),
        ("x-B - y", None),  # a hyphen beside a space anywhere: all of them go
        ("x_B", "B"),
        ("I'd", "D"),
        ("it's c'", "C"),
        ("B\tC\nD", "D"),
        ("a/b/c", "C"),
        ("1,5 a/b", None),  # a comma in a number: all marks go
        ("1, 5 a/b", "B"),
        ("C:", "C"),
        ("**C**", "C"),
        ("Ce", None),
        ("C2", None),
        ("éC", None),
    ],
)
def test_causalvqa(output: str, letter: str | None) -> None:
    assert causalvqa.read(output)[0] == letter


def test_causalvqa_takes_out_thirty_two_full_stops() -> None:
    assert causalvqa.read("." * 32 + "b")[1] == "B"
    assert causalvqa.read("x." * 32 + "b")[0] is None
    assert causalvqa.read("x." * 33 + "b")[0] == "B"  # the last one stays, and parts the word


def test_causalvqa_compares_texts_where_neither_has_a_letter() -> None:
    assert causalvqa.verdict("It falls!", "it falls") == Verdict(None, "correct", 1.0)
    assert causalvqa.verdict("", "") == Verdict(None, "correct", 1.0)
    assert causalvqa.verdict("", "B") == Verdict(None, "wrong", 0.0)
    assert causalvqa.verdict("b", "The answer: B.").outcome == "correct"


@given(outputs)
def test_causalvqa_reads_a_letter_that_is_there_in_either_case(output: str) -> None:
    letter = causalvqa.read(output)[0]
    assert letter is None or letter in output.upper()


@pytest.mark.parametrize(
    ("scores", "single", "paired"),
    [
        ([("p", 1), ("p", 0)], 50, 0),
        ([("p", 1), ("q", 1), ("p", 1), ("q", 0)], 75, 50),
        ([("p", 0), ("q", 1), ("q", 1)], 50, 50),
        ([("p", 1), ("p", 1), ("p", 1)], 0, 0),  # three of a pair are none
        ([("p", "1"), ("p", True)], 100, 100),
    ],
)
def test_causalvqa_pairs(scores: list[tuple[str, str | int]], single: float, paired: float) -> None:
    assert causalvqa.aggregate([{"qid": qid, "score": score} for qid, score in scores]) == (single, paired)


def test_causalvqa_of_nothing_divides_by_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        causalvqa.aggregate([])


@pytest.mark.parametrize(
    ("choices", "correct", "made"),
    [
        ("1. red|2. blue", "2", ([("A", "red"), ("B", "blue")], "B")),
        (" 1. red | 2. blue ", 2, ([("A", "red"), ("B", "blue")], "B")),
        ("1.red|2) blue", "1", ([("A", "ed"), ("B", "blue")], "A")),  # the text begins with the fourth character
        ("10. ten|2. two", "1", ([("A", " ten"), ("B", "two")], "A")),  # a number is one character
        ("1. red|1. blue", "1", ([("A", "red"), ("B", "blue")], "B")),  # the later one counts
    ],
)
def test_causalvqa_choices(choices: str, correct: object, made: object) -> None:
    assert causalvqa.format_choices(choices, correct) == made


@pytest.mark.parametrize(
    ("choices", "correct", "error"),
    [
        ("1. red|2. blue", "3", KeyError),
        ("1. red", 1.0, KeyError),
        ("1. red", None, KeyError),
        ("1. red", float("nan"), KeyError),
        ("1. red||3. x", "1", IndexError),
        ("", "1", IndexError),
        ("|".join(["1. x"] * 27), "1", IndexError),
    ],
)
def test_causalvqa_choices_that_the_original_fails_on(choices: str, correct: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        causalvqa.format_choices(choices, correct)


# MINERVA


@pytest.mark.parametrize(
    ("output", "letter"),
    [
        ("", ""),
        ("c", ""),
        ("F", ""),
        (None, ""),
        (3, ""),
        ("answer is c", "C"),
        ("answer: a man in a Car", "A"),  # the key word is followed by a letter, if only an article
        ("option\nis\n\ne", "E"),
        ("Answer is A. No, answer is B.", "B"),
        ("The answer is not A", "A"),  # no letter after "is": the last capital counts
        ("answers: D", "D"),
        ("answers: d", ""),
        ("Answer: ?", ""),  # its capital A goes with the opening
        ("Answer : E", "E"),
        ("Answering", "A"),
        ("12:30 - B, then Candles", "C"),
        ("AnThe answer isswer:", ""),
    ],
)
def test_minerva(output: object, letter: str) -> None:
    assert minerva.extract(output) == letter
    assert minerva.verdict(output, letter or "B").outcome == ("correct" if letter else "random")


def test_minerva_draws_no_letter_and_counts_what_a_draw_is_worth() -> None:
    assert minerva.verdict("", "B") == Verdict("", "random", 0.2)
    assert minerva.verdict("D", "") == Verdict("D", "wrong", 0.0)


CHOICES = {f"answer_choice_{at}": text for at, text in enumerate(["red", " blue ", "green", "None", ""])}


@pytest.mark.parametrize(
    ("record", "letter"),
    [
        ({"answer_id": 0}, "A"),
        ({"answer_id": 4}, "E"),
        ({"answer_id": "3"}, "D"),
        ({"answer_id": "٢"}, "C"),  # a decimal digit of another script
        ({"answer_id": False}, "A"),
        ({"answer_id": 5, "answer": "red"}, "A"),
        ({"answer_id": -1, "answer": "blue"}, "B"),
        ({"answer_id": "-1", "answer": "green"}, "C"),
        ({"answer_id": "9" * 30, "answer": "green"}, "C"),
        ({"answer_id": 2.0, "answer": "red"}, "A"),
        ({"answer": None}, "D"),  # written as "None"
        ({}, "E"),  # an empty answer is the choice that is empty
        ({"answer": "Red"}, ""),
    ],
)
def test_minervas_right_letter(record: dict[str, object], letter: str) -> None:
    assert minerva.gold_letter(CHOICES | record) == letter


def test_minervas_right_letter_of_a_digit_that_is_no_number() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        minerva.gold_letter(CHOICES | {"answer_id": "²"})
