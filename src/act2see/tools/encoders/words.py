"""Bag-of-words text embeddings, without a model. For tests and for the synthetic world with its small vocabulary."""

import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH = 4096
_WORD = re.compile(r"\w+")
SMALL_WORDS = frozenset(re.findall(r"\w+", "a an and are as at be by for from i in is it its of on or so that the there this to was were which with"))


class Words:
    """Hashes each word to one of `WIDTH` dimensions (CRC-32) and takes the square root of its count. Deterministic on every machine."""

    name = "words"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of shape (texts, WIDTH); zeros for a text without words."""
        vectors = np.zeros((len(texts), WIDTH), np.float32)
        for row, text in enumerate(texts):
            counts = Counter(word for word in _WORD.findall(text.casefold()) if word not in SMALL_WORDS)
            for word, count in counts.items():
                vectors[row, zlib.crc32(word.encode()) % WIDTH] += count
        vectors = np.sqrt(vectors)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return vectors
