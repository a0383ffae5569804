"""Parses Python literals in a model's text as the official scripts do, without evaluating code."""

import ast
import warnings


def literal(text: str) -> object:
    """The value of a text that is a Python literal. Raises `ValueError` or `SyntaxError` for any other text.

    Some texts raise other errors, as in Python: `TypeError` (a list as a key), `MemoryError` and `RecursionError` (nested too deeply).
    """
    with warnings.catch_warnings():  # about invalid escape sequences, which are the model's
        warnings.simplefilter("ignore")
        value: object = ast.literal_eval(text)
    return value
