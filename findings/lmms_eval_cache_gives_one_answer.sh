#!/usr/bin/env bash
# lmms-eval: --use_cache gives k repetitions of a question one and the same answer, and the old answer to a video that was replaced.
#
# A response's key holds the task, the request's number and text, its generation arguments and the model's arguments as written. The K repetitions of
# a request are the same request K times, so they share one key: the first run asks the model K times and keeps the last answer, the second takes it K
# times. A video is told by its path in the document, which is not in the key, nor is the file's content.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q loguru
"$work/venv/bin/pip" install -q --no-deps lmms-eval==0.7.3
cat > "$work/ask.py" <<'PYTHON'
import importlib.metadata
import importlib.util
import itertools
import sys
import types
from pathlib import Path

from loguru import logger

logger.remove()
print("lmms-eval", importlib.metadata.version("lmms_eval"))
# The package's own __init__ imports all of its requirements; the cache needs none of them.
root = Path(importlib.util.find_spec("lmms_eval").submodule_search_locations[0])
for name in ("lmms_eval", "lmms_eval.api", "lmms_eval.caching"):
    package = types.ModuleType(name)
    package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    sys.modules[name] = package
from lmms_eval.api.instance import Instance
from lmms_eval.caching.response_cache import ResponseCache

folder = Path(sys.argv[1])
video = folder / "clip.mp4"


class Model:
    """Answers with what the video holds and how often it was asked."""

    asked = itertools.count(1)

    def generate_until(self, requests):
        return [f"{request.args[2](None)[0].read_text()}, asked {next(self.asked)} times" for request in requests]


def run() -> list[str]:
    request = Instance(
        request_type="generate_until",
        arguments=("What is shown?", {"do_sample": False}, lambda doc: [video], 0, "task", "test"),
        idx=0,
        metadata={"task": "task", "doc_id": 0, "repeats": 3},
    )
    # As ResponseCache.create makes it for --model model --model_args weights=folder.
    cache = ResponseCache(str(folder / "cache.db"), str(folder / "cache.jsonl"), model_fingerprint='model|{"weights":"folder"}')
    return cache.execute(Model(), "generate_until", [request] * request.repeats)


video.write_text("a star")
first = run()
video.write_text("a ring")
second = run()
print("first run, the video shows a star:", first)
print("second run, the video shows a ring:", second)
sys.exit(not (len(set(first)) == 3 and len(set(second)) == 1 and second[0].startswith("a star")))
PYTHON
"$work/venv/bin/python" "$work/ask.py" "$work"
