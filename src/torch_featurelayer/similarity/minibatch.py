"""CKA of datasets that do not fit into memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .vectors import center


class MinibatchCKA:
    """Linear CKA computed from batches, without bias from the batch size.

    Sources: Nguyen, Raghu and Kornblith, "Do wide and deep networks learn the same things?", 2021, arXiv:2010.15327,
    with the estimator of Song et al., "Feature selection via dependence maximization", 2012.

    Examples:
        >>> import torch
        >>> measure = MinibatchCKA()
        >>> for _ in range(10):
        ...     features = torch.randn(16, 5)
        ...     measure.add(features, 2 * features)
        >>> round(measure.value, 4)
        1.0
    """

    def __init__(self) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._is_empty = True

    def add(self, one: Tensor, other: Tensor) -> None:
        """Adds a batch.

        Args:
            one: Features `[N, ...]` of at least four inputs, which are flattened to vectors.
            other: Features `[N, ...]` of the same inputs from another layer or model; the number of values may differ.

        Raises:
            ValueError: If the numbers of inputs differ or are below 4.
        """
        if len(one) != len(other) or len(one) < 4:
            raise ValueError(f"features must be of the same 4 or more inputs, not of {len(one)} and {len(other)}")
        k, m = _kernel(one), _kernel(other)
        # The three terms are averaged over batches before the division, which removes the bias.
        self._sums += torch.stack([_hsic(k, m), _hsic(k, k), _hsic(m, m)])
        self._is_empty = False

    @property
    def value(self) -> float:
        """The CKA of all batches, approximately from 0 to 1; 0 if a layer is constant, NaN before the first batch."""
        if self._is_empty:
            return math.nan
        shared, first, second = self._sums
        norms = (first * second).sqrt()
        return 0.0 if norms == 0 else float(shared / norms)


def _kernel(features: Tensor) -> Tensor:
    """Returns the inner products of all pairs of rows, with zeros on the diagonal."""
    vectors = center(features).cpu()  # which changes nothing but the rounding
    return (vectors @ vectors.T).fill_diagonal_(0)


def _hsic(k: Tensor, m: Tensor) -> Tensor:
    count = len(k)
    trace = (k * m.T).sum()
    means = k.sum() * m.sum() / ((count - 1) * (count - 2))
    crossed = (k @ m).sum() * 2 / (count - 2)
    return (trace + means - crossed) / (count * (count - 3))
