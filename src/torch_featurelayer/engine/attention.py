"""The weights of fused attention, computed from the arguments of its call."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional


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


FUSED: Final[Mapping[str, Callable[..., Tensor]]] = {
    "scaled_dot_product_attention": _from_scaled_dot_product,
    "multi_head_attention_forward": _from_multi_head,
}


def attention_weights(operation: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Computes the weights that a call of fused attention multiplied its values with.

    Args:
        operation: One of `FUSED`.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.

    Returns:
        A tensor `[*, heads, queries, keys]`, each row a distribution, before dropout; zeros for a query that may attend
        to no key. It carries the gradient of the arguments.
    """
    return FUSED[operation](*args, **kwargs)
