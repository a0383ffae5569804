"""Concurrency, cost, rate limits, deadlines, and unexpected errors."""
