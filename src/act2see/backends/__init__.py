"""Vision-language models, local and on servers."""
