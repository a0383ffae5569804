"""How fast a run of 10,000 traces becomes a site, and how fast Chromium shows and filters it.

The run is made here: 1,000 clips of ten initial frames, ten questions each, two thirds of them with a look. The browser part needs playwright and a
Chromium (`make test-browser` names both); without them the script says so and measures the rest.

    python benchmarks/view.py [--traces 10000] [--folder DIR] [--chromium PATH]
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from PIL import Image

from act2see.core.trace import Answer, Cost, Frame, Generate, Match, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.evaluation.scores import OUTCOMES, Score
from act2see.report.site import write_view
from act2see.storage.frames import encoded, name_of
from act2see.storage.records import encode_trace
from act2see.storage.runs import Run

FIRST_PAINT_SECONDS, FILTER_SECONDS, TRACES_A_SECOND = 2.0, 0.1, 500.0
"""What is wanted."""
QUESTIONS_A_CLIP, INITIAL, SIZE = 10, 10, (64, 48)
CURVE = tuple((number / 4, ((number * 7) % 40) / 40) for number in range(200))


def traces(count: int) -> Iterator[Trace]:
    """Questions about clips whose frames are all different."""
    for number in range(count):
        clip = number // QUESTIONS_A_CLIP
        frames = tuple(Frame(_picture(clip, second), float(second)) for second in range(INITIAL))
        looks: tuple[tuple[Step, ...], ...] = (
            (),
            (Retrieve("the red star"), Observation((Frame(_picture(clip, 10 + number % 3), 4.5, 0.8, match=Match(45, curve=CURVE)),))),
            (Generate("a green star"), Observation((Frame(_picture(clip, 20), None, provenance=Provenance("a green star", 4.0, "painter", 0)),))),
        )
        yield Trace(
            id=f"held-out-{number:05}",
            video=f"clips/clip-{clip:04}.mp4",
            question=f"What colour is the star that appears in clip {clip} for the time {number % QUESTIONS_A_CLIP}?",
            frames=frames,
            choices=("red", "green", "blue", "yellow"),
            duration_seconds=50.0,
            steps=[Thought("<think>I look at what the frames show, one after the other. " * 4), *looks[number % 3], Answer("BADC"[number % 4])],
            finish="answer",
            cost=Cost(900 + number % 300, 100 + number % 77, 0, {"prefill": 0.2, "decode": 0.9 + number % 50 / 100}),
            made_with=dict.fromkeys(("backend", "model", "rendering", "decoding", "tools", "retriever"), "as a run records it"),
        )


def _picture(clip: int, number: int) -> Image.Image:
    picture = Image.new("RGB", SIZE, (clip % 256, clip // 256 * 40, 60))
    picture.paste((250, 200 - 5 * number, 40), (number * 2, 10, number * 2 + 16, 26))
    return picture


def make_run(folder: Path, count: int) -> Run:
    """The run, written without waiting for the disk at every line, as `act2see eval` does."""
    run = Run.create(folder, command="eval", config={"benchmark": "made-up"}, seed=0)
    (folder / "frames").mkdir(exist_ok=True)
    known: dict[bytes, str] = {}
    scores = []

    def kept(frame: Frame) -> str:
        key = frame.image.tobytes() + bytes([frame.provenance is not None])
        if key not in known:
            known[key] = name_of(frame)
            (folder / "frames" / known[key]).write_bytes(encoded(frame, "PNG"))
        return known[key]

    with (folder / "traces.jsonl").open("w", encoding="ascii") as file:
        for number, trace in enumerate(traces(count)):
            file.write(json.dumps(encode_trace(trace, kept)) + "\n")
            outcome = OUTCOMES[number % 7 % len(OUTCOMES)] if number % 7 < 4 else "correct"
            scores.append(Score(trace.id, f"kind {number % 5}", outcome, number=number, video=trace.video, options=4, guesses=("always B",)))
    run.write_scores(score.row() for score in scores)
    return run


def write(run: Run, out: Path) -> tuple[float, float]:
    """Wall and CPU seconds of writing the site."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    write_view(run, out=out)
    return time.perf_counter() - begun, time.process_time() - begun_cpu


FILTER = """async () => {
  const select = document.querySelector('select[data-facet="kind"]');
  const times = [];
  for (const option of [...select.options].slice(0, 6)) {
    const begun = performance.now();
    select.value = option.value;
    select.dispatchEvent(new Event("change"));
    document.getElementById("list").getBoundingClientRect(); // laid out
    times.push(performance.now() - begun);
    await new Promise(requestAnimationFrame);
  }
  const search = document.getElementById("search");
  for (const text of ["c", "cl", "clip 99", "nothing like it", ""]) {
    const begun = performance.now();
    search.value = text;
    search.dispatchEvent(new Event("input"));
    document.getElementById("list").getBoundingClientRect();
    times.push(performance.now() - begun);
    await new Promise(requestAnimationFrame);
  }
  return times;
}"""


def browse(page_file: Path, chromium: str) -> dict[str, float] | None:
    """Seconds until the first paint, until the list and the first trace are there, and of filtering; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        begun = time.perf_counter()
        page.goto(page_file.absolute().as_uri(), wait_until="commit")
        page.wait_for_selector(".row")
        page.wait_for_selector("#trace article")
        ready = time.perf_counter() - begun
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
        times = page.evaluate(FILTER)
        rows = page.evaluate("document.querySelectorAll('.row').length")
        browser.close()
    seconds = {"filter": median(times) / 1000, "slowest filter": max(times) / 1000}
    return seconds | {"first paint": paint, "list and first trace": ready, "rows in the page": rows}


def main() -> None:
    """Measure, and print a line for each figure with what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keep the run and its site here")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        run = Run.open(folder / "run") if (folder / "run").exists() else make_run(folder / "run", given.traces)
        wall, cpu = write(run, folder / "site")
        count = sum(1 for _ in run.places())
        size = sum(path.stat().st_size for path in (folder / "site" / "data").iterdir())
        print(f"{count:,} traces, {size / 2**20:.0f} MiB of data besides frames")
        print(f"written at {count / wall:.0f} traces a second, {count / cpu:.0f} a CPU second (wanted: {TRACES_A_SECOND:.0f})")
        found = browse(folder / "site" / "index.html", given.chromium)
        if found is None:
            print("playwright is not installed: the browser's figures are left out")
            return
        print(f"first paint after {found['first paint']:.2f} s (wanted: {FIRST_PAINT_SECONDS:g})")
        print(f"list and first trace after {found['list and first trace']:.2f} s")
        slowest = f"slowest {1000 * found['slowest filter']:.0f} ms"
        print(f"filters and searches {1000 * found['filter']:.0f} ms, {slowest} (wanted: {1000 * FILTER_SECONDS:.0f} ms)")
        print(f"{found['rows in the page']:.0f} rows in the page")


if __name__ == "__main__":
    main()
