"""A run's site in a browser: filter, search, next, compare, 10,000 traces, keyboard, phone, and no fault that axe-core calls serious."""

import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from act2see.report.site import write_view
from act2see.storage.runs import Run
from viewed_runs import eval_run, outcome, question

pytestmark = pytest.mark.browser

Open = Callable[..., Any]
MANY = 10_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty-one traces and a question without one, opened as a file."""
    folder = tmp_path_factory.mktemp("one")
    return write_view(eval_run(folder / "run", 41)).page.absolute().as_uri()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("two")
    return write_view(eval_run(folder / "a", 12), eval_run(folder / "b", 12, wrong=(0, 2))).page.absolute().as_uri()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lines of 250 traces under 10,000 ids."""
    run = eval_run(tmp_path_factory.mktemp("many") / "run", 250)
    path = run.folder / "traces.jsonl"
    lines = path.read_text(encoding="ascii").splitlines()
    with path.open("w", encoding="ascii") as file:
        for number in range(MANY):
            file.write(re.sub(r'"id": "q\d+"', f'"id": "q{number:05}"', lines[number % 250], count=1) + "\n")
    run.write_scores({"id": f"q{number:05}", "kind": "k", "outcome": outcome(number)} for number in range(MANY))
    return write_view(Run.open(run.folder)).page.absolute().as_uri()


def title(page: Any) -> str:
    return str(page.locator("#trace .question").first.inner_text())


def count(page: Any) -> str:
    return str(page.locator("#count").inner_text())


def test_the_first_trace_is_shown_with_its_frames(site: str, open_page: Open) -> None:
    page = open_page(site)
    page.wait_for_selector("#trace article")
    assert (title(page), count(page)) == ("What colour is star 0?", "42 traces")
    page.wait_for_function("[...document.querySelectorAll('#rows img')].slice(0, 5).every((one) => one.complete && one.naturalWidth === 64)")
    assert page.locator("#trace svg.image").first.bounding_box()["width"] > 50


def test_filters_count_what_they_show_and_stay_in_the_address(site: str, open_page: Open) -> None:
    page = open_page(site)
    wrong = [number for number in range(41) if outcome(number) == "wrong"]
    page.locator(".chip", has_text="wrong").click()
    assert count(page) == f"{len(wrong)} of 42 traces"
    page.locator('select[data-facet="tool"]').select_option("generate")
    both = [number for number in wrong if number % 3 == 2]
    assert count(page) == f"{len(both)} of 42 traces"
    assert page.locator(".row .name").all_inner_texts() == [f"What colour is star {number}?" for number in both]
    assert page.locator('select[data-facet="tool"] option[value="none"]').inner_text() == f"no call ({len([n for n in wrong if n % 3 == 0])})"
    again = open_page(page.url)
    assert count(again) == f"{len(both)} of 42 traces"
    assert again.locator('.chip[aria-pressed="true"]').inner_text().startswith("✗ wrong")
    page.locator("#clear").click()
    assert count(page) == "42 traces"


def test_search_finds_questions_queries_and_ids(site: str, open_page: Open) -> None:
    page = open_page(site)
    page.keyboard.press("/")
    page.keyboard.type("STAR 17")
    assert page.locator(".row .name").all_inner_texts() == ["What colour is star 17?"]
    for text, found in (("a green square", 13), ("q-lost", 1), ("nothing like it", 0)):
        page.locator("#search").fill(text)
        assert page.locator("#count").inner_text() == f"{found} of 42 traces"
    page.keyboard.press("Escape")
    assert count(page) == "42 traces"


def test_sorting_puts_the_most_first(site: str, open_page: Open) -> None:
    page = open_page(site)
    page.locator("#sort").select_option("score-")
    assert page.locator(".row .name").first.inner_text() == "What colour is star 1?"  # the first that has a score
    page.locator("#sort").select_option("")
    assert page.locator(".row .name").first.inner_text() == "What colour is star 0?"


def test_all_of_it_is_used_by_keyboard(site: str, open_page: Open) -> None:
    page = open_page(site)
    page.wait_for_selector("#trace article")
    for key, number in (("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        page.wait_for_function(f"document.querySelector('#trace .question').textContent === 'What colour is star {number}?'")
    page.locator("#list").focus()
    for key, name in (("ArrowDown", "What colour is star 2?"), ("End", "q-lost"), ("Home", "What colour is star 0?")):
        page.keyboard.press(key)
        chosen = page.locator('.row[aria-selected="true"]')
        assert chosen.locator(".name").inner_text() == name
        assert page.locator("#list").get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_single_keys_can_be_turned_off(site: str, open_page: Open) -> None:
    page = open_page(site)
    page.wait_for_selector("#trace article")
    page.keyboard.press("?")
    page.locator("#single-keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.locator("#position").inner_text() == "1 of 42"


def test_a_question_without_a_trace_says_why(site: str, open_page: Open) -> None:
    page = open_page(f"{site}#trace=q-lost")
    page.wait_for_selector("#trace .message")
    assert "clip.mp4 cannot be opened" in page.locator("#trace").inner_text()


def test_a_mark_on_the_timeline_leads_to_its_look(site: str, open_page: Open) -> None:
    page = open_page(f"{site}#trace=q001")
    page.locator("#trace .pin .head").click()
    assert page.evaluate("document.activeElement.id").endswith("look-1")
    assert "trace=q001" in page.url


def test_imagined_frames_are_marked_in_the_list_and_the_trace(site: str, open_page: Open) -> None:
    page = open_page(f"{site}#trace=q002")
    page.wait_for_selector("#trace article")
    assert page.locator("#trace .badge").inner_text() == "IMAGINED, not in the video"
    assert page.locator("#row-2 .thumb.imagined").count() == 1
    assert page.locator("#trace .pin").count() == 0


def test_two_runs_are_compared_side_by_side(pair: str, open_page: Open) -> None:
    page = open_page(pair)
    assert "What the second run gained and lost" in page.locator("#trace").inner_text()
    page.locator(".chip", has_text="lost").click()
    assert count(page) == "2 of 13 questions"
    page.keyboard.press("j")
    page.wait_for_selector("#trace article")
    left, right = page.locator(".side").all()
    assert [side.locator(".question").inner_text() for side in (left, right)] == ["What colour is star 0?"] * 2
    assert [side.locator(".verdict .pill").first.inner_text() for side in (left, right)] == ["✓ correct", "✗ wrong"]
    assert left.bounding_box()["x"] + left.bounding_box()["width"] <= right.bounding_box()["x"]


def test_ten_thousand_traces_keep_few_rows_in_the_page(many: str, open_page: Open) -> None:
    page = open_page(many)
    page.wait_for_selector("#trace article")
    assert count(page) == "10,000 traces"
    page.locator("#list").focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('.row[aria-selected=\"true\"] .name').textContent === 'What colour is star 249?'")
    assert page.locator("#position").inner_text() == "10,000 of 10,000"
    assert page.locator(".row").count() < 40
    page.locator("#search").fill("q04321")
    assert count(page) == "1 of 10,000 traces"
    for _ in range(300):
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.querySelectorAll('script[src^=\"data/traces\"]').length") == 0  # each goes once it has run


def test_a_run_is_looked_through_on_a_phone(site: str, open_page: Open) -> None:
    page = open_page(site, width=390)
    assert page.locator("#list").is_visible()
    assert not page.locator("#detail").is_visible()
    page.locator(".row").nth(1).click()
    page.wait_for_selector("#trace article")
    assert (title(page), page.locator("#list").is_visible()) == ("What colour is star 1?", False)
    page.locator("#next").click()
    page.wait_for_function("document.querySelector('#trace .question').textContent === 'What colour is star 2?'")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#back").click()
    assert page.locator("#list").is_visible()


def test_the_colours_are_chosen(site: str, open_page: Open) -> None:
    page = open_page(site)

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.locator("#theme").click()  # light
    assert background() == light
    page.locator("#theme").click()
    dark = background()
    assert dark != light
    page.emulate_media(color_scheme="dark")
    page.locator("#theme").click()  # the system's again
    assert background() == dark


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(width: int, dark: bool, site: str, pair: str, open_page: Open, faults: Callable[[Any], list[str]]) -> None:
    for address in (site, f"{site}#trace=q001", f"{site}#trace=q002", f"{site}#outcome=wrong&trace=q-lost", pair, f"{pair}#trace=q001"):
        page = open_page(address, width=width, dark=dark)
        page.wait_for_selector("#trace article, #trace .message, #trace .overview", state="attached")
        assert faults(page) == [], address
    page.keyboard.press("?")
    assert faults(page) == []


@pytest.fixture
def host(site: str) -> Iterator[str]:
    """The site on a static host."""
    folder = Path(site.removeprefix("file://")).parent

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    server.shutdown()
    server.server_close()


def test_it_works_from_a_static_host(host: str, open_page: Open) -> None:
    page = open_page(host)
    page.wait_for_selector("#trace article")
    page.wait_for_function("document.querySelector('#rows img').naturalWidth === 64")
    assert title(page) == "What colour is star 0?"


def test_hostile_texts_run_nothing(tmp_path: Path, open_page: Open) -> None:
    attack = '"><img src=x onerror="window.hit=1"><script>window.hit=1</script><svg onload="window.hit=1">'
    run = eval_run(tmp_path / "run", 2, traces=[question(0, attack), question(1, "</template>" + attack)])
    page = open_page(write_view(run).page.absolute().as_uri())
    for number, text in enumerate((attack, "</template>" + attack)):
        page.wait_for_function(f"document.querySelector('#position').textContent.startsWith('{number + 1} of')")
        page.wait_for_selector("#trace article")
        assert page.locator("#trace .question").inner_text() == text
        page.keyboard.press("j")
    assert page.evaluate("window.hit") is None
