"""What the tests of the scripted teacher share."""

import pytest

from act2see.synthetic.dataset import Item, items
from teacher_fakes import KINDS


@pytest.fixture(scope="session")
def some() -> list[Item]:
    """Twenty of each kind: fewer than the teacher remembers, so that the tests are quick."""
    return list(items("train", 60, 0, KINDS))
