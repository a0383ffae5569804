"""Inputs that try to end a run, to leave their place or to be answered wrongly; `scripts/attacks.py` runs them all."""
