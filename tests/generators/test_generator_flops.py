"""FLOPs of Stable Diffusion 3 by formula, against torch's counter: the embedded generator, and a tiny one with all parts of the paper's."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Img2ImgPipeline
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from act2see import registry
from act2see.core.flops import counting
from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings, Preset
from act2see.training.micro.generator import make_text_tokenizer

ANCHOR = Image.new("RGB", (64, 64), "navy")


def _check(painter: DiffusionPainter, strength: float) -> None:
    with counting() as found, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as mode:
        painter.paint("a red star", ANCHOR, seed=0, strength=strength)
    assert found["generator"] == pytest.approx(mode.get_total_flops(), rel=0.02)


def test_the_embedded_generator_is_counted_as_torch_counts_it() -> None:
    painter = DiffusionPainter.load(DiffusionSettings(model=str(registry.MICRO / "generator"), device="cpu"))
    _check(painter, 0.375)
    _check(painter, 0.25)  # the texts and the anchor are remembered


def _clip() -> Any:
    settings = CLIPTextConfig(
        vocab_size=700,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=64,
    )
    return CLIPTextModelWithProjection(settings).eval()


@pytest.fixture
def whole() -> Any:
    """With three text encoders, a codec with attention, dual attention layers and guidance, as Stable Diffusion 3.5 has them."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=128,
        caption_projection_dim=128,
        pooled_projection_dim=128,
        pos_embed_max_size=32,
        dual_attention_layers=(0, 1),
        qk_norm="rms_norm",
    )
    vae = AutoencoderKL(
        latent_channels=4,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        norm_num_groups=8,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    tokenizer = make_text_tokenizer()
    t5 = T5EncoderModel(T5Config(vocab_size=700, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"))
    return StableDiffusion3Img2ImgPipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae.eval(),
        text_encoder=_clip(),
        tokenizer=tokenizer,
        text_encoder_2=_clip(),
        tokenizer_2=tokenizer,
        text_encoder_3=t5.eval(),
        tokenizer_3=tokenizer,
    )


@pytest.mark.parametrize("guidance", [1.0, 3.5])
def test_all_parts_of_the_papers_pipeline_are_counted_as_torch_counts_them(whole: Any, guidance: float) -> None:
    painter = DiffusionPainter(whole, DiffusionSettings("x", strengths=(0.6,)), Preset("x", 5, guidance), 64 * 64)
    _check(painter, 0.6)


def test_a_pipeline_without_a_formula_is_unknown() -> None:
    class Other:
        """What every pipeline has."""

        vae = SimpleNamespace(encode=lambda image: image)

        def set_progress_bar_config(self, *, disable: bool) -> None: ...

        def encode_prompt(self, prompt: str) -> str:
            return prompt

        def __call__(self, image: Image.Image, **asked: object) -> SimpleNamespace:
            return SimpleNamespace(images=[image])

    pipeline: Any = Other()
    painter = DiffusionPainter(pipeline, DiffusionSettings("x"), Preset("x", 4, None), 64 * 64)
    with counting() as found:
        painter.paint("a red star", ANCHOR, seed=0, strength=None)
    assert found == {"generator": None}
