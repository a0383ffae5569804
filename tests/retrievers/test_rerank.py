"""A vision-language model behind the re-ranker: what it is asked, and how its reply is read."""

from collections.abc import Generator, Mapping, Sequence

import pytest
from PIL import Image

from act2see.core import chat
from act2see.core.interfaces import Backend, Continuation
from act2see.core.trace import Cost, Frame, Trace
from act2see.tools.retrievers.rerank import asker, judge

FRAMES = [Frame(Image.new("RGB", (4, 4)), second) for second in (0.0, 1.0, 2.5)]


class Scripted:
    """A backend that says one thing, and keeps what it was asked."""

    made_with: Mapping[str, str] = {}

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[Trace] = []

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Generator[str, None, Continuation]:
        assert not tools  # it must not look while it judges
        self.asked.append(trace)
        yield self.text[:3]
        yield self.text[3:]
        return Continuation(self.text, "tag", Cost())


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("<think>The second.</think><answer>2</answer>", 1),
        ("<answer> Frame 3. </answer>", 2),
        ("<think>1 or 2?</think>\n1", 0),
        ("#1", 0),
        ("<answer>4</answer>", None),
        ("<answer>0</answer>", None),
        ("<answer>-1</answer>", None),
        ("<answer>2 or 3</answer>", None),
        ("<answer>two</answer>", None),
        ("<retrieve>the star</retrieve>", None),
        ("", None),
    ],
)
def test_a_reply_is_the_number_of_a_frame_or_nothing(reply: str, number: int | None) -> None:
    backend: Backend = Scripted(reply)
    assert judge(backend)("the star", FRAMES) == number


def test_the_model_sees_the_frames_and_the_query() -> None:
    backend = Scripted("<answer>1</answer>")
    judge(backend)("the {red} star", FRAMES)
    (trace,) = backend.asked
    assert trace.frames == tuple(FRAMES)
    assert "Which of these 3 frames shows this best: the {red} star?" in trace.question


def test_an_asker_gives_the_answer_without_showing_a_frame() -> None:
    backend = Scripted('<think>Hm.</think><answer>{"relation": "single"}</answer>')
    assert asker(backend)("Take this apart.") == '{"relation": "single"}'
    assert backend.asked[0].frames == ()
