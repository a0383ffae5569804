"""What a call brings: frame encoders, an index of a video, retrievers and generators."""
