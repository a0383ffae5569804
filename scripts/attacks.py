"""Attacks act2see with malformed videos, misbehaving servers, changed run folders and hypothesis' inputs, and prints a table of the results.

    python scripts/attacks.py
    python scripts/attacks.py --only videos --name "one frame"

Each item runs in an empty folder, with a time limit, in its own process. It passes with its expected result: the known answer, or one line that names
the cause; never a traceback, a hang, a second error line, an escape sequence on a stream, or a change outside the folder. Failures are listed with
the command that runs them alone; exit code 1 if there are any.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence

from act2see.cli.output import progressing
from attacking import parsers, runs, servers, videos
from attacking.harness import Item, Kinds, Result, machine, run_all

KINDS: Kinds = {"videos": videos.items, "servers": servers.items, "runs": runs.items, "parsers": parsers.items}


def main(arguments: Sequence[str]) -> int:
    """Run the selected items and print the table; returns the exit code."""
    asked = _asked(arguments)
    begun = time.monotonic()
    wanted = {kind: [item for item in KINDS[kind](asked.seed) if asked.name in (None, item.name)] for kind in asked.only}
    count = sum(map(len, wanted.values()))
    if not count:
        print(f"no item is named {asked.name!r}", file=sys.stderr)
        return 2
    results = list(progressing(run_all(KINDS, wanted, asked.seed, asked.workers), "attacks", count))
    wrong = sorted((one for one in results if one.wrong), key=lambda one: (one.kind, one.item.name))
    for one in wrong:
        print(f"wrong: {one.item.name!r}\n    python scripts/attacks.py --only {one.kind} --seed {asked.seed} --name {_quoted(one.item.name)}")
        for line in one.wrong:
            print(f"    {_printable(line)}")
    table = [_row(kind, [one for one in results if one.kind == kind]) for kind in wanted]
    if asked.json:
        found = [{"kind": one.kind, "name": one.item.name, "wrong": list(one.wrong)} for one in wrong]
        print(json.dumps({"table": table, "wrong": found, "seed": asked.seed, "seconds": round(time.monotonic() - begun, 1), "made_with": machine()}))
    else:
        _tell(table, asked.seed, time.monotonic() - begun)
    return 1 if wrong else 0


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=[*KINDS], default=[*KINDS], help="Kinds of input.")
    parser.add_argument("--name", help="Run only the item with this name.")
    parser.add_argument("--seed", type=int, default=0, help="Random seed of the generated inputs.")
    parser.add_argument("--workers", type=int, default=2, help="Items to run in parallel.")
    parser.add_argument("--json", action="store_true", help="Print one line of JSON at the end.")
    return parser.parse_args(arguments)


def _row(kind: str, results: Sequence[Result]) -> dict[str, str | int]:
    right = [one for one in results if not one.wrong]
    return {"kind": kind, "tried": _inputs([one.item for one in results]), "right": _inputs([one.item for one in right])}


def _inputs(items: Sequence[Item]) -> int:
    return sum(item.inputs for item in items)


def _tell(table: Sequence[dict[str, str | int]], seed: int, seconds: float) -> None:
    print("| kind of input | tried | right |\n|---|---|---|")
    for row in table:
        print(f"| {row['kind']} | {row['tried']:,} | {row['right']:,} |")
    print(f"seed {seed}, {seconds:.0f} s; " + ", ".join(f"{name} {version}" for name, version in machine().items()))


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in line)


def _quoted(name: str) -> str:
    return "'" + _printable(name).replace("'", "'\\''") + "'"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
