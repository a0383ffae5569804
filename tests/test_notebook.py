"""Fragments for notebooks: scoped styles, nothing that runs or loads, hostile text as written, bounded size, several in one document."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from act2see.core.trace import Answer, Finish, Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.report import run_html, trace_html
from act2see.storage.runs import JSON, Run
from page_elements import IMAGINED, RETRIEVED, Element, embedded, initial, parsed, picture, trace

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}</style>",
    "</div></svg><iframe src=https://evil.example/>",
    "{{ 7 * 7 }}{% include 'x' %}",
)


def hostile(text: str) -> Trace:
    steps: list[Step] = [Thought(text), Retrieve(text), Observation((RETRIEVED,)), Retrieve(text), Observation(error=text), Answer(text)]
    return Trace(text, text, text, initial(2), (text, "other"), 4.0, steps, "answer", made_with={text: text})


def shape(element: Element) -> list[object]:
    """Elements with the names of their attributes, without any text."""
    inner = [shape(child) for child in element.children if isinstance(child, Element)]
    return [element.tag, sorted(element.attributes), element.attributes.get("class", ""), inner]


def rows_of(table: Element) -> dict[str, str]:
    return {row.one("th").text: row.one("td").text for row in table.all("tr")}


def run_in(folder: Path, command: str = "ask") -> Run:
    return Run.create(folder, command=command, config={"backend": "micro", "nested": {"looks": 3}}, seed=7)


# A trace


def test_a_trace_shows_question_answer_reasoning_and_frames() -> None:
    page = parsed(trace_html(trace()))
    assert [child.tag for child in page.children if isinstance(child, Element)] == ["div"]
    assert page.one("div", "question").text == "What colour is the star?"
    assert page.one("div", "answer").one("p").text == "B. blue"
    assert [thought.text for thought in page.all(css_class="thought")] == ["No star here.\n  Not yet.", "Now imagine.", "So it is blue."]
    assert len(page.all("figure", "inserted")) == 2
    assert page.one("p", "badge").text == "IMAGINED, not in the video"


def test_a_trace_has_no_heading_elements_because_a_notebook_would_list_them() -> None:
    page = parsed(trace_html(trace()))
    assert [element.tag for element in page.all() if re.fullmatch("h[1-6]", element.tag)] == []
    assert page.one(css_class="question").attributes["role"] == "heading"


def test_every_style_is_scoped_to_the_fragment(tmp_path: Path) -> None:
    for html, scope in ((trace_html(trace()), "act2see-trace"), (run_html(run_in(tmp_path / "run")), "act2see-run")):
        (style,) = parsed(html).all("style")
        depth, outer = 0, []
        for selector, brace in re.findall(r"([^{}]*)([{}])", re.sub(r"@media[^{]*\{", "", style.text)):
            if brace == "{" and depth == 0:
                outer.append(selector.strip())
            depth += 1 if brace == "{" else -1 if depth else 0
        assert outer
        assert {selector for selector in outer if not selector.startswith(f".{scope}.{scope}")} <= {""}
        assert ":root" not in style.text
        assert "url(" not in style.text
        assert "@import" not in style.text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_markup_and_nothing_loads_or_runs(text: str) -> None:
    page, plain = parsed(trace_html(hostile(text))), parsed(trace_html(hostile("plain words")))
    assert shape(page) == shape(plain)
    assert page.one(css_class="thought").text == text
    for element in page.all():
        assert element.tag not in {"script", "iframe", "object", "embed", "form", "base", "img", "video", "link", "meta"}
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "action", "xlink:href", "ping"}
            assert name != "href" or value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#"))


def test_two_traces_in_one_document_share_no_name_for_different_pictures() -> None:
    first, second = trace(), trace(frames=tuple(Frame(picture((9, 9, number)), float(number)) for number in range(3)))
    second.id = "trace-2"
    pages = [parsed(trace_html(one)) for one in (first, second)]
    pictures = [embedded(page) for page in pages]
    for name in pictures[0].keys() & pictures[1].keys():
        assert pictures[0][name].tobytes() == pictures[1][name].tobytes()
    assert pictures[0].keys() != pictures[1].keys()
    ids = [{element.attributes["id"] for element in page.all() if "id" in element.attributes and element.tag != "symbol"} for page in pages]
    assert not ids[0] & ids[1]


def test_many_frames_become_thumbnails_and_the_fragment_stays_small() -> None:
    noise = Image.merge("RGB", [Image.effect_noise((1280, 720), 40) for _ in range(3)])
    frames = tuple(Frame(ImageChops.offset(noise, 3 * number), float(number)) for number in range(100))
    looks: list[Step] = [
        step for number in range(40) for step in (Retrieve("x"), Observation((Frame(ImageChops.offset(noise, 0, 5 * number + 1), 0.5),)))
    ]
    html = trace_html(trace(frames=frames, steps=tuple(looks)))
    page = parsed(html)
    assert len(page.one(css_class="gallery").all("figure")) == 24
    assert "100 initial frames, 24 of them shown" in page.one("summary").text
    assert len(page.all("figure", "inserted")) == 40
    assert max(max(image.size) for image in embedded(page).values()) < 200
    assert len(html) < 1_500_000


def test_an_unfinished_trace_and_one_without_frames_are_shown() -> None:
    page = parsed(trace_html(trace(steps=(Thought("<think>Hm"),), finish=None)))
    assert "can be continued" in page.one("div", "answer").text
    assert "No initial frames." in parsed(trace_html(trace(frames=(), steps=()))).text
    assert parsed(trace_html(trace(steps=(Observation((IMAGINED,)),)))).one("p", "badge")


# A run


def test_a_run_without_a_summary_says_how_its_traces_ended(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    run.append(trace())
    ends: tuple[Finish | None, ...] = ("end", "end", None)
    for finish in ends:
        run.append(trace(steps=(), finish=finish))
    page = parsed(run_html(run))
    facts, settings = (rows_of(table) for table in page.all("table"))
    assert facts == {
        "run": str(tmp_path / "run"),
        "command": "ask",
        "seed": "7",
        "traces": "4",
        "ends": "1 answer, 2 end, 1 unfinished",
    }
    assert settings == {"backend": "micro", "nested.looks": "3"}


def test_a_scored_run_shows_outcomes_and_accuracy_with_its_interval(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run", command="eval")
    accuracy: dict[str, JSON] = {"accuracy": {"all": 0.75, "odd": 0.5}, "accuracy_95": {"all": [0.301, 0.95]}}
    run.write_summary({"benchmark": "minerva", "outcomes": {"correct": 3, "wrong": 1}, **accuracy})
    facts = rows_of(parsed(run_html(run)).all("table")[0])
    assert facts["benchmark"] == "minerva"
    assert facts["outcomes"] == "3 correct, 1 wrong"
    assert facts["accuracy"] == "75.0% (95 %: 30.1% to 95.0%)"
    run.write_summary({"accuracy": {"all": 1.0}, "accuracy_95": {"all": None}})
    assert rows_of(parsed(run_html(run)).all("table")[0])["accuracy"] == "100.0% (95 % interval unknown)"


STRANGE = ("[1]", "{", '{"accuracy": "high", "outcomes": [1], "accuracy_95": 3, "benchmark": {}}', '{"outcomes": {"<b>": "<i>"}}')


@pytest.mark.parametrize("summary", STRANGE)
def test_a_strange_summary_neither_fails_nor_becomes_markup(tmp_path: Path, summary: str) -> None:
    run = run_in(tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text(summary, encoding="utf-8")
    html = run_html(run)
    assert "<b>" not in html
    facts = rows_of(parsed(html).all("table")[0])
    assert "accuracy" not in facts
    assert ("cannot be read" in facts) == (summary == "{")


def test_a_runs_settings_are_text_and_are_cut_short(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="ask", config={"prompt": "<script>" + "x" * 1000}, seed=None)
    settings = rows_of(parsed(run_html(run)).all("table")[1])
    assert settings["prompt"].startswith("<script>xxx")
    assert len(settings["prompt"]) == 200
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["config"]["prompt"].count("x") == 1000
