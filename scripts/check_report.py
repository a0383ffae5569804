"""Opens a report in headless Chromium; fails if it logs an error or requests anything but itself and data URLs, and takes screenshots.

    python scripts/check_report.py report.html --out shots/

writes shots/{desktop,phone}-{light,dark}.png and shots/print.pdf. Exits with 1 and one line per finding if there is any, with 2 if Chromium
or the file is missing. Needs Chromium (Debian: `apt-get install chromium`) and Python's standard library only. The browser is driven over a
pipe with the DevTools protocol, so that what is counted is the page's own requests, not the browser's; it can reach no host anyway, because
every name is mapped to nowhere.
"""

import argparse
import base64
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VIEWS = {"desktop": (1100, 1600, 1), "phone": (400, 800, 2)}
TIMEOUT_SECONDS = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


class Browser:
    """A headless Chromium and the events that it has reported."""

    def __init__(self, program: str, profile: str) -> None:
        to_browser, self._commands = _pipe()
        self._replies, from_browser = _pipe()
        # Chromium reads commands from descriptor 3 and writes replies and events to 4.
        null = os.open(os.devnull, os.O_WRONLY)
        actions = [(os.POSIX_SPAWN_DUP2, to_browser, 3), (os.POSIX_SPAWN_DUP2, from_browser, 4), (os.POSIX_SPAWN_DUP2, null, 2)]
        self.pid = os.posix_spawn(program, [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"], os.environ, file_actions=actions)
        for descriptor in (to_browser, from_browser, null):
            os.close(descriptor)
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        self._number = 0

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._read()
            if reply.get("id") == self._number:
                if "error" in reply:
                    raise SystemExit(f"Chromium refuses {method}: {reply['error']['message']}")
                result: dict[str, Any] = reply["result"]
                return result
            self.events.append(reply)

    def wait_for(self, method: str) -> None:
        """Wait for an event."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._read())

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._replies, 1 << 20)
            if not data:
                raise SystemExit("Chromium ended before the report was checked")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        return message


def _pipe() -> tuple[int, int]:
    # Above 9, so that handing them over as 3 and 4 overwrites neither.
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]


def check(browser: Browser, report: Path, out: Path) -> list[str]:
    """Open the report, take screenshots, and return the findings."""
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Log", "Runtime", "Audits"):
        browser.call(f"{domain}.enable", session)
    browser.events.clear()
    url = report.resolve().as_uri()
    browser.call("Page.navigate", session, url=url)
    browser.wait_for("Page.loadEventFired")
    out.mkdir(parents=True, exist_ok=True)
    findings = []
    for view, (width, height, scale) in VIEWS.items():
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": view == "phone"}
        browser.call("Emulation.setDeviceMetricsOverride", session, **metrics)
        size = browser.call("Page.getLayoutMetrics", session)["cssContentSize"]
        if size["width"] > width:
            findings.append(f"wider than the {view}'s {width} px: {size['width']} px")
        for scheme in ("light", "dark"):
            browser.call("Emulation.setEmulatedMedia", session, features=[{"name": "prefers-color-scheme", "value": scheme}])
            shot = browser.call("Page.captureScreenshot", session, captureBeyondViewport=True, clip={"x": 0, "y": 0, **_whole(size), "scale": 1})
            (out / f"{view}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
    pdf = browser.call("Page.printToPDF", session, printBackground=False, preferCSSPageSize=True)
    (out / "print.pdf").write_bytes(base64.b64decode(pdf["data"]))
    return findings + [finding for event in browser.events if (finding := _finding(event, url))]


def _whole(size: dict[str, float]) -> dict[str, float]:
    return {"width": size["width"], "height": size["height"]}


def _finding(event: dict[str, Any], url: str) -> str | None:
    parameters = event.get("params", {})
    match event.get("method"):
        case "Network.requestWillBeSent":
            asked = parameters["request"]["url"]
            return None if asked == url or asked.startswith("data:") else f"request: {asked[:200]}"
        case "Log.entryAdded":
            return f"{parameters['entry']['level']}: {parameters['entry']['text']}"
        case "Runtime.exceptionThrown":
            return f"exception: {parameters['exceptionDetails']['text']}"
        case "Runtime.consoleAPICalled":
            return f"console.{parameters['type']}"
        case "Audits.issueAdded":
            return f"issue: {parameters['issue']['code']}"
        case _:
            return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="the HTML file")
    parser.add_argument("--out", type=Path, default=Path("report-check"), help="folder for the screenshots and the PDF (default: report-check)")
    parser.add_argument("--chromium", default="chromium", help="browser executable (default: chromium)")
    options = parser.parse_args(arguments)
    program = shutil.which(options.chromium)
    if program is None:
        parser.error(f"no program {options.chromium!r}: install Chromium, or name it with --chromium")
    if not options.report.is_file():
        parser.error(f"no file {options.report}")
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(f"Chromium did not finish within {TIMEOUT_SECONDS} s"))
    signal.alarm(TIMEOUT_SECONDS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            findings = check(browser, options.report, options.out)
        finally:
            os.kill(browser.pid, signal.SIGTERM)
            os.waitpid(browser.pid, 0)
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"{options.report}: {'no error, no request' if not findings else f'{len(findings)} findings'}; pictures in {options.out}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
