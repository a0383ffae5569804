"""Benchmarks: data sets with scoring rules, independent of any model."""
