"""The trainings of the embedded models."""
