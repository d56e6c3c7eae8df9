"""The weights of attention: computed from the arguments of a fused call, or taken from an eager computation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from ._torch_private import index_with_tensors


def _from_scaled_dot_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,  # noqa: ARG001 (the weights do not depend on it)
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001 (weights are given before dropout)
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype is torch.bool else scores + attn_mask
    if not _empty_rows_are_zero():
        return scores.softmax(-1)
    # The softmax of a row of -inf is NaN.
    nothing_allowed = (scores == -math.inf).all(-1, keepdim=True)
    return scores.softmax(-1).masked_fill(nothing_allowed, 0)


@lru_cache(maxsize=1)
def _empty_rows_are_zero() -> bool:
    """Whether fused attention returns zeros for a query without allowed keys; before PyTorch 2.5 it returned NaN."""
    one = torch.ones(1, 1, 1, 1, device="cpu")
    output = functional.scaled_dot_product_attention(one, one, one, torch.zeros(1, 1, dtype=torch.bool, device="cpu"))
    return bool((output == 0).all())


def _from_multi_head(*args: Any, **kwargs: Any) -> Tensor:
    function = functional.multi_head_attention_forward
    call = inspect.signature(function).bind(*args, **kwargs).arguments
    # `training=False` disables dropout: the weights are those before dropout.
    call.update(need_weights=True, average_attn_weights=False, training=False)
    return function(**call)[1]  # type: ignore[return-value]


def _from_flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,  # noqa: ARG001 (the weights do not depend on it)
    score_mod: Callable[..., Tensor],
    block_mask: tuple[Any, ...],
    scale: float,
    kernel_options: Any = None,  # noqa: ARG001 (the weights do not depend on it)
    score_buffers: tuple[Any, ...] = (),
    mask_buffers: tuple[Any, ...] = (),
    sinks: Tensor | None = None,
) -> Tensor:
    """Computes the weights of the operator that `flex_attention` calls.

    Models with a sink in each head, a logit without a value, rescale the output of the operator afterwards.
    """
    key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scores = (query @ key.transpose(-2, -1)).float() * scale
    places = [torch.arange(size, device=scores.device) for size in scores.shape]
    mask_mod = block_mask[-1]
    with index_with_tensors():
        scores = _over_all_places(score_mod, 1, len(score_buffers))(scores, *places, *score_buffers)
        allowed = _over_all_places(mask_mod, 0, len(mask_buffers))(*places, *mask_buffers)
    scores = scores.masked_fill(~allowed, -math.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks.reshape(-1, 1, 1).expand(*scores.shape[:-1], 1).to(scores)], -1)
    weights = scores.softmax(-1).masked_fill((scores == -math.inf).all(-1, keepdim=True), 0)
    return weights[..., : key.shape[-2]].to(query.dtype)


def _over_all_places(function: Callable[..., Tensor], scores: int, buffers: int) -> Callable[..., Tensor]:
    """Maps a function of scalars over items, heads, queries and keys; buffers are passed whole."""
    for dim in reversed(range(4)):
        places = [0 if place == dim else None for place in range(4)]
        function = torch.vmap(function, in_dims=(*[0] * scores, *places, *[None] * buffers))
    return function


FUSED: Final[Mapping[str, Callable[..., Tensor]]] = {
    "scaled_dot_product_attention": _from_scaled_dot_product,
    "multi_head_attention_forward": _from_multi_head,
    "flex_attention": _from_flex,
}
EAGER: Final = frozenset({"softmax", "matmul", "bmm"})


def attention_weights(
    operation: str, args: tuple[Any, ...], kwargs: dict[str, Any], sinks: Tensor | None = None
) -> Tensor:
    """Computes the weights that a call of fused attention multiplied its values with.

    Args:
        operation: One of `FUSED`.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.
        sinks: The logit of the sink of each head `[heads]`. Default: None, no sinks.

    Returns:
        A tensor `[*, heads, queries, keys]`, each row a distribution, before dropout; zeros for a query that may attend
        to no key. It carries the gradient of the arguments.
    """
    return FUSED[operation](*args, **kwargs, **({} if sinks is None else {"sinks": sinks}))


def eager_weights(probabilities: Tensor, args: tuple[Any, ...]) -> Tensor | None:
    """Returns the weights of eager attention: the output of its softmax, if a product multiplies values with them.

    Args:
        probabilities: The output of the last softmax in the module.
        args: The arguments of the product.

    Returns:
        The weights `[*, heads, queries, keys]`, without the column of a sink, which has no value; in the dtype in which
        the product uses them. None for another product.
    """
    if len(args) != 2 or not isinstance(args[0], Tensor) or not isinstance(args[1], Tensor):
        return None
    used, values = args
    if used.ndim < 3 or values.ndim != used.ndim or used.shape[-1] != values.shape[-2]:
        return None
    if probabilities.shape[:-1] != used.shape[:-1] or probabilities.shape[-1] - used.shape[-1] not in (0, 1):
        return None
    weights = probabilities[..., : used.shape[-1]].to(used.dtype)
    return weights if _is_dropout_of(used, weights) else None


def _is_dropout_of(used: Tensor, weights: Tensor) -> bool:
    """Whether a tensor holds the same values up to dropout, which zeroes some and scales the others."""
    kept = used != 0
    scale = (used[kept] / weights[kept]).float()
    return bool(len(scale) and scale.isfinite().all() and scale.max() - scale.min() < 0.01 * scale.max())
