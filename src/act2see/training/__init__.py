"""Supervised fine-tuning on interleaved traces; so far: what the embedded models are made with."""
