"""Frame encoders and text embedders: images and texts as vectors in a shared space. One file per model family."""
