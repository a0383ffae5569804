"""Pages in Chromium, driven by playwright. What a page prints on the console, or requests from elsewhere, fails the test that opened it."""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

Open = Callable[..., Any]
_OF_GRADIO = "Method not implemented."
"""A warning of Gradio's own video component at every upload."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("the browser tests need playwright and axe-playwright-python: pip install 'act2see[browser]'", pytrace=False)
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("the browser tests need Chromium: name it with CHROMIUM=/path/to/chromium", pytrace=False)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Open]:
    """Opens an address in a context of its own: `open_page(address, width=1280, dark=False)`. Its site is the folder or the host of the address."""
    said: list[str] = []
    contexts = []

    def note(address: str, request: Any) -> None:
        own = address.split("#", maxsplit=1)[0].rpartition("/")[0]
        if not request.url.startswith((own, "data:", f"blob:{own}")):
            said.append(f"request to {request.url}")

    def open_address(address: str, *, width: int = 1280, dark: bool = False) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") and message.text != _OF_GRADIO else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        # The page itself ends a stream that it has read, or a part of a video that it no longer needs.
        page.on("requestfailed", lambda request: None if request.failure == "net::ERR_ABORTED" else said.append(f"failed: {request.url}"))
        page.on("request", partial(note, address))
        page.goto(address)
        return page

    yield open_address
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="session")
def faults() -> Callable[[Any], list[str]]:
    """What axe-core finds on a page that is serious or critical: rule, what it wants, and where."""
    from axe_playwright_python.sync_playwright import Axe

    def find(page: Any) -> list[str]:
        # preload would have the page fetch its own styles, which its policy forbids
        found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
        return [
            f"{one['id']}: {one['help']}: {node['html'][:120]}: {node['failureSummary'][:300]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"][:3]
        ]

    return find
