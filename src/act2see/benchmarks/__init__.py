"""Data sets with scoring rules; they know no model."""
