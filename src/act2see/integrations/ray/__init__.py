"""Construction and evaluation on a Ray cluster."""
