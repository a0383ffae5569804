"""What finds a frame by a text."""
