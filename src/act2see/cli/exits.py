"""Exit codes."""

ANSWERED, FAILURE, USAGE, NO_ANSWER, INTERNAL, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 70, 130, 141
"""INTERNAL is EX_SOFTWARE of sysexits.h: a bug in act2see or a plug-in."""
