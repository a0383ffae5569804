"""`python -m act2see` is the same as `act2see`."""

from act2see.cli import entry

entry()
