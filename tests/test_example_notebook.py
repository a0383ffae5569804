"""The notebook in examples/: its cells run in order, its last expressions are shown as HTML, and it is kept without outputs."""

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import TypedDict

import pytest

from page_elements import parsed

NOTEBOOK = Path(__file__).parents[1] / "examples" / "ask.ipynb"


class Cell(TypedDict):
    cell_type: str
    source: list[str]
    outputs: list[object]


def code_cells() -> list[Cell]:
    read: list[Cell] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in read if cell["cell_type"] == "code"]


def run(source: str, names: dict[str, object]) -> object:
    """Run a cell as a notebook does, and return the value of its last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # type: ignore[attr-defined]  # noqa: S307


def test_it_is_kept_without_outputs() -> None:
    assert [cell["outputs"] for cell in code_cells()] == [[]] * len(code_cells())


@pytest.mark.slow
def test_its_cells_run_in_order() -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    printed, shown = io.StringIO(), []
    with contextlib.redirect_stdout(printed):
        for cell in code_cells():
            shown.append(run("".join(cell["source"]), names))
    assert "looked at ['2.7 s']" in printed.getvalue()
    assert "answer: right" in printed.getvalue()
    assert " prompt tokens reused" in printed.getvalue()
    (trace,) = [value for value in shown if hasattr(value, "_repr_html_")]
    html: str = trace._repr_html_()
    assert parsed(html).one(css_class="question").text == "Where can the cross be seen?"
    assert "2.7 s" in html
    assert isinstance(shown[-1], list)
    assert shown[-1][0][0] == pytest.approx(2.7)
