"""Many channels of one feature, each a small map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from torch import Tensor

from ._draw import grid_of
from ._figure import FeatureFigure
from .maps import feature_map

Criterion: TypeAlias = Literal["mean", "max", "std"]


def top_channels(feat: Tensor, count: int = 16, *, by: Criterion = "mean", sample: int = 0) -> list[int]:
    """Returns the channels that are greatest by a criterion, the greatest first.

    Args:
        feat: `[N, C, H, W]`.
        count: How many.
        by: `"mean"` or `"max"` over positions, or `"std"`, how much a channel varies over them.
        sample: Which of the `N` samples.

    Raises:
        ValueError: There is no such criterion, or the feature is no map.
    """
    if feat.ndim != 4:
        raise ValueError(f"channels are those of maps [N, C, H, W], not of {list(feat.shape)} (fold takes tokens)")
    values = feat.detach()[sample].flatten(1).to("cpu").float()
    if by not in ("mean", "max", "std"):
        raise ValueError(f"by is 'mean', 'max' or 'std', not {by!r}")
    scores = values.mean(1) if by == "mean" else values.amax(1) if by == "max" else values.std(1)
    return scores.nan_to_num(nan=-math.inf).topk(min(count, len(scores))).indices.tolist()


def channels(
    feat: Tensor,
    *,
    which: Sequence[int] | None = None,
    count: int = 16,
    by: Criterion = "mean",
    sample: int = 0,
    shared: bool = False,
    cmap: str = "viridis",
) -> FeatureFigure:
    """Draws channels of a feature as a grid of maps, each with its number.

    Args:
        feat: `[N, C, H, W]`.
        which: The channels; None: the `count` greatest by a criterion.
        count: How many.
        by: The criterion, as in `top_channels`; the figure says it.
        sample: Which of the `N` samples.
        shared: Use one range of colours for all, so that magnitudes compare; else each has its own.
        cmap: The name of a matplotlib colour map.

    Returns:
        A new figure.

    Raises:
        ValueError: As `top_channels`.
        IndexError: There is no such sample or channel.
    """
    best = top_channels(feat, count, by=by, sample=sample)
    chosen = best if which is None else list(which)
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    figure = FeatureFigure(figsize=(1.3 * columns, 1.45 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    grids = {channel: grid_of(feat, channel, sample) for channel in chosen}
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    for ax, channel in zip(axes, chosen, strict=False):
        feature_map(grids[channel], cmap=cmap, ax=ax)
        ax.set_title(str(channel), fontsize="x-small", pad=2)
        ax.set_label(f"Channel {channel}: {ax.get_label()}")
    if shared:
        finite = [grid[grid.isfinite()] for grid in grids.values()]
        low, high = min(float(part.min()) for part in finite), max(float(part.max()) for part in finite)
        for ax in axes[: len(chosen)]:
            ax.images[0].set_clim(low, high)
    said = f"the {len(chosen)} of {feat.shape[1]} channels greatest by {by}" if which is None else "chosen channels"
    scale = f"one scale, {low:.3g} to {high:.3g}" if shared else "each on its own scale"
    figure.suptitle(f"{said}, {scale}", fontsize="small")
    return figure
