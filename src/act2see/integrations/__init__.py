"""Integrations with Ray, Inspect and lmms-eval."""
