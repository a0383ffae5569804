"""A benchmark asked and scored, compared and ablated."""
