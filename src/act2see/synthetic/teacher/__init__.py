"""A scripted teacher with known faults."""
