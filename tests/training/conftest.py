"""What the tests of the embedded models' trainings share."""

from collections.abc import Iterator
from functools import partial

import pytest
from transformers import PreTrainedTokenizerFast

from act2see.backends.encoder import Encoder
from act2see.training.micro import retriever, vlm
from act2see.training.micro.model import make_image_processor, make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(count=100)


@pytest.fixture(scope="session")
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tokenizer, make_image_processor())


@pytest.fixture(scope="module", autouse=True)
def _small_tokenizers() -> Iterator[None]:
    """A training that begins from nothing makes its tokenizer from few texts: from all, that takes longer than the training's steps."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (retriever, vlm):
            patch.setattr(module, "make_tokenizer", partial(make_tokenizer, count=100))
        yield
