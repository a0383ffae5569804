"""The filter's page and the page for a look by hand: whatever a text says stays a text, and no page loads anything."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import pytest
from PIL import Image

from act2see.core.rejection_reasons import MEANINGS
from act2see.core.trace import Answer, Cost, Frame, Generate, Observation, Provenance, Retrieve, Thought, Trace
from act2see.curation.filter_statistics import Counted, facts_of, summarise
from act2see.curation.filters import Judged
from act2see.curation.qa_records import Reference
from act2see.report.filter_page import histogram, render_filter
from act2see.report.review_page import INITIAL_PICTURES, render_review

VOID = {"meta", "link", "input", "br", "hr", "img"}
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><img src=\'https://evil.example/x.png\' onerror="alert(1)">',
    "' onmouseover='alert(1)",
    "</style><style>@import url(https://evil.example)</style>",
    "<!-- </main>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; & &amp;",
    "\u202egnp\u202c \x00\x1b[0m \ud800",
)


@dataclass
class Page(HTMLParser):
    """The elements of a page with their attributes, and the text of each kind of element."""

    html: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(self.html)
        self.close()
        assert not self.open, "an element was not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.texts[tag][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    @property
    def policy(self) -> dict[str, list[str]]:
        (meta,) = [found for found in self.all("meta") if found.get("http-equiv") == "Content-Security-Policy"]
        rules = [rule.split() for rule in meta["content"].split(";")]
        return {name: values for name, *values in rules}


def clean(text: str) -> str:
    """The text without what may stand in no page."""
    return re.sub("[\x00-\x08\x0e-\x1f\u202a-\u202e\ud800-\udfff]", "", text)


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (16, 9), (number, 2 * number, 90))


def entry(text: str, name: str = "q#0", choices: tuple[str, ...] = (), initial: int = 2) -> tuple[Trace, Reference]:
    """A trace that says the text wherever it can say something, and its question."""
    made = Provenance(text, 0.0, text, 1, None, {text: 0.5})
    trace = Trace(name, text, text, tuple(Frame(picture(number), float(number)) for number in range(initial)), choices, finish="answer")
    trace.steps = [
        Thought(f"<think>{text}"),
        Retrieve(text),
        Observation((Frame(picture(100), 0.5, 0.25),)),
        Generate(text),
        Observation((Frame(picture(110), None, provenance=made),)),
        Retrieve("more"),
        Observation(error=text),
        Thought("</think>"),
        Answer(text),
    ]
    return trace, Reference(name.rpartition("#")[0], text, text, text, text, choices, choices[1] if choices else text, text, text)


def check_that_nothing_is_loaded(page: Page, scripts: int) -> None:
    policy = page.policy
    assert policy["default-src"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    assert policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert len(page.all("script")) == scripts
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form", "audio", "video", "a")
        assert not any(name.startswith("on") for name in attributes), f"a handler on <{tag}>"
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:image/", "data:,")), f"{name} of <{tag}>"
    for style in page.texts["style"]:
        assert "url(" not in style
        assert "@import" not in style


# The page for a look by hand


def test_the_policy_names_the_scripts_digest_as_a_reader_of_the_page_finds_it() -> None:
    page = Page(render_review([entry("a star")]))
    (script,) = page.texts["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert page.policy["script-src"] == [f"'sha256-{digest}'"]
    assert script == files("act2see.report").joinpath("review.js").read_text(encoding="utf-8")
    assert "</script" not in script.lower()
    assert "<!--" not in script


def test_there_is_an_article_for_each_trace_by_its_id() -> None:
    ids = ["q#0", "q#1", 'a "b" c\'d <e> & f#0', "\U0001f31f ü#2"]
    page = Page(render_review([entry("a star", name) for name in ids]))
    assert [found["data-trace"] for found in page.all("article")] == ids
    assert [found["data-verdict"] for found in page.all("article")] == [""] * len(ids)
    for verdict in ("keep", "reject"):
        assert len(page.all("button", **{"data-verdict": verdict, "aria-pressed": "false"})) == len(ids)
    assert page.texts["h1"] == ["4 traces, 0 of 4 decided"]
    assert len(page.all("input")) == len(ids)
    for said, name in zip(page.texts["article"], ids, strict=True):
        assert name in said


def test_no_trace_at_all_is_a_page_too() -> None:
    page = Page(render_review([]))
    assert page.texts["h1"] == ["0 traces, 0 of 0 decided"]
    assert "No traces to review." in page.texts["main"][0]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_text_stays_a_text(text: str) -> None:
    choices = (text, text + "?")
    page = Page(render_review([entry(text, "q#0"), entry(text, text + "#1", choices)]))
    check_that_nothing_is_loaded(page, scripts=1)
    plain = Page(render_review([entry("a", "q#0"), entry("a", "b", ("a", "b"))]))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.texts["script"] == plain.texts["script"]
    said = clean(text).strip()
    open_one, with_choices = page.texts["article"]
    # question, right answer, thought, two calls, three facts on the imagined picture, error, answer, the person's reasoning
    assert open_one.count(said) >= 11
    assert with_choices.count(said) >= 12
    assert page.all("article")[1]["data-trace"] == clean(text + "#1")


def test_each_picture_is_embedded_once() -> None:
    page = Page(render_review([entry("a star", f"q#{number}") for number in range(3)]))
    urls = [found["href"] for found in page.all("image")]
    assert len(urls) == len(set(urls)) == 4
    assert all(url.startswith("data:image/") for url in urls)
    symbols = {found["id"] for found in page.all("symbol")}
    shown = [found["href"].removeprefix("#") for found in page.all("use")]
    assert len(shown) == 3 * 5  # an imagined one has its anchor beside it
    assert set(shown) == symbols


def test_only_some_of_many_initial_frames_are_shown() -> None:
    page = Page(render_review([entry("a star", initial=64)]))
    assert len(page.all("use")) == INITIAL_PICTURES + 3


def test_the_right_choice_is_marked_and_an_imagined_frame_is_said_to_be_one() -> None:
    trace, reference = entry("a star", choices=("red", "blue", "green"))
    page = Page(render_review([(trace, reference)]))
    assert page.texts["li"] == ["A. red", "B. blue ✓", "C. green"]
    real, imagined = page.texts["figcaption"]
    assert " ".join(real.split()) == "0.5 s a frame of the video score 0.25"
    assert imagined.split()[:2] == ["prompta", "star"]
    assert page.texts["p"].count("IMAGINED, not in the video") == 1
    assert "Right: unknown" in Page(render_review([entry("")])).texts["article"][0]


def test_another_draw_has_verdicts_of_its_own() -> None:
    """The browser keeps them under the page's name."""
    names = [
        re.findall(r'data-name="(\w+)"', render_review([entry("a", name) for name in ids])) for ids in (["a", "b"], ["a"], ["b", "a"], ["a", "b"])
    ]
    assert names[0] == names[3]
    assert len({name for found in names for name in found}) == 3


# The filter's page


def summary(
    source: str = "world", embedder: str = "words", limit: float = 0.8, similarities: tuple[float | None, ...] = (0.9, 0.42)
) -> dict[str, Any]:
    everything = []
    for number, similarity in enumerate(similarities):
        trace, reference = entry("a star", f"{number}#0")
        judged = Judged(trace.id, reference.id, {} if number % 2 == 0 else {"leak": "", "by_hand": ""}, similarity)
        everything.append(Counted(judged, facts_of(trace, Reference(reference.id, source, "MIT", "", "", (), "", source, ""))))
    settings = {"reference_similarity": limit, "embedder": embedder, "ignore": [], "leak_words": 8}
    return {"settings": settings, **summarise(everything, 5, [Cost()])}


def test_the_filters_page_tells_the_numbers() -> None:
    page = Page(render_filter(summary()))
    check_that_nothing_is_loaded(page, scripts=0)
    assert "script-src" not in page.policy
    assert page.texts["h1"] == ["1 of 2 traces kept"]
    said = page.texts["main"][0]
    assert "On 1 of 5 questions" in said
    assert "1 more ended in a failure: they are counted in the cost and not judged." in said
    assert MEANINGS["leak"] in said
    assert MEANINGS["wrong_answer"] not in said
    assert "2 traces, mean 0.660, by words" in said
    assert [title for title in page.texts["title"] if "0.40 to 0.45: 1 traces, 0 kept" in title]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_hostile_name_stays_a_name(text: str) -> None:
    page, plain = Page(render_filter(summary(text, text))), Page(render_filter(summary("a", "a")))
    check_that_nothing_is_loaded(page, scripts=0)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert clean(text) in page.texts["td"]


@pytest.mark.parametrize(("limit", "x"), [(0.8, 608), (0, 0), (-1, 0), (1, 760)])
def test_the_limit_stands_within_the_histogram(limit: float, x: float) -> None:
    (line,) = Page(render_filter(summary(limit=limit))).all("line", **{"class": "limit"})
    assert float(line["x1"]) == float(line["x2"]) == x


@pytest.mark.parametrize("similarities", [(), (None,), (None, None)])
def test_a_filtering_without_similarities_or_traces_is_a_page_too(similarities: tuple[float | None, ...]) -> None:
    page = Page(render_filter(summary(similarities=similarities)))
    assert "No question comes with human reasoning." in page.texts["main"][0]
    assert page.all("line") == []


def test_a_bar_is_as_high_as_its_share_of_the_highest() -> None:
    bars = histogram({"bins": [0, 4, 2, 1], "kept": [0, 1, 2, 0]})
    assert [bar.height for bar in bars] == [0, 180, 90, 45]
    assert [bar.kept for bar in bars] == [0, 45, 90, 0]
    assert [bar.x for bar in bars] == [1, 191, 381, 571]
    assert bars[1].title == "0.25 to 0.50: 4 traces, 1 kept"
    assert all(bar.height == bar.kept == 0 for bar in histogram({"bins": [0, 0], "kept": [0, 0]}))
