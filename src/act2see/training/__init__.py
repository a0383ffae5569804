"""Fine-tuning on traces, and the trainings of the embedded models."""
