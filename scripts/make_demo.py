"""Writes the demo's bundled clips: first held-out questions of another seed than the benchmark's; the last one is about a moved shape.

python scripts/make_demo.py [SEED]
"""

import json
import sys
from pathlib import Path

from act2see.synthetic.dataset import Kind, items
from act2see.synthetic.edits import Move
from act2see.synthetic.hypothetical import Hypothetical
from act2see.synthetic.questions import Question

DEMO = Path(__file__).parent.parent / "src" / "act2see" / "synthetic" / "demo"
WANTED: tuple[Kind, ...] = ("static", "transient", "transient", "hypothetical")


def is_wanted(question: Question | Hypothetical) -> bool:
    """Of hypothetical questions those about a moved shape: they are the easiest to follow by eye."""
    return not isinstance(question, Hypothetical) or isinstance(question.edit, Move)


def main() -> None:
    """Write clips and questions.json."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 2026
    DEMO.mkdir(exist_ok=True)
    found = list(items("held-out", 12, seed, ("static", "transient", "hypothetical")))
    records = []
    for number, kind in enumerate(WANTED, start=1):
        item = next(item for item in found if item.question.kind == kind and is_wanted(item.question))
        found.remove(item)
        name = f"clip-{number}.mp4"
        item.clip.write(DEMO / name)
        question = item.question
        records.append({"video": name, "question": question.text, "choices": list(question.choices), "answer": question.answer})
    records.insert(0, records.pop(WANTED.index("transient")))  # one that needs a look opens the report
    (DEMO / "questions.json").write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
