"""Servers: OpenAI-compatible HTTP, and MCP."""
