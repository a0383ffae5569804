"""What a tool call runs: frame encoders, the video index, retrievers and generators."""
