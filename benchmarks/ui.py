"""Seconds from a click on Ask to the first word of the reasoning, in Chromium, on the page of act2see ui with the embedded models.

    python benchmarks/ui.py [--clips 5] [--seconds 10] [--json]

For each clip of the synthetic world, two questions: the first decodes and computes the frames, the second reuses them. The first clip only warms up.
Needs the extras `browser`, `local` and `ui`, and a Chromium (CHROMIUM names another than the installed one).
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from act2see.synthetic.questions import ask
from act2see.synthetic.world import make_clip

FIRST_WORD = """() => new Promise((done) => {
  const pane = document.querySelector("#answer-1"), before = pane.textContent, began = performance.now();
  const look = () => pane.querySelector(".thought") && pane.textContent !== before && done((performance.now() - began) / 1000);
  new MutationObserver(look).observe(pane, { childList: true, subtree: true, characterData: true });
  document.querySelector("#ask").click();
})"""


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the clips")
    parser.add_argument("--json", action="store_true", help="print only one line of JSON")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, serving() as address, sync_playwright() as play:
        page = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"]).new_page()
        times = [measured(page, address, Path(folder), options.seconds, seed) for seed in range(options.clips + 1)][1:]
    first, second = (statistics.median(one[number] for one in times) for number in (0, 1))
    found = {"first_word_seconds": {"first question": round(first, 2), "second question": round(second, 2)}, "ratio": round(second / first, 2)}
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


@contextmanager
def serving() -> Iterator[str]:
    """The address of a page, in a process of its own on one thread."""
    command = [sys.executable, "-m", "act2see", "ui", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert server.stderr is not None
        yield next(match[1] for line in server.stderr if (match := re.search(r"(http://\S+);", line)))
    finally:
        server.terminate()
        server.wait(30)


def measured(page, address: str, folder: Path, seconds: float, seed: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Seconds to the first word of two questions about a new clip."""
    rng = random.Random(f"ui {seed}")
    questions = []
    while len(questions) < 2:
        clip = make_clip(rng, seconds=(seconds, seconds))
        questions = ask(rng, clip)
    path = folder / f"clip-{seed}.mp4"
    clip.write(path)
    page.goto(address)
    page.locator("#player input[type=file]").set_input_files(path)
    page.wait_for_function("document.querySelector('#player video')?.src")
    page.wait_for_timeout(1000)  # as a person who types; the upload's event has reached the server then
    taken = []
    for question in questions[:2]:
        page.locator("#question textarea").fill(question.text)
        page.locator("#choices textarea").fill("\n".join(question.choices))
        page.wait_for_timeout(300)
        taken.append(float(page.evaluate(FIRST_WORD)))
        page.wait_for_selector("#answer-1-answer .answer", timeout=120_000)
    return taken[0], taken[1]


if __name__ == "__main__":
    main()
