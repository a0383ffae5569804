"""The vocabulary: values, the protocol, conversations, the plug-in interfaces, and the one reasoning loop."""
