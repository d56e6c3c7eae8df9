"""Centred kernel alignment (CKA)."""

from __future__ import annotations

from torch import Tensor

from .minibatch import MinibatchCKA
from .vectors import center


def cka(one: Tensor, other: Tensor, *, debiased: bool = False) -> float:
    """Computes linear centred kernel alignment: the similarity of two representations of the same inputs.

    Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019, arXiv:1905.00414.

    Args:
        one: Features `[N, ...]` of `N` inputs or positions, which are flattened to vectors.
        other: Features `[N, ...]` of the same inputs from another layer or model; the number of values may differ.
        debiased: Whether to estimate it without the bias of few inputs, with which unrelated features of many values
            seem similar (Song et al., "Feature selection via dependence maximization", 2012). Default: False.

    Returns:
        A float from 0 (nothing in common) to 1 (equal up to rotation and scale), which may be slightly below 0 if
        `debiased`; 0 if one of them is constant, and NaN if a value is NaN or infinite.

    Raises:
        ValueError: If the numbers of inputs differ or are below 2, or below 4 if `debiased`.

    Examples:
        >>> import torch
        >>> features = torch.randn(20, 5)
        >>> round(cka(features, 3 * features.flip(1)), 4)
        1.0
    """
    if debiased:
        measure = MinibatchCKA()
        measure.add(one, other)
        return measure.value
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(f"features must be of the same 2 or more inputs, not of {len(one)} and {len(other)}")
    x, y = center(one), center(other)
    # The Gram matrices are `[N, N]`, the covariances `[D, D]`.
    if len(x) < max(x.shape[1], y.shape[1]):  # both ways give the same numbers; this one has the smaller matrices
        k, m = x @ x.T, y @ y.T
        shared, norms = (k * m).sum(), k.norm() * m.norm()
    else:
        shared, norms = (x.T @ y).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return 0.0 if norms == 0 else min(float(shared / norms), 1.0)  # rounding; NaN stays NaN
