"""Scaling of values, so that their squares and products stay in the range of their dtype.

Gradients, and activations of deep networks with random weights, are as small as 1e-14: constants such as the 1e-8 of
`torch.cosine_similarity`, which guard against a division by zero, are larger than they are.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_MARGIN: Final = 1e4  # above the square root of the smallest number, with which squares keep their digits


def scale_down(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Divides values by the largest absolute one along dimensions; zeros stay zeros.

    Args:
        values: The values.
        dim: The dimensions of which all values are divided by the same number.
    """
    if not values.numel():
        return values
    largest = values.detach().abs().amax(dim, keepdim=True)
    return values / largest.where(largest > 0, 1.0)


def unit_vectors(vectors: Tensor, dim: int) -> Tensor:
    """Scales vectors to length 1, with gradient; zeros stay zeros, and values that are not finite give NaN.

    Args:
        vectors: The vectors.
        dim: The dimension of their values.
    """
    norms = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    if bool(((norms > torch.finfo(norms.dtype).tiny ** 0.5 * _MARGIN) & norms.isfinite()).all()):
        return vectors / norms  # type: ignore[no-any-return]
    scaled = scale_down(vectors, dim)
    return scaled / torch.linalg.vector_norm(scaled, dim=dim, keepdim=True).clamp_min(1.0)  # type: ignore[no-any-return]
