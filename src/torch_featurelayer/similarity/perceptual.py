"""Perceptual distance between images (LPIPS)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.nn.functional import normalize


def perceptual_distance(
    one: Iterable[Tensor], other: Iterable[Tensor], weights: Sequence[Tensor] | None = None
) -> Tensor:
    """Computes the perceptual distance between images from their features in several layers.

    In each layer the vectors of channels are normalised, their squared differences are weighted, summed over channels
    and averaged over positions; the layers are summed. Source: Zhang et al., "The Unreasonable Effectiveness of Deep
    Features as a Perceptual Metric" (LPIPS), 2018, arXiv:1801.03924. As a loss it is close to that of Johnson et al.,
    "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016, arXiv:1603.08155.

    Args:
        one: The features of the first images, such as a `Features`: maps `[N, C, *positions]` or tokens `[N, T, C]`.
        other: The features of the other images in the same layers, of the same shapes; a batch of one is compared with
            each of the first images.
        weights: The weights of the channels `[C]` for each layer, such as those learned for LPIPS
            (`lin0.model.1.weight` and so on, of any shape). Default: None, all weights are 1.

    Returns:
        A tensor `[N]`, with the gradient of both: 0 for equal features; without weights at most 4 for each layer.

    Raises:
        ValueError: If the numbers of layers or weights differ, or shapes do not fit.

    Examples:
        >>> import torch
        >>> layers = [torch.randn(2, 8, 4, 4), torch.randn(2, 16, 2, 2)]
        >>> perceptual_distance(layers, layers)
        tensor([0., 0.])
    """
    firsts, seconds = list(one), list(other)
    if not len(firsts) == len(seconds) == len(firsts if weights is None else weights) or not firsts:
        given = "" if weights is None else f", with {len(weights)} weights"
        raise ValueError(f"features must be of the same layers, not of {len(firsts)} and {len(seconds)}{given}")
    each = [None] * len(firsts) if weights is None else weights
    distances = [_distance(x, y, weight) for x, y, weight in zip(firsts, seconds, each, strict=True)]
    return sum(distances[1:], distances[0])


def _distance(one: Tensor, other: Tensor, weight: Tensor | None) -> Tensor:
    """Returns the distance `[N]` in one layer."""
    x, y = (_vectors(feature) for feature in (one, other))
    if x.shape[1:] != y.shape[1:] or (weight is not None and weight.numel() != x.shape[-1]):
        weighted = "" if weight is None else f" under {weight.numel()} weights"
        raise ValueError(f"features {list(one.shape)} and {list(other.shape)}{weighted} cannot be compared")
    # The epsilon of the original implementation, so that results are equal.
    squares = (normalize(x, dim=-1, eps=1e-10) - normalize(y, dim=-1, eps=1e-10)).square()
    weighted_squares = squares if weight is None else squares * weight.reshape(-1).to(squares)
    return weighted_squares.sum(-1).mean(1)


def _vectors(feature: Tensor) -> Tensor:
    """Returns a feature as vectors `[N, positions, C]`."""
    return feature if feature.ndim == 3 else feature.flatten(2).transpose(1, 2)
