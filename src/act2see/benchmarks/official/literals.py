"""Numbers and lists as Python writes them, read from a model's text as the official scripts read them. Nothing is ever evaluated."""

import ast
import warnings
from typing import Any


def literal(text: str) -> Any:
    """What a text stands for that is a Python literal and nothing else. Raises `ValueError` or `SyntaxError` for any other.

    A few texts are refused in further ways, as Python refuses them: `TypeError` (a list as a key), `MemoryError` and `RecursionError` (too deep).
    """
    with warnings.catch_warnings():  # of an escape that Python does not know: the text is not ours to mend
        warnings.simplefilter("ignore")
        return ast.literal_eval(text)
