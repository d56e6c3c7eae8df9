"""The three directions in which features vary most, as red, green and blue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ._draw import draw_photo
from ._figure import FeatureFigure


def pca_rgb(feats: Sequence[Tensor]) -> list[Tensor]:
    """Projects features on the first three principal components of all of them together.

    The basis is fitted on the vectors at every position of every sample of every
    feature, so colours mean the same in all of them. The sign of a component is
    fixed: its greatest weight is positive. Scales are shared too.

    Args:
        feats: Maps `[N, C, H, W]` of one `C`, at least 3; sizes may differ. (`fold` takes tokens.)

    Returns:
        For each feature `[N, 3, H, W]` in float32 on the host, from 0 to 1 (the 1st to the 99th percentile).

    Raises:
        ValueError: There is none, or channels differ or are fewer than 3.
    """
    widths = {feat.shape[1] if feat.ndim == 4 else 0 for feat in feats}
    if len(widths) != 1 or min(widths) < 3:
        raise ValueError("pca takes maps [N, C, H, W] of one number of channels, at least 3")
    vectors = [feat.detach().to("cpu", torch.float32).movedim(1, -1) for feat in feats]
    projected = _project(torch.cat([vector.flatten(0, -2) for vector in vectors]))
    low, high = torch.quantile(_sample(projected), torch.tensor([0.01, 0.99]), dim=0)
    scaled = ((projected - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    parts = scaled.split([vector[..., 0].numel() for vector in vectors])
    return [part.reshape(*vector.shape[:-1], 3).movedim(-1, 1) for part, vector in zip(parts, vectors, strict=True)]


def _project(vectors: Tensor) -> Tensor:
    """Returns the coordinates of `[M, C]` in their first three principal components, `[M, 3]`."""
    centred = (vectors - vectors.mean(0)).double()
    _, components = torch.linalg.eigh(centred.T @ centred)
    basis = components.flip(1)[:, :3]
    signs = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    projected: Tensor = centred @ (basis * signs)
    return projected.float()


def _sample(values: Tensor, most: int = 100_000) -> Tensor:
    """Returns rows at even distances: `torch.quantile` takes 16 million values at most."""
    return values[:: max(1, len(values) // most)]


def pca(feats: Mapping[str, Tensor], *, photo: Any = None, sample: int = 0, shared: bool = True) -> FeatureFigure:
    """Draws features in the colours of their principal components, side by side.

    Args:
        feats: Maps by title, as `pca_rgb` takes them.
        photo: Drawn first, where given; as in `overlay`.
        sample: Which of the samples.
        shared: One basis for all, so that colours mean the same; else one for each, and channels may differ.

    Returns:
        A new figure.

    Raises:
        ValueError: As `pca_rgb`.
    """
    coloured = pca_rgb(list(feats.values())) if shared else [pca_rgb([feat])[0] for feat in feats.values()]
    basis = "one basis for all" if shared else "a basis of its own"
    count = len(coloured) + (photo is not None)
    figure = FeatureFigure(figsize=(2.4 * count, 2.7), layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    if photo is not None:
        first = axes.pop(0)
        draw_photo(first, photo)
        first.set_title("photo", fontsize="small")
        first.set_label("The photo.")
    for ax, title, rgb in zip(axes, feats, coloured, strict=True):
        draw_photo(ax, rgb[sample])
        ax.set_title(title, fontsize="small")
        size = "×".join(map(str, rgb.shape[-2:]))
        ax.set_label(f"{title} ({size}): first three principal components as red, green and blue, {basis}.")
    return figure
