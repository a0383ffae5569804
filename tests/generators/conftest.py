"""A diffusion pipeline of the real classes with random weights, in a folder."""

from pathlib import Path

import pytest
import torch

from act2see.training.micro.generator import make_codec, make_text_encoder, make_text_tokenizer, make_transformer, save_pipeline


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to: copy it."""
    torch.manual_seed(0)
    tokenizer = make_text_tokenizer(count=100)
    made = tmp_path_factory.mktemp("tiny-pipeline") / "model"
    first, second = make_text_encoder(len(tokenizer), 96), make_text_encoder(len(tokenizer), 32)
    save_pipeline(made, tokenizer, make_transformer(), first, second, make_codec())
    return made
