"""CPU kernels for the embedded models: attention, patch embedding and normalization in less than half of the time.

The results equal transformers' up to rounding (tested), and saved weights do not depend on them.
"""

import os
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from types import MethodType
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import (
    Qwen3VLTextRMSNorm,
    Qwen3VLVisionAttention,
    Qwen3VLVisionPatchEmbed,
    apply_rotary_pos_emb_vision,
)

from act2see.training.examples import Example, batch_of, collate

Span = tuple[int, int, int, int]
"""Tokens `begin` to `end`, which attend causally to each other and fully to the tokens `prompt` to `prompt_end`."""


class _Attention(Protocol):
    """An attention module of transformers."""

    is_causal: bool


class _Context(Protocol):
    """The context that torch passes to an autograd function."""

    saved_tensors: tuple[torch.Tensor, ...]
    spans: list[Span]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


_SHORT = 128
"""Examples of up to this many tokens are padded into one batch; longer ones are concatenated, with attention per branch."""


def use_cpu_kernels(model: PreTrainedModel) -> None:
    """Patch the model: plain attention, batched over pictures of one size; patch embedding as a matrix product; normalization in few passes.

    The backward pass of PyTorch's fused attention takes 5 ms for a picture of 64 patches and does not skip masked tokens; that of the 3D convolution
    takes 270 ms for 64 pictures. oneDNN caches a kernel per shape, and every batch has another shape: with its default of 1,024 kernels a process
    grows to 7 GB instead of 3 within some hundred steps, and each step takes half as long again.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # read when the first kernel is created
    AttentionInterface.register("plain", _attend)
    model.set_attn_implementation("plain")
    for name, part in model.named_modules():
        forward = _rms_norm_full if name.endswith(("q_norm", "k_norm")) else _FORWARD_OF.get(type(part))
        if forward is not None:
            vars(part)["forward"] = MethodType(forward, part)


def collate_for_cpu(examples: Sequence[Example], pad: int) -> dict[str, torch.Tensor | list[Span]]:
    """A batch for a model with `use_cpu_kernels`: long examples concatenated in one row without padding, with `spans` instead of a mask."""
    if max(len(example.ids) for example in examples) <= _SHORT:
        return {**collate(examples, pad)}
    row = Example(
        ids=np.concatenate([example.ids for example in examples]),
        labels=np.concatenate([example.labels for example in examples]),
        positions=np.concatenate([example.positions for example in examples], axis=1),
        branch=np.concatenate([example.branch for example in examples]),
        pieces=tuple(piece for example in examples for piece in example.pieces),
    )
    return {**batch_of([row], pad)[0], "spans": spans(examples)}


def spans(examples: Sequence[Example]) -> list[Span]:
    """The attention spans of concatenated examples: of each the prompt, then each branch with that prompt."""
    made: list[Span] = []
    begin = 0
    for example in examples:
        sizes = np.bincount(example.branch)
        ends = [begin, *accumulate((int(size) for size in sizes), initial=begin)][1:]
        prompt_end = ends[1]
        made += [(begin, prompt_end, begin, begin)] + [(a, b, begin, prompt_end) for a, b in pairwise(ends[1:]) if b > a]
        begin = ends[-1]
    return made


def _attend(
    module: _Attention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    spans: list[Span] | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers; returns (batch, tokens, heads, values). Needs as many key heads as query heads, and no dropout."""
    if module.is_causal and attention_mask is None and spans is None:
        raise ValueError("the batch has neither a mask nor spans: use collate_for_cpu")
    query, key = query.to(value.dtype) * scaling, key.to(value.dtype)
    with torch.autocast("cpu", enabled=False):  # it would copy all attention weights to float32
        if spans is not None and module.is_causal:
            seen = _by_span(query[0].contiguous(), key[0].contiguous(), value[0].contiguous(), spans)[None]
        else:
            scores = query @ key.transpose(-1, -2)
            if attention_mask is not None:
                scores = scores + _as_summand(attention_mask, scores.dtype)
            seen = torch.softmax(scores, -1) @ value
    return seen.transpose(1, 2), None


def _as_summand(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min / 2)


class _BySpan(torch.autograd.Function):
    """Causal attention, (heads, tokens, values) to the same, computed within spans only."""

    @staticmethod
    def forward(ctx: _Context, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: list[Span]) -> torch.Tensor:
        seen = torch.empty_like(query)
        longest = max(end - begin for begin, end, *_ in spans)
        later = torch.full((longest, longest), torch.finfo(query.dtype).min / 2, dtype=query.dtype).triu_(1)
        weights = []
        for span in spans:
            begin, end, prompt, prompt_end = span
            scores = query[:, begin:end] @ _parts(key, span).transpose(1, 2)
            scores[:, :, prompt_end - prompt :] += later[: end - begin, : end - begin]
            weights.append(torch.softmax(scores, -1))
            seen[:, begin:end] = weights[-1] @ _parts(value, span)
        ctx.save_for_backward(query, key, value, *weights)
        ctx.spans = spans
        return seen

    @staticmethod
    def backward(ctx: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        query, key, value, *weights = ctx.saved_tensors
        (gradient,) = gradients
        gradient = gradient.contiguous()
        of_query, of_key, of_value = (torch.empty_like(part) for part in (query, key, value))
        for span, weight in zip(ctx.spans, weights, strict=True):
            begin, end, prompt, prompt_end = span
            above, size = gradient[:, begin:end], prompt_end - prompt
            of_scores = torch.ops.aten._softmax_backward_data(above @ _parts(value, span).transpose(1, 2), weight, -1, weight.dtype)
            of_query[:, begin:end] = of_scores @ _parts(key, span)
            for total, by, what in ((of_key, query[:, begin:end], of_scores), (of_value, above, weight)):
                part = (by.transpose(1, 2) @ what).transpose(1, 2)  # in half the time of what.transpose(1, 2) @ by
                total[:, begin:end] = part[:, size:]  # a prompt's span precedes those of its branches
                total[:, prompt:prompt_end] += part[:, :size]
        return of_query, of_key, of_value, None


_by_span: Callable[..., torch.Tensor] = _BySpan.apply


def _parts(of: torch.Tensor, span: Span) -> torch.Tensor:
    begin, end, prompt, prompt_end = span
    return torch.cat([of[:, prompt:prompt_end], of[:, begin:end]], 1) if prompt_end > prompt else of[:, begin:end]


class _RootMeanSquare(torch.autograd.Function):
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis, with explicit gradients: a third of the passes over memory."""

    @staticmethod
    def forward(ctx: _Context, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normal: torch.Tensor = x * scale
        ctx.save_for_backward(normal, scale, weight)
        return (normal * weight).to(dtype)

    @staticmethod
    def backward(ctx: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        normal, scale, weight = ctx.saved_tensors
        above = gradients[0].float()
        product = above * normal
        of_weight = product.flatten(0, -2).sum(0)
        shared = (product @ weight).div_(-weight.shape[0])[..., None]
        return (above * weight).addcmul_(normal, shared).mul_(scale), of_weight, None, None


_root_mean_square: Callable[..., torch.Tensor] = _RootMeanSquare.apply


def _rms_norm(self: Qwen3VLTextRMSNorm, hidden_states: torch.Tensor) -> torch.Tensor:
    """Returns the dtype of the following linear layers, so that up to three of them do not each cast a copy."""
    low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden_states.dtype
    return _rms_norm_full(self, hidden_states, low)


def _rms_norm_full(self: Qwen3VLTextRMSNorm, hidden_states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Returns full precision by default: RoPE is applied to queries and keys before they are cast."""
    with torch.autocast("cpu", enabled=False):
        return _root_mean_square(hidden_states.float(), self.weight, self.variance_epsilon, dtype or hidden_states.dtype)


def _attend_batched(
    self: Qwen3VLVisionAttention,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **kwargs: Any,
) -> torch.Tensor:
    """The vision encoder's attention, (patches, values) to the same, with pictures of equal size as one batch."""
    sizes = cu_seqlens.diff()
    if not bool((sizes == sizes[0]).all()):
        whole: torch.Tensor = Qwen3VLVisionAttention.forward(self, hidden_states, cu_seqlens, position_embeddings, **kwargs)
        return whole
    query, key, value = self.qkv(hidden_states).reshape(len(hidden_states), 3, self.num_heads, -1).unbind(1)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    by_picture = [part.reshape(len(sizes), int(sizes[0]), self.num_heads, -1).transpose(1, 2) for part in (query, key, value)]
    seen, _ = _attend(self, by_picture[0], by_picture[1], by_picture[2], None, self.scaling)
    put: torch.Tensor = self.proj(seen.reshape(len(hidden_states), -1))
    return put


def _embed_patches(self: Qwen3VLVisionPatchEmbed, hidden_states: torch.Tensor) -> torch.Tensor:
    """Patch embedding, (patches, pixels) to (patches, values): the convolution's kernel covers the whole patch."""
    weight = self.proj.weight
    assert isinstance(self.proj, nn.Conv3d)
    return functional.linear(hidden_states.to(weight.dtype), weight.flatten(1), self.proj.bias)


_FORWARD_OF: dict[type, Callable[..., torch.Tensor]] = {
    Qwen3VLVisionAttention: _attend_batched,
    Qwen3VLVisionPatchEmbed: _embed_patches,
    Qwen3VLTextRMSNorm: _rms_norm,
}
