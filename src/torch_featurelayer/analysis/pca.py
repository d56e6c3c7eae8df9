"""The three directions in which features vary most, as red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._maps import maps_of


def pca_rgb(feats: Sequence[Tensor], *, layout: str | Sequence[str | None] | None = None) -> list[Tensor]:
    """Projects features on the first three principal components of all of them together.

    The basis is fitted on the vectors at every position of every sample of every
    feature, so colours mean the same in all of them. The sign of a component is
    fixed: its greatest weight is positive. Scales are shared too.

    Args:
        feats: Maps `[N, C, H, W]` of one `C`, at least 3; sizes may differ. For tokens: `tokens_to_map`.
        layout: The order of the dimensions, one for all or one for each. Default: None, the one that shapes allow.

    Returns:
        For each feature `[N, 3, H, W]` in float32 on the host, from 0 to 1 (the 1st to the 99th percentile).

    Raises:
        ValueError: If there is none, or channels differ or are fewer than 3.
        LayoutError: If the order of the dimensions of one is not known.
    """
    names = [layout] * len(feats) if layout is None or isinstance(layout, str) else list(layout)
    maps = [maps_of(feat, name) for feat, name in zip(feats, names, strict=True)]
    widths = {feat.shape[1] for feat in maps}
    if len(widths) != 1 or min(widths) < 3:
        raise ValueError("pca takes maps [N, C, H, W] of one number of channels, at least 3")
    vectors = [feat.detach().to("cpu", torch.float32).movedim(1, -1) for feat in maps]
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
