"""Operates a page for manual review in headless Chromium, as a reviewer would, and prints the lines that it saves.

    python scripts/check_review.py review.html

Every other trace is kept and the rest rejected, with a note: by the mouse, and the last one by the keyboard. Then the page is opened again, where
everything must still be there, and saved. Prints the saved lines; exits with 1 and one line per finding if they are not what was decided, if the
page logs an error, or asks for anything but itself and data URLs; with 2 if Chromium or the file is missing. Needs what check_report.py needs.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from check_report import TIMEOUT_SECONDS, Browser

NOTE = 'k r n p: “blurred” "quoted" </script>'
"""The page's keys are among it: typed into a note they must decide nothing."""


class Reader:
    """A simulated reviewer of the page."""

    def __init__(self, browser: Browser, page: Path, downloads: Path) -> None:
        self.browser, self.url, self.downloads = browser, page.resolve().as_uri(), downloads
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session: str = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            browser.call(f"{domain}.enable", self.session)
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads), eventsEnabled=True)
        browser.call("Emulation.setDeviceMetricsOverride", self.session, width=1100, height=900, deviceScaleFactor=1, mobile=False)
        self.findings: list[str] = []

    def open(self) -> None:
        """Open the page, or open it again."""
        self._note_findings()
        self.browser.call("Page.navigate", self.session, url=self.url)
        self.browser.wait_for("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.browser.call("Runtime.evaluate", self.session, expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise SystemExit(f"{expression}: {found['exceptionDetails']['text']}")
        return found["result"].get("value")

    def click(self, element: str) -> None:
        """Click in the middle of an element, where nothing may cover it."""
        rectangle = f"(e => {{ e.scrollIntoView({{block: 'center'}}); return e.getBoundingClientRect(); }})({element}).toJSON()"
        box = self.value(rectangle)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.call("Input.dispatchMouseEvent", self.session, type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a letter's key."""
        for kind in ("keyDown", "keyUp"):
            self.browser.call("Input.dispatchKeyEvent", self.session, type=kind, key=key, text=key if kind == "keyDown" else "")

    def decide(self, number: int, *, by_keyboard: bool) -> dict[str, str]:
        """Keep or reject the `number`-th trace; returns the line expected for it."""
        article = f"document.querySelectorAll('article')[{number}]"
        verdict = "reject" if number % 2 else "keep"
        other = "keep" if number % 2 else "reject"
        self.click(f"{article}.querySelector('button[data-verdict={other}]')")  # by mistake
        if by_keyboard:
            self.value(f"{article}.scrollIntoView()")
            self.press(verdict[0])
        else:
            self.click(f"{article}.querySelector('button[data-verdict={verdict}]')")
        if verdict == "reject":
            self.click(f"{article}.querySelector('input')")
            self.browser.call("Input.insertText", self.session, text=NOTE[:-1])
            self.press(NOTE[-1])
        return {"trace": self.value(f"{article}.dataset.trace"), "verdict": verdict, "note": NOTE if verdict == "reject" else ""}

    def save(self) -> str:
        """Save the verdicts; returns the file's content."""
        self._note_findings()
        self.click("document.getElementById('save')")
        while not any(event["params"].get("state") == "completed" for event in self.browser.events if event["method"] == "Browser.downloadProgress"):
            self.browser.events = [event for event in self.browser.events if event["method"] != "Browser.downloadProgress"]
            self.browser.wait_for("Browser.downloadProgress")
        return (self.downloads / "verdicts.jsonl").read_text(encoding="utf-8")

    def expect(self, what: str, expression: str, expected: object) -> None:
        """Record a finding if the page shows another value."""
        if (found := self.value(expression)) != expected:
            self.findings.append(f"{what} is {found!r}, not {expected!r}")

    def _note_findings(self) -> None:
        self.findings += [finding for event in self.browser.events if (finding := _finding(event, self.url))]
        self.browser.events.clear()


def _finding(event: dict[str, Any], url: str) -> str | None:
    parameters = event.get("params", {})
    match event.get("method"):
        case "Network.requestWillBeSent":
            asked = parameters["request"]["url"]
            return None if asked == url or asked.startswith(("data:", "blob:")) else f"request: {asked[:200]}"
        case "Log.entryAdded":
            return f"{parameters['entry']['level']}: {parameters['entry']['text']}"
        case "Runtime.exceptionThrown":
            return f"exception: {parameters['exceptionDetails']['text']}"
        case "Runtime.consoleAPICalled":
            return f"console.{parameters['type']}"
        case _:
            return None


def check(reader: Reader) -> str:
    """Decide on every trace and save; what is wrong is among the reader's findings afterwards."""
    reader.open()
    count = reader.value("document.querySelectorAll('article').length")
    reader.expect("the button to save, before anything is decided,", "document.getElementById('save').disabled", True)
    expected = [reader.decide(number, by_keyboard=number > 0 and number == count - 1) for number in range(count)]
    for place in ("as it was left", "opened again"):
        reader.expect(f"the count, {place},", "document.getElementById('count').textContent", f"{count} of {count}")
        shown = "[...document.querySelectorAll('article')].map(a => [a.dataset.verdict, a.querySelector('input').value])"
        reader.expect(f"the page, {place},", shown, [[one["verdict"], one["note"]] for one in expected])
        if place == "as it was left":
            reader.open()
    saved = reader.save() if count else ""
    if [json.loads(line) for line in saved.encode().splitlines()] != expected:
        reader.findings.append("the saved lines are not what was decided")
    return saved


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path, help="HTML file written by act2see filter --page")
    parser.add_argument("--chromium", default="chromium", help="browser executable (default: chromium)")
    options = parser.parse_args(arguments)
    program = shutil.which(options.chromium)
    if program is None:
        parser.error(f"no program {options.chromium!r}: install Chromium, or name it with --chromium")
    if not options.page.is_file():
        parser.error(f"no file {options.page}")
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"Chromium did not finish within {TIMEOUT_SECONDS} s"))
    signal.alarm(TIMEOUT_SECONDS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryDirectory() as downloads:
        browser = Browser(program, profile)
        try:
            reader = Reader(browser, options.page, Path(downloads))
            print(check(reader), end="")
        finally:
            os.kill(browser.pid, signal.SIGTERM)
            os.waitpid(browser.pid, 0)
    for finding in reader.findings:
        print(finding, file=sys.stderr)
    return 1 if reader.findings else 0


if __name__ == "__main__":
    sys.exit(main())
