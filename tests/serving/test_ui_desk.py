"""The page of `act2see ui` without a page: videos taken and refused, answers as pieces of HTML, visitors apart, and nothing left behind."""

import os
import shutil
import zipfile
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest

from act2see.config import ModelConfig, UiConfig
from act2see.core.chat import Tool
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Continuation
from act2see.core.trace import Frame, Provenance, Trace
from act2see.evaluation.conversation import Models
from act2see.serving.ui.desk import BUNDLED, MOST_VISITORS, Desk, Screen, Visitor, suggestions
from act2see.synthetic.scope import NO_LIMITS, Scope
from act2see.video import Video
from cli_fakes import Dead, Finder, Looker, Scripted, Silent
from page_elements import parsed

CONFIG, SETTINGS = ModelConfig(), UiConfig()
HOSTILE = "<img src=x onerror=alert(1)></p><script>alert(2)</script>"


class Hostile(Scripted):
    chunks = (f"<think>{HOSTILE}<retrieve> {HOSTILE} </retrieve>", f"</think><answer>{HOSTILE}</answer>")


class Dreamer(Scripted):
    chunks = ("<think>Imagine.<generate> a red star </generate>", "</think><answer>B</answer>")


class Broken(Scripted):
    """Fails once, as a model that runs out of memory."""

    chunks = ("<answer>B</answer>",)
    failed = False

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        if not self.failed:
            self.failed = True
            raise IndexError("a bug")
        return (yield from super().decode(trace, tools))


class Painter:
    name = "painter"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        return Frame(anchor.image.rotate(180), None, provenance=Provenance(prompt, anchor.seconds, "painter", seed))


def desk(folder: Path, backend: type[Scripted] = Looker, scope: Scope = NO_LIMITS, settings: UiConfig = SETTINGS) -> Desk:
    return Desk(settings, Models(backend(CONFIG), Finder(CONFIG), Painter(), scope), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where uploads and downloads are kept."""
    (tmp_path / "uploads").mkdir()
    return tmp_path / "uploads"


@pytest.fixture
def upload(folder: Path, video: Video) -> Path:
    """An upload as Gradio keeps it: in a folder of its own."""
    path = folder / "5f0c" / "my clip.mp4"
    path.parent.mkdir()
    shutil.copyfile(video.path, path)
    return path


def last(screens: Iterator[Screen]) -> Screen:
    *_, screen = screens
    return screen


def opened(where: Desk, path: Path, key: str = "one") -> Visitor:
    visitor = where.visitor(key)
    assert visitor.open(path).message == ""
    return visitor


# Answers


def test_an_answer_streams_words_then_steps_then_the_answer(folder: Path, upload: Path) -> None:
    screens = list(opened(desk(folder), upload).ask("What colour?", "blue\nred"))
    words = [screen.panes[0].words for screen in screens if screen.panes]
    assert any(words)
    assert "retrieve" not in "".join(words)
    pane = screens[-1].panes[0]
    assert pane.words == ""
    assert "It is not here" in pane.reasoning
    assert parsed(pane.answer).one(css_class="answer").one("p").text == "B. red"
    assert parsed(pane.answer).all("dl", "numbers")
    assert len(parsed(pane.reasoning).all("figure", "inserted")) == 1


def test_the_timeline_has_ticks_and_links_with_the_time_that_the_player_jumps_to(folder: Path, upload: Path) -> None:
    screens = list(opened(desk(folder), upload).ask("What?", ""))
    before, after = parsed(screens[0].timeline), parsed(screens[-1].timeline)
    assert (len(before.all(css_class="dot")), before.all("a", "pin")) == (2, [])
    (pin,) = after.all("a", "pin")
    assert float(pin.attributes["data-seconds"]) == pytest.approx(0.5, abs=0.05)
    assert float(after.one("div", "timeline").attributes["data-length"]) == pytest.approx(2.0)


def test_an_imagined_picture_is_marked_and_off_the_timeline(folder: Path, upload: Path) -> None:
    screen = last(opened(desk(folder, Dreamer), upload).ask("What if?", "a\nb"))
    line = parsed(screen.timeline)
    assert line.all("a", "pin") == []
    assert "IMAGINED, not in the video" in line.one("div", "off").text
    assert parsed(screen.panes[0].reasoning).one("p", "badge").text == "IMAGINED, not in the video"
    assert "imagined" in parsed(screen.panes[0].answer).one("p", "note").text


def test_texts_of_users_and_models_are_escaped(folder: Path, upload: Path) -> None:
    screens = list(opened(desk(folder, Hostile), upload).ask(HOSTILE, ""))
    for screen in screens:
        for html in (screen.timeline, *(part for pane in screen.panes for part in (pane.reasoning, pane.words, pane.answer))):
            assert not {"script", "img"} & {element.tag for element in parsed(html).all()}
    assert HOSTILE in parsed(screens[-1].panes[0].answer).text
    assert screens[-1].report is not None
    assert "<script" not in screens[-1].report.read_text(encoding="utf-8")


def test_with_and_without_looking_stand_side_by_side(folder: Path, upload: Path) -> None:
    screen = last(opened(desk(folder), upload).ask("What?", "blue | red", compare=True))
    one, other = (parsed(pane.reasoning) for pane in screen.panes)
    assert (one.one(css_class="title").text, other.one(css_class="title").text) == ("With looking", "Without looking")
    assert (len(one.all("figure", "inserted")), len(other.all("figure", "inserted"))) == (1, 0)


def test_report_and_traces_of_all_questions_can_be_downloaded_and_name_no_folder(folder: Path, upload: Path) -> None:
    visitor = opened(desk(folder), upload)
    last(visitor.ask("One?", ""))
    screen = last(visitor.ask("Two?", ""))
    assert screen.report is not None
    assert screen.traces is not None
    report = screen.report.read_text(encoding="utf-8")
    assert "One?" in report
    assert "Two?" in report
    with zipfile.ZipFile(screen.traces) as archive:
        lines = archive.read("run/traces.jsonl").decode()
        assert "max_upload_mb" not in archive.read("run/run.json").decode()
    assert lines.count("\n") == 2
    assert '"my clip.mp4"' in lines
    assert str(folder) not in report + lines


def test_what_goes_wrong_is_one_line_and_the_next_question_is_answered(folder: Path, upload: Path) -> None:
    visitor = opened(desk(folder, Broken), upload)
    assert "internal error: IndexError" in last(visitor.ask("One?", "")).message
    assert "duplicate choices" in last(visitor.ask("Two?", "a\na")).message
    assert "the question is empty" in last(visitor.ask(" ", "")).message
    assert last(visitor.ask("Three?", "")).message == ""
    assert "start it" in last(opened(desk(folder, Dead), upload).ask("One?", "")).message
    assert "No answer" in last(opened(desk(folder, Silent), upload).ask("One?", "")).panes[0].answer


def test_stop_ends_an_answer_and_keeps_its_steps(folder: Path, upload: Path) -> None:
    visitor = opened(desk(folder), upload)
    screens = []
    for screen in visitor.ask("What?", ""):
        screens.append(screen)
        if "figure" in "".join(pane.reasoning for pane in screen.panes):
            visitor.stop()
    assert screens[-1].message == "stopped"
    assert "the red star" in screens[-1].panes[0].reasoning
    assert screens[-1].report is not None


def test_an_answer_that_nobody_reads_any_more_does_not_go_on_beside_a_new_one(folder: Path, upload: Path) -> None:
    where = desk(folder)
    abandoned = opened(where, upload, "one").ask("One?", "")
    next(abandoned)
    next(abandoned)
    assert last(opened(where, upload, "two").ask("Two?", "")).message == ""
    assert last(abandoned).message == "stopped"


# Videos


def test_a_question_needs_a_video(folder: Path) -> None:
    assert "choose a video first" in last(desk(folder).visitor("one").ask("What?", "")).message


def test_a_video_beyond_a_limit_is_refused_and_deleted(folder: Path, upload: Path) -> None:
    kept = upload.read_bytes()
    assert "allowed are 1 (" in desk(folder, settings=UiConfig(max_video_seconds=1)).visitor("one").open(upload).message
    assert not upload.parent.exists()
    upload.parent.mkdir()
    upload.write_bytes(kept.ljust(2**20 + 1))
    assert "MiB; allowed are 1 (" in desk(folder, settings=UiConfig(max_upload_mb=1)).visitor("one").open(upload).message
    assert not upload.parent.exists()


def test_what_is_no_video_is_refused_and_deleted(folder: Path, upload: Path) -> None:
    upload.write_text("<script>")
    assert "my clip.mp4" in desk(folder).visitor("one").open(upload).message
    assert not upload.parent.exists()


def test_only_uploads_are_opened(folder: Path, video: Video) -> None:
    (folder / "link.mp4").symlink_to(video.path)
    (folder / ".in-use").touch()
    (folder / "a" / "b").mkdir(parents=True)
    for path in (
        video.path,
        folder / "link.mp4",
        Path("/etc/passwd"),
        folder / ".." / "x.mp4",
        folder / ".in-use",
        folder / "a" / "b" / "c.mp4",
        folder / "a" / "b",
    ):
        with pytest.raises(ConfigError, match="no upload"):
            desk(folder).visitor("one").open(path)
    assert video.path.exists()
    assert (folder / ".in-use").exists()
    assert (folder / "a" / "b").exists()


@pytest.mark.parametrize(
    ("question", "choices", "said"),
    [
        ("x" * 30_000, "", "at most 20,000 are taken"),
        ("Which?", "\n".join(map(str, range(10_000))), "at most 20,000 are taken"),
        ("Which?", "\n".join(map(str, range(200))), "200 choices"),
        ("Which?", "one", "1 choices"),
        (" ", "", "the question is empty"),
    ],
)
def test_a_question_beyond_all_measure_is_refused_in_one_line(folder: Path, upload: Path, question: str, choices: str, said: str) -> None:
    (screen,) = opened(desk(folder), upload).ask(question, choices)
    assert said in screen.message
    assert "\n" not in screen.message


def test_an_upload_that_nobody_opens_is_deleted_after_a_while(folder: Path, upload: Path) -> None:
    where, unopened, fresh = desk(folder), folder / "77aa" / "x.mp4", folder / "88bb" / "y.mp4"
    for path in (unopened, fresh):
        path.parent.mkdir()
        path.touch()
    for path in (unopened, upload):
        os.utime(path, (1, 1))
    visitor = opened(where, upload)
    report = last(visitor.ask("Which?", "yes\nno")).report
    assert report is not None
    os.utime(report, (1, 1))
    where.sweep()
    assert (unopened.parent.exists(), fresh.exists(), upload.exists(), report.exists()) == (False, True, True, True)
    upload.write_bytes(b"another")
    assert last(visitor.ask("Which?", "yes\nno")).message.startswith("my clip.mp4 was changed")  # and not where it is


def test_a_pipe_is_no_upload(folder: Path) -> None:
    (folder / "5f0c").mkdir()
    os.mkfifo(folder / "5f0c" / "pipe.mp4")
    assert "not a regular file" in desk(folder).visitor("one").open(folder / "5f0c" / "pipe.mp4").message


def test_a_video_that_the_model_does_not_know_is_told_when_it_is_chosen(folder: Path, write_video: Callable[..., Path]) -> None:
    (folder / "5f0c").mkdir()
    path = write_video("uploads/5f0c/numbers.mp4", [number / 10 for number in range(20)])
    message = desk(folder, scope=Scope(backend=True)).visitor("one").open(path).message
    assert "numbers.mp4 is not of the synthetic world" in message


def test_another_video_replaces_the_first_which_is_deleted(folder: Path, upload: Path) -> None:
    visitor = opened(desk(folder), upload)
    screen, path = visitor.open_bundled(suggestions()[0].file)
    assert screen.message == ""
    assert not upload.exists()
    assert path.read_bytes() == (BUNDLED / path.name).read_bytes()
    with pytest.raises(ConfigError, match="no bundled clip"):
        visitor.open_bundled("../questions.json")


# Visitors


def test_visitors_see_nothing_of_each_other_and_leave_nothing(folder: Path, upload: Path) -> None:
    where = desk(folder)
    one, two = opened(where, upload, "one"), opened(where, upload, "two")
    first = last(one.ask("Secret?", ""))
    second = last(two.ask("Other?", ""))
    assert first.report is not None
    assert second.report is not None
    assert "Secret?" not in second.report.read_text(encoding="utf-8")
    where.leave("one")
    assert not first.report.exists()
    assert upload.exists()  # the same file is still the other's
    where.leave("two")
    assert list(folder.iterdir()) == []


def test_visitors_are_bounded(folder: Path) -> None:
    where = desk(folder)
    first = where.visitor("first")
    for number in range(MOST_VISITORS):
        where.visitor(str(number))
    assert where.visitor("first") is not first
