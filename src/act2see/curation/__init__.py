"""Training data: construction, filtering, review, decontamination and export."""
