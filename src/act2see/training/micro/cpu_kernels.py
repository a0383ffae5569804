"""The embedded models' arithmetic in the order that a CPU is quick at: the same sums in less than half of the time.

Nothing here changes what a model computes beyond rounding (there is a test), and finished weights know nothing of it.
"""

import os
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from types import MethodType
from typing import Any

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
"""Tokens `begin` to `end` that see each other causally, and the tokens `prompt` to `prompt_end` wholly."""
_SHORT = 128
"""Examples of up to so many tokens are padded and attended to at once; longer ones are laid one behind the other, each branch on its own."""


def train_fast_on_cpu(model: PreTrainedModel) -> None:
    """Attend without PyTorch's fused kernel, to all pictures of one size at once; cut patches by a product of matrices; normalise in few passes.

    The fused kernel's backward pass takes 5 ms for a picture of 64 patches and works through masked tokens like any others; the backward pass of the
    three-dimensional convolution takes 270 ms for 64 pictures. oneDNN keeps a kernel for each shape that it has met, and no two batches are of one
    shape: by its own limit of 1,024 a process holds 7 GB in place of 3 after some hundred steps, each of which takes half as long again.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # read when the first kernel is made
    AttentionInterface.register("plain", _attend)
    model.set_attn_implementation("plain")
    for name, part in model.named_modules():
        quick = _normalise_in_full if name.endswith(("q_norm", "k_norm")) else _QUICK.get(type(part))
        if quick is not None:
            vars(part)["forward"] = MethodType(quick, part)


def collate_for_cpu(examples: Sequence[Example], pad: int) -> dict[str, Any]:
    """A batch for a model of `train_fast_on_cpu`: long examples one behind the other in one row without padding, with `spans` in place of a mask."""
    if max(len(example.ids) for example in examples) <= _SHORT:
        return collate(examples, pad)
    ids, labels, branch = (np.concatenate([getattr(example, name) for example in examples]) for name in ("ids", "labels", "branch"))
    positions = np.concatenate([example.positions for example in examples], axis=1)
    pieces = tuple(piece for example in examples for piece in example.pieces)
    return {**batch_of([Example(ids, labels, positions, branch, pieces)], pad)[0], "spans": spans(examples)}


def spans(examples: Sequence[Example]) -> list[Span]:
    """Who sees whom when the examples lie one behind the other: of each its prompt, then each of its branches with that prompt."""
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
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    spans: list[Span] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' attention functions return: (batch, tokens, heads, values). Heads are as many for keys as for queries, dropout is none."""
    if module.is_causal and attention_mask is None and spans is None:
        raise ValueError("a batch needs a mask or spans: collate it with collate_for_cpu")
    query, key = query.to(value.dtype) * scaling, key.to(value.dtype)
    with torch.autocast("cpu", enabled=False):  # it would make a copy of all weights in float32
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
    """Causal attention, (heads, tokens, values) to the same, that leaves out what a span does not see."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: list[Span]) -> torch.Tensor:
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
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
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
                total[:, begin:end] = part[:, size:]  # a prompt's span stands before its branches'
                total[:, prompt:prompt_end] += part[:, :size]
        return of_query, of_key, of_value, None


_by_span: Callable[..., torch.Tensor] = _BySpan.apply


def _parts(of: torch.Tensor, span: Span) -> torch.Tensor:
    begin, end, prompt, prompt_end = span
    return torch.cat([of[:, prompt:prompt_end], of[:, begin:end]], 1) if prompt_end > prompt else of[:, begin:end]


class _RootMeanSquare(torch.autograd.Function):
    """`x / sqrt(mean(x²) + eps) * weight` over the last axis, with the gradients written out: a third of the passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normal: torch.Tensor = x * scale
        ctx.save_for_backward(normal, scale, weight)
        return (normal * weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        normal, scale, weight = ctx.saved_tensors
        above = gradients[0].float()
        product = above * normal
        of_weight = product.flatten(0, -2).sum(0)
        shared = (product @ weight).div_(-weight.shape[0])[..., None]
        return (above * weight).addcmul_(normal, shared).mul_(scale), of_weight, None, None


_root_mean_square: Callable[..., torch.Tensor] = _RootMeanSquare.apply


def _normalise(self: Qwen3VLTextRMSNorm, hidden_states: torch.Tensor) -> torch.Tensor:
    """In the precision that the linear layers after it work in: without this, each of up to three makes a copy of its own."""
    low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden_states.dtype
    return _normalise_in_full(self, hidden_states, low)


def _normalise_in_full(self: Qwen3VLTextRMSNorm, hidden_states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Queries and keys are turned by their places before they lose precision."""
    with torch.autocast("cpu", enabled=False):
        return _root_mean_square(hidden_states.float(), self.weight, self.variance_epsilon, dtype or hidden_states.dtype)


def _see_together(
    self: Qwen3VLVisionAttention,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **kwargs: Any,
) -> torch.Tensor:
    """The vision part's attention, (patches, values) to the same: pictures of equal size as one batch, and not one after the other."""
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
    """The convolution whose kernel is as large as its picture, (patches, pixels) to (patches, values)."""
    weight = self.proj.weight
    assert isinstance(self.proj, nn.Conv3d)
    return functional.linear(hidden_states.to(weight.dtype), weight.flatten(1), self.proj.bias)


_QUICK: dict[type, Callable[..., torch.Tensor]] = {
    Qwen3VLVisionAttention: _see_together,
    Qwen3VLVisionPatchEmbed: _embed_patches,
    Qwen3VLTextRMSNorm: _normalise,
}
