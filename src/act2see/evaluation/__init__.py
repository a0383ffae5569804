"""Evaluation: runs, scores, compares and ablates on benchmarks."""
