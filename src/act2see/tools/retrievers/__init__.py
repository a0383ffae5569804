"""Frame retrievers: frames of a video that match a text."""
