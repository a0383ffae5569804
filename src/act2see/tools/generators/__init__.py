"""What makes pictures of things that never happened."""
