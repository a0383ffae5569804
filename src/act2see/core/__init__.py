"""The vocabulary: values, the protocol, conversations, the plug points, and the one loop."""
