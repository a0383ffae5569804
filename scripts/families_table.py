"""Run the tests of every family of local models, on tiny random weights, and print the outcome as a table.

python scripts/families_table.py
"""

import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1] / "tests" / "backends" / "test_families.py"
COLUMNS = {
    "test_every_prompt_extends_the_last": "law",
    "test_logits_after_looks_are_those_of_one_full_prefill": "logits",
    "test_greedy_text_is_that_of_generate": "text",
    "test_usage_counts_prompt_new_and_reused_tokens": "usage",
    "test_texts_do_not_depend_on_the_number_of_rows": "rows",
}


class Outcomes:
    """Collects what becomes of each test, by model type and column."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest after each phase of a test."""
        test, _, type_name = report.nodeid.rpartition("::")[2].removesuffix("]").partition("[")
        if test in COLUMNS and (report.when == "call" or report.failed):
            self.found[type_name][COLUMNS[test]] = report.outcome


def main() -> int:
    """Run the tests and print the table; the exit code is pytest's."""
    outcomes = Outcomes()
    status = pytest.main(["-q", str(TESTS), "-k", " or ".join(COLUMNS)], plugins=[outcomes])
    print(f"\nTiny random weights, float32, CPU; torch {version('torch')}, transformers {version('transformers')}\n")
    print("| model type | " + " | ".join(COLUMNS.values()) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for type_name, row in outcomes.found.items():
        print(f"| {type_name} | " + " | ".join(row.get(column, "not run") for column in COLUMNS.values()) + " |")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
