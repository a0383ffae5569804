"""Sanitize external text for printing: no terminal escapes, no forged lines, no invalid UTF-8."""

import re

_MARKS = "\u202a-\u202e\u2066-\u2069"
_STEERING = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_MARKS}]")
"""Control characters (escape sequences begin with one, or are one) and bidirectional overrides. Line feeds and tabs stay."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_BREAKS = re.compile("[\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]|\r\n?")


def is_well_formed(text: str) -> bool:
    """Whether the text can be encoded as UTF-8, that is, has no lone surrogate."""
    return _SURROGATE.search(text) is None


def plain(text: str) -> str:
    """The text without control characters and bidirectional overrides; line feeds and tabs stay, a lone surrogate becomes its escape (`\\udcff`)."""
    return _SURROGATE.sub(lambda found: f"\\u{ord(found.group()):04x}", _STEERING.sub("", text))


def one_line(text: str) -> str:
    """The text of `plain` on a single line: line breaks and tabs become spaces, so that data cannot imitate a line of ours."""
    return plain(_BREAKS.sub(" ", text).replace("\t", " "))
