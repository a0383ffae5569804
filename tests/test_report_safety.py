"""A trace's page loads nothing, runs nothing, shows hostile text as it was written, and is written whole or not at all."""

import re
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from act2see.core.errors import StoreError
from act2see.core.trace import Answer, Cost, Frame, Generate, Observation, Provenance, Retrieve, Thought, Trace
from act2see.report import render_report, write_report
from page_elements import ATTACKS, RETRIEVED, embedded, initial, parsed, picture, shape, trace

# Safety


def hostile(text: str) -> Trace:
    made = Provenance(text, 1.0, text, 1, 0.5, {text: 0.5})
    return Trace(
        id=text,
        video=text,
        question=text,
        frames=initial(2),
        choices=(text, "other"),
        duration_seconds=4.0,
        steps=[
            Thought(text),
            Retrieve(text),
            Observation(error=text),
            Retrieve(text),
            Observation(frames=(RETRIEVED,)),
            Generate(text),
            Observation(frames=(Frame(picture((5, 5, 5)), None, provenance=made),)),
            Answer(text),
        ],
        finish="answer",
        cost=Cost(seconds={text: 1.0}),
        made_with={text: text},
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_changes_no_markup_and_is_shown_as_written(attack: str) -> None:
    page, plain = parsed(render_report(hostile(attack))), parsed(render_report(hostile("plain words")))
    assert shape(page) == shape(plain)
    assert page.one("h1").text == attack
    assert page.one("div", "answer").one("p").text == f"A. {attack}"
    assert page.one(css_class="thought").text == attack
    assert {call.one("q").text for call in page.all(css_class="call")} == {attack}
    assert page.one(css_class="error").text == f"Error: {attack}"
    assert [cell.text for cell in page.all("table")[-1].all("tr")[-1].all()] == [attack, attack]


@pytest.mark.parametrize("shown", [trace(), *(hostile(attack) for attack in ATTACKS)])
def test_the_page_loads_nothing_and_runs_nothing(shown: Trace) -> None:
    page = parsed(render_report(shown))
    for element in page.all():
        assert element.tag not in {"script", "iframe", "object", "embed", "form", "base", "img", "video"}
        for name, value in element.attributes.items():
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "action", "xlink:href", "ping"}
            if name == "href":
                assert value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")) or value == "data:,"
            if name == "style":
                assert "url(" not in value
                assert "alert" not in value
    (style,) = page.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    (policy,) = [meta.attributes["content"] for meta in page.all("meta") if meta.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_control_characters_and_lone_surrogates_do_not_reach_the_page(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_report(hostile("a\x00\x1b[31m\x9b\u202eb\ud800\ttab\nline"), path)
    html = path.read_text(encoding="utf-8")
    assert parsed(html).one("h1").text == "a[31mb\ttab\nline"
    assert not re.search("[\x00\x1b\x9b\u202e]", html)


# Pictures


def test_every_picture_shown_is_embedded_and_is_the_frames_own() -> None:
    page = parsed(render_report(trace()))
    pictures = embedded(page)
    used = {use.attributes["href"].removeprefix("#") for use in page.all("use")}
    assert used == set(pictures)
    (name,) = [use.attributes["href"].removeprefix("#") for use in page.one("figure", "real").all("use")]
    assert pictures[name].convert("RGB").getpixel((10, 10)) == (0, 0, 200)
    assert all(svg.attributes["aria-label"] for svg in page.all("svg", "image"))


def test_equal_frames_are_embedded_once() -> None:
    frames = tuple(Frame(picture((7, 7, 7)), float(seconds)) for seconds in range(5))
    again = Observation(frames=(Frame(picture((7, 7, 7)), 7.0),))
    page = parsed(render_report(trace(frames=frames, steps=(Retrieve("x"), again))))
    assert len(embedded(page)) == 1
    assert len(page.one(css_class="gallery").all("figure")) == 5


def test_pictures_are_scaled_down_and_never_up() -> None:
    big = Frame(picture((1, 2, 3), (1920, 1080)), 0.0)
    inserted = Observation(frames=(Frame(picture((4, 5, 6), (1080, 1920)), 1.0), Frame(picture((7, 8, 9), (40, 30)), 2.0)))
    sizes = [image.size for image in embedded(parsed(render_report(trace(frames=(big,), steps=(Retrieve("x"), inserted))))).values()]
    assert sorted(sizes) == [(40, 30), (320, 180), (360, 640)]


def test_a_report_of_many_noisy_frames_stays_small() -> None:
    noise = Image.merge("RGB", [Image.effect_noise((320, 180), 40) for _ in range(3)])
    frames = tuple(Frame(ImageChops.offset(noise, number), float(number)) for number in range(80))
    html = render_report(trace(frames=frames, steps=()))
    page = parsed(html)
    assert len(page.all(css_class="dot")) == 80
    assert len(page.one(css_class="gallery").all("figure")) == 64
    assert "80 initial frames, 64 of them shown" in page.one("summary").text
    assert len(html) < 4_000_000


# Writing


def test_the_report_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    write_report(trace(), path)
    assert path.read_text(encoding="utf-8") == render_report(trace())
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "r.html", tmp_path / "folder"):
        with pytest.raises(StoreError, match=re.escape(str(path))) as error:
            write_report(trace(), path)
        assert "\n" not in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
