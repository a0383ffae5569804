"""Guesses of the next tokens: made where words came back, and never seen in a text."""

from act2see.backends.drafts import Drafts


def learnt(drafts: Drafts, ids: list[int]) -> Drafts:
    for end in range(1, len(ids) + 1):
        drafts.learn(ids[:end])
    return drafts


def test_words_that_came_back_are_drafted_up_to_the_longest() -> None:
    drafts = learnt(learnt(Drafts(longest=3), list(range(8))), list(range(8)))
    assert drafts.after([9, 0, 1]) == [2, 3, 4]
    assert drafts.after([5, 6]) == [7]
    assert drafts.after([7, 3]) == []


def test_words_seen_once_or_followed_by_others_are_not_drafted() -> None:
    drafts = learnt(Drafts(), [1, 2, 3])
    assert drafts.after([1, 2]) == []
    learnt(drafts, [1, 2, 3])
    assert drafts.after([1, 2]) == [3]
    learnt(drafts, [1, 2, 4])
    assert drafts.after([1, 2]) == []


def test_a_longer_context_decides_before_a_shorter_one() -> None:
    drafts = Drafts(longest=1)
    for ids in ([7, 1, 2, 3], [7, 1, 2, 3], [8, 1, 2, 4], [8, 1, 2, 4]):
        learnt(drafts, ids)
    assert drafts.after([7, 1, 2]) == [3]
    assert drafts.after([8, 1, 2]) == [4]
