"""Chance and uncertainty of a similarity of representations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Assessment:
    """A similarity with its uncertainty.

    Attributes:
        value: The similarity.
        interval: Its 95 % confidence interval.
        p_value: The probability of a similarity as large or larger if the inputs of both representations were
            unrelated.
    """

    value: float
    interval: tuple[float, float]
    p_value: float


def assess(
    measure: Callable[[Tensor, Tensor], float],
    one: Tensor,
    other: Tensor,
    *,
    permutations: int = 999,
    resamples: int = 500,
    seed: int = 0,
) -> Assessment:
    """Computes a similarity of two representations with a confidence interval and a permutation test.

    The interval is that of a bootstrap by halves: samples of half of the inputs without replacement, which vary as much
    as whole samples do. A bootstrap with replacement repeats inputs, and an input is more similar to its copy than to
    any other, which biases CKA and RSA. Source: Politis and Romano, "Large sample confidence regions based on
    subsamples", 1994.

    Args:
        measure: The similarity: `cka`, `rsa`, or a function of two tensors `[N, ...]`. Unbiased ones, such as
            `functools.partial(cka, debiased=True)`, have better intervals.
        one: Features `[N, ...]` of `N` inputs.
        other: Features `[N, ...]` of the same inputs from another layer or model.
        permutations: The number of random orders of the inputs of `other`. Default: 999.
        resamples: The number of halves. Default: 500.
        seed: The seed of both. Default: 0.

    Returns:
        An `Assessment`, of NaN if the similarity is.

    Raises:
        ValueError: If the numbers of inputs differ or are below 8.

    Examples:
        >>> features = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
        >>> from torch_featurelayer.similarity import cka
        >>> found = assess(cka, features, features + 0.1, permutations=99)
        >>> round(found.value, 3), found.p_value
        (1.0, 0.01)
    """
    count = len(one)
    if len(other) != count or count < 8:
        raise ValueError(f"features must be of the same 8 or more inputs, not of {count} and {len(other)}")
    generator = torch.Generator().manual_seed(seed)
    value = measure(one, other)
    if math.isnan(value):
        return Assessment(value, (value, value), value)
    orders = [torch.randperm(count, generator=generator) for _ in range(permutations)]
    chance = sum(measure(one, other[order]) >= value for order in orders)
    halves = [torch.randperm(count, generator=generator)[: count // 2] for _ in range(resamples)]
    found = torch.tensor([measure(one[half], other[half]) for half in halves], dtype=torch.float64)
    # Around their median: a measure of fewer inputs may be larger, as biased CKA is.
    change = found - found.median()
    low, high = (float(change.quantile(share)) for share in (0.025, 0.975))
    return Assessment(value, (value - high, value - low), (1 + chance) / (1 + permutations))
