"""The benchmark's comparison of the localiser with known results, run as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).parent / "localiser_cases.json"
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "retrieval.py"


def last_line(cases: Path) -> object:
    done = subprocess.run([sys.executable, str(BENCHMARK), "--cases", str(cases)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_all_cases_agree_and_a_wrong_one_is_counted(tmp_path: Path) -> None:
    read = json.loads(CASES.read_text(encoding="utf-8"))
    first, second, third, *_ = read["cases"]
    first["proposals"][0]["dynamic_start"] += 1
    second["proposals"].pop()
    third["proposals"][0]["score"] += 1e-8
    (tmp_path / "wrong.json").write_text(json.dumps(read), encoding="utf-8")
    assert last_line(CASES) == {"cases": 8, "agree": 8}
    assert last_line(tmp_path / "wrong.json") == {"cases": 8, "agree": 5}


def test_the_cases_need_no_torch() -> None:
    code = f"import runpy, sys; sys.modules['torch'] = None; sys.argv = ['retrieval.py', '--cases', {str(CASES)!r}]; "
    code += f"runpy.run_path({str(BENCHMARK)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"cases": 8, "agree": 8}
