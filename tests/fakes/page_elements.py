"""A page as a tree of elements, read by the standard library's parser, and a trace to be shown on one."""

import base64
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import BytesIO

from PIL import Image

from act2see.core.trace import Answer, Cost, Finish, Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace

VOID = {"meta", "link", "br", "img", "hr", "input"}
ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><style>*{display:none}</style>",
    "</title></svg><iframe src=https://evil.example/>",
    "{{ 7 * 7 }}{% include 'x' %}",
    "javascript:alert(1)",
    "&lt;b&gt; &amp; <!-- <b>",
)


@dataclass
class Element:
    """One element of a parsed page."""

    tag: str
    attributes: dict[str, str]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def style(self) -> dict[str, str]:
        parts = (part.split(":", 1) for part in self.attributes.get("style", "").split(";") if ":" in part)
        return {name.strip(): value.strip() for name, value in parts}

    def all(self, tag: str = "", css_class: str = "") -> list["Element"]:
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if (not tag or child.tag == tag) and (not css_class or css_class in child.attributes.get("class", "").split()):
                    found.append(child)
                found += child.all(tag, css_class)
        return found

    def one(self, tag: str = "", css_class: str = "") -> "Element":
        (found,) = self.all(tag, css_class)
        return found


class Parser(HTMLParser):
    """Builds the tree and fails on a tag that is not closed where it must be."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parsed(html: str) -> Element:
    parser = Parser()
    parser.feed(html)
    parser.close()
    assert parser.open == [parser.root], "an element was not closed"
    return parser.root


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 36)) -> Image.Image:
    return Image.new("RGB", size, colour)


def initial(count: int, gap_seconds: float = 1.0) -> tuple[Frame, ...]:
    return tuple(Frame(picture((number, 100, 0)), number * gap_seconds) for number in range(count))


RETRIEVED = Frame(picture((0, 0, 200)), 2.5, score=0.914)
IMAGINED = Frame(picture((200, 0, 200)), None, provenance=Provenance("a green square", 3.0, "some-model", 7, 0.6, {"agreement": 0.83}))
STEPS: tuple[Step, ...] = (
    Thought("<think>No star here.\n  Not yet."),
    Retrieve(" a star "),
    Observation(frames=(RETRIEVED,)),
    Thought("\nNow imagine.\n"),
    Generate("a green square"),
    Observation(frames=(IMAGINED,)),
    Retrieve("more"),
    Observation(error="no look is left"),
    Thought("So it is blue.</think>"),
    Answer(" B "),
)


def trace(*, steps: tuple[Step, ...] = STEPS, frames: tuple[Frame, ...] | None = None, finish: Finish | None = "answer") -> Trace:
    return Trace(
        id="trace-1",
        video="/home/somebody/videos/clip.mp4",
        question="What colour is the star?",
        frames=initial(5) if frames is None else frames,
        choices=("red", "blue", "green"),
        duration_seconds=10.0,
        steps=list(steps),
        finish=finish,
        cost=Cost(12345, 321, 10240, {"prefill": 1.0, "decode": 3.0}, 0.0123),
        made_with={"backend": "huggingface"},
    )


def embedded(page: Element) -> dict[str, Image.Image]:
    found: dict[str, Image.Image] = {}
    for symbol in page.all("symbol"):
        kind, data = symbol.one("image").attributes["href"].removeprefix("data:image/").split(";base64,")
        image = Image.open(BytesIO(base64.b64decode(data, validate=True)))
        assert (image.format or "").lower() == kind
        assert symbol.attributes["viewbox"] == f"0 0 {image.width} {image.height}"
        found[symbol.attributes["id"]] = image
    return found


def name_in(element: Element) -> str:
    """The name of the one picture that an element shows."""
    return element.one("use").attributes["href"].removeprefix("#")


def shape(element: Element) -> list[object]:
    """The page's elements with the names of their attributes, without any text."""
    inner = [shape(child) for child in element.children if isinstance(child, Element)]
    return [element.tag, sorted(element.attributes), element.attributes.get("class", ""), inner]
