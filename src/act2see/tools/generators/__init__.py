"""Image generators and their judges."""
