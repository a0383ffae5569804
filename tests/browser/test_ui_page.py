"""The page of `act2see ui` in a browser, with the embedded models: a question through a look, the timeline and the player, downloads, keyboard."""

import http.client
import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.browser

Open = Callable[..., Any]
SECONDS = "document.querySelector('#player video').currentTime"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page in a process of its own, whose temporary folder is empty when it has ended."""
    if importlib.util.find_spec("gradio") is None:
        pytest.fail("the tests of act2see ui need gradio: pip install 'act2see[ui]'", pytrace=False)
    folder = tmp_path_factory.mktemp("ui")
    command = [sys.executable, "-m", "act2see", "ui", "--port", "0", "--max-video-seconds", "30"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        yield next(match[1] for line in server.stderr if (match := re.search(r"(http://\S+);", line)))
        server.send_signal(signal.SIGINT)
        server.wait(60)
    assert [path for path in folder.rglob("*") if path.suffix in (".mp4", ".html", ".zip", ".jsonl")] == []


def pick(page: Any, clip: str = "clip-3.mp4") -> None:
    page.get_by_label(clip).check()
    page.wait_for_function("document.querySelector('#player video')?.readyState >= 2")
    page.wait_for_function("document.querySelector('#question textarea').value")


def answered(page: Any, pane: int = 1) -> Any:
    page.wait_for_selector(f"#answer-{pane}-answer .numbers", timeout=120_000)
    return page.locator(f"#answer-{pane}")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_the_page_has_no_serious_fault_and_fits(address: str, open_page: Open, faults: Callable[[Any], list[str]], width: int, dark: bool) -> None:
    page = open_page(address, width=width, dark=dark)
    page.wait_for_selector("#ask")
    assert faults(page) == []
    pick(page)
    page.locator("#ask").click()
    answered(page)
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_question_through_a_look_moves_the_player_and_can_be_downloaded(address: str, open_page: Open, tmp_path: Path) -> None:
    page = open_page(address)
    pick(page)
    page.locator("#ask").click()
    page.wait_for_selector("#answer-1 .thought", timeout=60_000)
    pane = answered(page)
    assert pane.locator(".answer p").first.inner_text() == "D. right"
    assert pane.locator("figure.inserted").count() == 1
    pin = page.locator("#timeline .pin")
    assert page.evaluate(SECONDS) == 0
    pin.locator(".head").click()
    assert page.evaluate(SECONDS) == pytest.approx(float(pin.get_attribute("data-seconds")), abs=0.01)
    page.evaluate("document.querySelector('#player video').currentTime = 0")
    pin.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(SECONDS) == pytest.approx(float(pin.get_attribute("data-seconds")), abs=0.01)
    for button, start in (("#report", b"<!doctype html>"), ("#traces", b"PK")):
        with page.expect_download() as got:
            page.locator(button).click()
        got.value.save_as(tmp_path / "file")
        assert (tmp_path / "file").read_bytes().lstrip().startswith(start)
    assert answered_again(page) > 0


def answered_again(page: Any) -> int:
    """Tokens that a second question reuses."""
    page.locator("#ask").click()
    page.wait_for_selector("#answer-1-answer .numbers", state="detached")
    return int(re.sub(r"\D", "", answered(page).locator(".numbers small").inner_text()))


def test_with_and_without_looking(address: str, open_page: Open) -> None:
    page = open_page(address)
    pick(page)
    page.locator("#compare input").check()
    page.locator("#ask").click()
    assert answered(page, 2).locator("figure.inserted").count() == 0
    assert page.locator("#answer-1 figure.inserted").count() == 1
    assert page.locator("#answer-2-reasoning .title").inner_text().lower() == "without looking"


def test_an_upload_is_played_and_asked_about_and_a_refused_one_is_told(address: str, open_page: Open, tmp_path: Path) -> None:
    from act2see.synthetic.world import Clip

    page = open_page(address)
    hostile = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    Clip(40.0, ()).write(hostile)
    page.locator("#player input[type=file]").set_input_files(hostile)
    page.wait_for_selector("#message p")
    assert "allowed are 30" in page.locator("#message").inner_text()
    assert page.locator("#message img").count() == 0


def test_a_refused_question_is_told_in_sight_on_a_phone(address: str, open_page: Open) -> None:
    page = open_page(address, width=390)
    pick(page)
    page.locator("#question textarea").fill("What happens?")
    page.locator("#choices textarea").fill("one")
    page.locator("#ask").click()
    page.wait_for_selector("#message p")
    box = "(() => { const box = document.querySelector('#message p').getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; })()"
    page.wait_for_function(box)


def test_markup_in_a_question_and_its_choices_is_shown_as_text(address: str, open_page: Open) -> None:
    page = open_page(address)
    alerts: list[str] = []

    def note(dialog: Any) -> None:
        alerts.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    pick(page)
    page.locator("#question textarea").fill("Where can the cross be seen? <img src=x onerror=alert(1)>")
    page.locator("#choices textarea").fill("<script>alert(2)</script>\n<img src=x onerror=alert(3)>right")
    page.locator("#ask").click()
    answered(page)
    assert page.locator("img[onerror]").count() == 0
    assert alerts == []


def test_the_page_behind_its_gate_answers_its_own_site_only(address: str) -> None:
    def status(method: str, path: str, body: bytes = b"", **headers: str) -> int:
        with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=30)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            return connection.getresponse().status

    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../a.html"\r\n\r\n<script>\r\n--x--\r\n'
    own = {"Content_Type": "multipart/form-data; boundary=x"}
    assert status("POST", "/gradio_api/upload", form, **own) == 200
    assert status("POST", "/gradio_api/upload", form, **own, Origin="http://evil.example") == 403
    assert status("GET", "/", Host="evil.example") == 403
    for path in (
        "/gradio_api/file=http://example.org/",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=http://x",
        "/gradio_api/deep_link?session_hash=x",
    ):
        assert status("GET", path) == 404
    foreign = b'{"data": [{"path": "http://example.org/x.mp4", "meta": {"_type": "gradio.FileData"}}], "fn_index": 0, "session_hash": "x"}'
    assert status("POST", "/gradio_api/queue/join", foreign, Content_Type="application/json") == 400


def test_two_visitors_see_their_own_questions_only(address: str, open_page: Open) -> None:
    one, other = open_page(address), open_page(address)
    pick(one)
    one.locator("#ask").click()
    answered(one)
    assert other.locator("#answer-1 .thought").count() == 0
    assert other.locator("#question textarea").input_value() == ""
