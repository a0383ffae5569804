"""Speculative decoding by n-grams: guesses of what a model writes next, from what it has written.

A forward pass checks several tokens at about the price of one.
"""

from collections.abc import Sequence

_CONTEXTS = (5, 3, 2)
"""Lengths of the contexts that are looked up, the longest first. Our choice, as the other numbers here: see docs/performance.md."""
_MOST_CONTEXTS = 2**18
"""Everything is forgotten once more contexts than these are held: about 50 MiB."""
_SURE = 1
"""A context counts once it was followed by the same token so many times more, without another one in between."""


class Drafts:
    """Remembers which token followed the last few ones, in all conversations of a batch.

    A draft is a guess: the caller draws every token itself, and keeps drafted ones as far as they are what it drew. No text depends on it.
    """

    def __init__(self, longest: int = 4) -> None:
        """`longest` is the number of tokens that a draft has at most."""
        self._longest = longest
        self._followed: dict[tuple[int, ...], tuple[int, int]] = {}  # by context: the last token after it, and how often it was repeated

    def learn(self, ids: Sequence[int]) -> None:
        """Note the last of a continuation's tokens as what follows those before it."""
        token = ids[-1]
        for length in _CONTEXTS:
            if len(ids) > length:
                context = tuple(ids[-length - 1 : -1])
                last, repeats = self._followed.get(context, (token, -1))
                self._followed[context] = (token, repeats + 1 if last == token else 0)
        if len(self._followed) > _MOST_CONTEXTS:
            self._followed.clear()

    def after(self, ids: Sequence[int]) -> list[int]:
        """The tokens that probably follow a continuation's; none if nothing like its end was seen."""
        known = list(ids[-_CONTEXTS[0] :])
        drafted: list[int] = []
        while len(drafted) < self._longest and (token := self._next(known)) is not None:
            drafted.append(token)
            known.append(token)
        return drafted

    def _next(self, known: Sequence[int]) -> int | None:
        for length in _CONTEXTS:
            found = self._followed.get(tuple(known[-length:])) if len(known) >= length else None
            if found is not None and found[1] >= _SURE:
                return found[0]
        return None
