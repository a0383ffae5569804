"""The report: what stands on the page, that nothing on it is markup of a model's, and that it loads nothing."""

import re
from dataclasses import replace

import pytest
from PIL import Image

from act2see.core.trace import Answer, Cost, Finish, Frame, Generate, Observation, Provenance, Retrieve, Trace
from act2see.report import render_report, why_no_answer
from page_elements import IMAGINED, STEPS, Element, embedded, initial, name_in, parsed, picture, trace


def test_the_page_shows_question_choices_and_answer() -> None:
    page = parsed(render_report(trace()))
    assert page.one("h1").text == "What colour is the star?"
    choices = page.one("ol", "choices").all("li")
    assert [choice.text for choice in choices] == ["Ared", "Bblue✓ chosen", "Cgreen"]
    assert ["chosen" in choice.attributes.get("class", "") for choice in choices] == [False, True, False]
    assert page.one("div", "answer").one("p").text == "B. blue"
    assert "clip.mp4 · 10.0 s" in page.one("p", "meta").text
    assert "somebody" not in render_report(trace())


def test_an_answer_that_names_no_choice_is_shown_as_it_is() -> None:
    page = parsed(render_report(trace(steps=(Answer("purple"),))))
    assert page.all(css_class="chosen") == []
    assert [p.text for p in page.one("div", "answer").all("p")] == ["purple", "It does not match exactly one of the choices."]


def test_the_reasoning_stands_in_its_order_with_the_frames_inline() -> None:
    page = parsed(render_report(trace()))
    (section,) = [section for section in page.all("section") if section.attributes["aria-labelledby"] == "reasoning"]
    kinds = [child.attributes.get("class", child.tag) for child in section.children if isinstance(child, Element)]
    real, imagined = "inserted real", "inserted imagined"
    assert kinds == ["h2", "thought", "call retrieve", real, "thought", "call generate", imagined, "call retrieve", "error", "thought", "answered"]
    assert [thought.text for thought in section.all(css_class="thought")] == ["No star here.\n  Not yet.", "Now imagine.", "So it is blue."]
    assert [call.one("q").text for call in section.all(css_class="call")] == ["a star", "a green square", "more"]
    assert section.one(css_class="error").text == "Error: no look is left"
    assert ".thought { white-space: pre-wrap;" in page.one("style").text


def test_a_retrieved_frame_has_its_time_and_score() -> None:
    figure = parsed(render_report(trace())).one("figure", "real")
    assert figure.one("figcaption").text.split() == ["2.5", "s", "a", "frame", "of", "the", "video", "score", "0.91"]
    assert figure.one("svg").attributes["aria-label"] == "Frame of the video at 2.5 s, retrieved for “a star”"
    assert "imagined" not in figure.text


def test_a_generated_frame_is_marked_and_says_where_it_came_from() -> None:
    figure = parsed(render_report(trace())).one("figure", "imagined")
    assert figure.one("p", "badge").text == "IMAGINED, not in the video"
    facts = {row.one("dt").text: row.one("dd").text for row in figure.one("dl").all("div")}
    assert facts == {
        "prompt": "a green square",
        "made from": "the frame at 3.0 s",
        "model": "some-model",
        "seed": "7",
        "strength": "0.6",
        "agreement": "0.83",
    }
    assert figure.one("div", "made").one("svg").attributes["aria-label"] == "Imagined picture, not in the video: a green square"


def test_the_frame_that_it_was_made_from_stands_beside_it_where_the_trace_holds_it() -> None:
    page = parsed(render_report(trace()))
    figure = page.one("figure", "imagined")
    beside = figure.one("div", "made-from")
    assert beside.one("p").text == "Made from this frame of the video, at 3.0 s"
    assert beside.one("svg").attributes["aria-label"] == "Frame of the video at 3.0 s, from which the imagined picture was made"
    shown = embedded(page)
    assert shown[name_in(beside)].convert("RGB").getpixel((10, 10)) == (3, 100, 0)
    assert shown[name_in(figure.one("div", "made"))].convert("RGB").getpixel((10, 10)) == (200, 0, 200)


@pytest.mark.parametrize("seconds", [2.0, 2.998])
def test_no_other_frame_is_shown_for_one_that_the_trace_does_not_hold(seconds: float) -> None:
    page = parsed(render_report(trace(frames=(Frame(picture((3, 100, 0)), seconds),))))
    figure = page.one("figure", "imagined")
    assert figure.all("div", "made-from") == []
    assert len(figure.all("svg")) == 1
    assert "the frame at 3.0 s" in figure.one("dl").text


def test_a_retrieved_frame_can_be_the_one_that_it_was_made_from() -> None:
    steps = (Retrieve("x"), Observation(frames=(Frame(picture((9, 9, 9)), 3.0),)), Generate("y"), Observation(frames=(IMAGINED,)))
    page = parsed(render_report(trace(frames=(), steps=steps)))
    assert embedded(page)[name_in(page.one("div", "made-from"))].convert("RGB").getpixel((10, 10)) == (9, 9, 9)


def test_an_imagined_frame_has_a_border_of_its_own() -> None:
    style = parsed(render_report(trace())).one("style").text
    assert re.search(r"\.inserted\.imagined \{ border: 3px dashed var\(--imagined\);", style)
    assert re.search(r"\.inserted\.real \{ border-color: var\(--real\); \}", style)
    assert re.search(r"\.pair p\.badge \{ background: var\(--imagined\); color: var\(--on\);", style)


def test_an_imagined_frame_is_nowhere_on_the_timeline() -> None:
    page = parsed(render_report(trace(frames=(), steps=(Generate("y"), Observation(frames=(IMAGINED,))))))
    assert page.all(css_class="timeline") == []
    line = parsed(render_report(trace())).one(css_class="timeline")
    made = name_in(parsed(render_report(trace())).one("div", "made"))
    assert made not in {use.attributes["href"].removeprefix("#") for use in line.all("use")}


def test_an_imagined_frame_among_the_first_ones_is_marked_there_too() -> None:
    page = parsed(render_report(trace(frames=(*initial(1), IMAGINED), steps=())))
    assert [figure.one("figcaption").text for figure in page.one(css_class="gallery").all("figure")] == ["0.0 s", "IMAGINED, not in the video"]
    assert len(page.one(css_class="gallery").all("figure", "imagined")) == 1


def test_the_embedded_file_of_an_imagined_frame_says_so_and_that_of_an_equal_real_one_does_not() -> None:
    noise = Image.merge("RGB", [Image.effect_noise((64, 36), 40) for _ in range(3)])
    for pixels, kind in ((picture((7, 7, 7)), "PNG"), (noise, "JPEG")):
        imagined = Frame(pixels, None, provenance=Provenance("x" * 100_000, None, "some-model", 7))
        steps = (Retrieve("x"), Observation(frames=(Frame(pixels, 1.0),)), Generate("y"), Observation(frames=(imagined,)))
        page = parsed(render_report(trace(frames=(), steps=steps)))
        files = embedded(page)
        made, real = files[name_in(page.one("div", "made"))], files[name_in(page.one("figure", "real"))]
        assert made.format == kind
        assert b"digitalsourcetype/trainedAlgorithmicMedia" in made.info["xmp"]
        assert "xmp" not in real.info


def test_a_frame_without_time_and_provenance_is_marked_as_imagined_too() -> None:
    figure = parsed(render_report(trace(steps=(Observation(frames=(Frame(picture((9, 9, 9)), None),)),)))).one("figure", "inserted")
    assert "imagined" in figure.attributes["class"]
    assert "not recorded" in figure.text


def test_the_timeline_marks_every_frame_at_its_time() -> None:
    line = parsed(render_report(trace())).one(css_class="timeline")
    assert [dot.style["left"] for dot in line.all(css_class="dot")] == ["0.00%", "10.00%", "20.00%", "30.00%", "40.00%"]
    assert [dot.attributes["title"] for dot in line.all(css_class="dot")][3] == "initial frame at 3.0 s"
    pins = [(pin.attributes["class"], pin.style["left"], pin.attributes["href"], pin.attributes["title"]) for pin in line.all(css_class="pin")]
    assert pins == [
        ("pin retrieved", "25.00%", "#look-1", "look 1: frame at 2.5 s, score 0.91"),
    ]
    assert [tick.text for tick in line.one(css_class="axis").all("span")] == ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]
    slots = [slot.style for slot in line.all(css_class="slot")]
    assert float(slots[-1]["left"][:-1]) + float(slots[-1]["width"][:-1]) == pytest.approx(100)


def test_pins_at_nearly_the_same_time_stand_one_above_the_other() -> None:
    frames = tuple(Frame(picture((1, number, 3)), seconds) for number, seconds in enumerate((2.0, 2.1, 9.0)))
    line = parsed(render_report(trace(steps=(Retrieve("x"), Observation(frames=frames))))).one(css_class="timeline")
    assert [pin.style["--lane"] for pin in line.all(css_class="pin")] == ["0", "1", "0"]
    assert line.style["--lanes"] == "2"


@pytest.mark.parametrize("duration_seconds", [None, 0.0, 2.0])
def test_the_timeline_reaches_the_last_frame_when_the_duration_does_not(duration_seconds: float | None) -> None:
    short = trace()
    short.duration_seconds = duration_seconds
    page = parsed(render_report(short))
    assert [dot.style["left"] for dot in page.all(css_class="dot")][-1] == "100.00%"
    assert ("duration is unknown" in page.text) == (not duration_seconds)


def test_one_frame_at_zero_seconds_does_not_divide_by_zero() -> None:
    page = parsed(render_report(Trace("t", "v.mp4", "q", initial(1))))
    assert [dot.style["left"] for dot in page.all(css_class="dot")] == ["0.00%"]


@pytest.mark.parametrize("finish", [None, "end", "length", "errors"])
def test_a_trace_without_an_answer_says_why(finish: Finish | None) -> None:
    page = parsed(render_report(trace(steps=STEPS[:-1], finish=finish)))
    box = page.one("div", "answer")
    assert "none" in box.attributes["class"]
    assert box.one("h2").text == "No answer"
    assert box.one("p").text.lower() == why_no_answer(finish).lower() + "."
    assert page.all(css_class="chosen") == []


def test_a_trace_without_frames_and_steps_is_a_page_too() -> None:
    page = parsed(render_report(Trace("t", "v.mp4", "Anything?", ())))
    assert page.all(css_class="timeline") == page.all("figure") == page.all("image") == []
    assert "The trace has no steps." in page.text
    assert "No initial frames." in page.text


def test_the_cost_is_told() -> None:
    page = parsed(render_report(trace()))
    numbers = {row.one("dt").text: row.one("dd").text for row in page.one("dl", "numbers").all("div")}
    assert numbers == {"Tokens in": "12,34510,240 of them reused", "Tokens out": "321", "Time": "4.0 s", "Looks": "2", "Price": "$0.0123"}
    assert [bar.style["width"] for bar in page.all(css_class="bar")] == ["25.00%", "75.00%"]
    assert "backendhuggingface" in page.all("table")[-1].text
    free = trace()
    free.cost = Cost()
    assert "Priceunknown" in parsed(render_report(free)).one("dl", "numbers").text.replace("\n", "")


def test_several_traces_on_one_page_keep_their_places_and_share_their_pictures() -> None:
    one, other = trace(), replace(trace(), id="trace-2", question="Where is the <b>star</b>?")
    page = parsed(render_report(one, other))
    assert [heading.text for heading in page.all("h1")] == [one.question, other.question]
    assert page.all("title")[0].text == "2 questions · act2see"
    links = [link.attributes["href"] for link in page.one("nav", "questions").all("a")]
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert links == ["#q1-question", "#q2-question"]
    assert len(ids) == len(set(ids))
    assert {f"#{name}" for name in ids} >= {link.attributes["href"] for link in page.all("a")}
    assert {f"#{name}" for name in ids} >= {used.attributes["href"] for used in page.all("use")}
    assert len(page.all("symbol")) == len(parsed(render_report(one)).all("symbol"))
    assert parsed(render_report(one)).all("nav") == []


def test_looks_with_a_time_or_a_place_say_so() -> None:
    stretch = Observation(tuple(Frame(picture((0, 0, 9 * n)), 4 + n / 8) for n in range(4)))
    part = Observation((Frame(picture((200, 0, 0)), 2.5, box=(0.2, 0.1, 0.6, 0.5)),))
    steps = (Retrieve(" 4 to 4.5 s "), stretch, Retrieve(" zoom 0.2 0.1 0.6 0.5 at 2.5 s "), part, Retrieve(" at 99 s "), Observation(error="no"))
    page = parsed(render_report(replace(trace(steps=steps), made_with={"tools": "retrieve,clip,zoom"})))
    assert [call.one("span").text for call in page.all("div", "call")] == ["Looks at the time", "Looks closer", "Looks at the time"]
    figures = page.all("figure", "real")
    assert len(figures) == 5
    assert "2.5 s, enlarged" in " ".join(figures[4].text.split())
    assert "Part 0.2 0.1 0.6 0.5 of the frame of the video at 2.5 s" in str(figures[4])
    words = parsed(render_report(trace(steps=steps)))  # where they were not offered, they were the retriever's words
    assert "Looks closer" not in words.text
