"""Vision-language models, local and behind servers."""
