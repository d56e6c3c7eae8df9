"""Channels of one feature, each as a small map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..analysis import top_channels
from ..analysis._maps import to_maps, token_grid
from ..analysis.channels import Criterion
from ._draw import Scale, add_colorbar
from ._figure import get_figure, get_panels
from .feature_map import plot_feature_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_channels(
    feat: Tensor,
    *,
    which: Sequence[int] | None = None,
    count: int = 16,
    by: Criterion = "mean",
    sample: int = 0,
    layout: str | None = None,
    shared: bool = False,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws channels of a feature as a grid of maps, each with its number.

    Args:
        feat: The feature, `[N, C, H, W]`. For tokens, apply `analysis.tokens_to_map` first.
        which: The channels to draw. Default: None, the `count` channels with the largest scores.
        count: The number of channels. Default: 16.
        by: The score of a channel: `"mean"` (default) or `"max"` over positions, or the standard deviation `"std"`. It
            is written above the grid.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the only order that the shape allows.
        shared: Whether all maps share one colour range and colour bar, so that magnitudes can be compared. Default:
            False.
        vmin: The lower colour limit. Default: None, the smallest value.
        vmax: The upper colour limit. Default: None, the largest value.
        cmap: The name of a matplotlib colour map. Default: None, viridis, or a diverging one for signed values.
        ax: The axes that the grid replaces. Default: None, a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such score, the feature is not a map, or no channel is to be drawn.
        LayoutError: If the order of the dimensions is unknown.
        IndexError: If there is no such sample or channel.
    """
    best = top_channels(feat, count, by=by, sample=sample, layout=layout)
    chosen = best if which is None else list(which)
    if not chosen:
        raise ValueError("plot_channels needs at least one channel")
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    grids = [token_grid(feat, channel, sample, layout) for channel in chosen]
    panels = [panel for row in get_panels(ax, rows, columns, 1.3, 1.6) for panel in row]
    for panel in panels[len(chosen) :]:
        panel.set_axis_off()
    if shared:
        vmin, vmax, cmap = _common(grids, vmin, vmax, cmap)
    for panel, channel, grid in zip(panels, chosen, grids, strict=False):
        plot_feature_map(grid, vmin=vmin, vmax=vmax, cmap=cmap, colorbar=False, ax=panel)
        panel.set_title(str(channel), fontsize="x-small", pad=2)
        panel.set_label(f"Channel {channel}: {panel.get_label()}")
    if shared:
        add_colorbar(panels[columns - 1], panels[0].images[0], "one scale for all")
    total = to_maps(feat, layout).shape[1]
    text = f"{len(chosen)} of {total} channels, by largest {by}" if which is None else f"selected of {total} channels"
    scale = f"one scale, {vmin:.3g} to {vmax:.3g}" if shared else "each with its own scale"
    _set_heading(panels[0], ax, f"{text}\n{scale}")
    return get_figure(panels[0])


def _common(
    grids: Sequence[Tensor], vmin: float | None, vmax: float | None, cmap: str | None
) -> tuple[float, float, str | None]:
    """Returns colour limits and a colour map for all maps together."""
    finite = [grid[grid.isfinite()] for grid in grids]
    low = min((float(part.min()) for part in finite if part.numel()), default=0.0) if vmin is None else vmin
    high = max((float(part.max()) for part in finite if part.numel()), default=1.0) if vmax is None else vmax
    if cmap is None and vmin is None and vmax is None and low < 0 < high:
        high = max(high, -low)
        low, cmap = -high, Scale(center=0).colours(grids[0])["cmap"].name
    return low, high, cmap


def _set_heading(panel: Axes, ax: Axes | None, text: str) -> None:
    """Writes a heading above the grid: as the title of the figure, or of the axes that the grid replaces."""
    if ax is None:
        get_figure(panel).suptitle(text, fontsize="x-small")
    else:
        ax.set_title(text, fontsize="x-small")
