"""What the tests of the embedded models' trainings share."""

import pytest
from transformers import PreTrainedTokenizerFast

from act2see.backends.qwen_tokens import Encoder
from act2see.training.micro.model import make_image_processor, make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(count=100)


@pytest.fixture(scope="session")
def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tokenizer, make_image_processor())
