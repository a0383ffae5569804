"""Runs a benchmark through Inspect and through `act2see eval`; fails unless the counts are equal.

    python scripts/inspect_eval.py [--n 8]

Needs an environment with act2see[local,inspect], as `make` creates it.
"""

import argparse
import json
import subprocess
import sys
import tempfile

from inspect_ai import eval as inspect_eval

from act2see.integrations.inspect import act2see


def main() -> None:
    """Print both counts as a line of JSON; exit code 1 when they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as logs:
        (log,) = inspect_eval(act2see(benchmark="synthetic", n=given.n, max_looks=1), model="none/none", log_dir=logs, display="none")
        theirs = sum(sample.metadata["outcome"] == "correct" for sample in log.samples or [])
    command = [sys.executable, "-m", "act2see", "eval", "synthetic", "--n", str(given.n), "--max-looks", "1", "--json"]
    ours = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])["outcomes"].get("correct", 0)
    print(json.dumps({"n": given.n, "status": log.status, "correct_by_inspect": theirs, "correct_by_eval": ours}))
    sys.exit(log.status != "success" or ours != theirs)


if __name__ == "__main__":
    main()
