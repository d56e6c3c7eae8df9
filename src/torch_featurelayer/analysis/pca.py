"""Principal components of features as red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._maps import to_maps
from ._scaling import scale_down


def pca_rgb(feats: Sequence[Tensor], *, layout: str | Sequence[str | None] | None = None) -> list[Tensor]:
    """Projects features onto the first three principal components of all of them together.

    The components are fitted to the vectors at all positions of all samples and features, so that colours can be
    compared. The sign of a component is chosen such that its largest weight is positive.

    Args:
        feats: Feature maps `[N, C, H, W]` with the same number of channels, at least 3; heights and widths may differ.
            For tokens, apply `tokens_to_map` first.
        layout: The order of the dimensions, one for all features or one for each. Default: None, the only order that
            the shape allows.

    Returns:
        For each feature a new float32 tensor `[N, 3, H, W]` on the CPU, without gradient; 0 to 1 spans the 1st to the
        99th percentile.

    Raises:
        ValueError: If there are no features, their numbers of channels differ or are below 3, or a value is NaN or
            infinite.
        LayoutError: If the order of the dimensions of a feature is unknown.
    """
    names = [layout] * len(feats) if layout is None or isinstance(layout, str) else list(layout)
    maps = [to_maps(feat, name) for feat, name in zip(feats, names, strict=True)]
    widths = {feat.shape[1] for feat in maps}
    if len(widths) != 1 or min(widths) < 3:
        raise ValueError(f"feature maps must have the same number of channels, at least 3, not {sorted(widths)}")
    vectors = [feat.detach().to("cpu", torch.float32).movedim(1, -1) for feat in maps]
    together = torch.cat([vector.flatten(0, -2) for vector in vectors])
    if bad := int((~together.isfinite()).any(1).sum()):
        raise ValueError(f"{bad} of {len(together)} positions have NaN or infinite values, so there are no components")
    projected = _project(together)
    low, high = torch.quantile(_sample(projected), torch.tensor([0.01, 0.99]), dim=0)
    span = high - low
    scaled = ((projected - low) / span.where(span > 0, 1.0)).clamp(0, 1)
    parts = scaled.split([vector[..., 0].numel() for vector in vectors])
    return [part.reshape(*vector.shape[:-1], 3).movedim(-1, 1) for part, vector in zip(parts, vectors, strict=True)]


def _project(vectors: Tensor) -> Tensor:
    """Returns the coordinates of vectors `[M, C]` in their first three principal components, `[M, 3]`."""
    # Double precision: the smallest of three components may be far below the largest.
    center = vectors.double()
    center = scale_down(center - center.mean(0), (0, 1))
    # The covariance is `[C, C]`, which is smaller than the vectors of all positions.
    _, components = torch.linalg.eigh(center.T @ center)
    basis = components.flip(1)[:, :3]
    signs = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    projected: Tensor = center @ (basis * signs)
    return projected.float()


def _sample(values: Tensor, most: int = 100_000) -> Tensor:
    """Returns evenly spaced rows, because `torch.quantile` accepts at most 16 million values."""
    return values[:: max(1, len(values) // most)]
