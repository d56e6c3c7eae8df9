"""One feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ._draw import Channel, caption_of, draw, grid_of, position_of_peak
from ._figure import axes_of, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def feature_map(
    feat: Tensor,
    *,
    channel: Channel = "mean",
    sample: int = 0,
    percentiles: tuple[float, float] | None = None,
    cmap: str = "viridis",
    colorbar: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws one feature map: the mean over channels, from its least to its greatest value, without axes.

    Args:
        feat: `[N, C, H, W]`, `[C, H, W]` or `[H, W]`, any dtype and device; it is not changed.
        channel: What stands for the channels: `"mean"`, `"max"`, `"norm"` (the
            length of each position's vector), or the number of one channel.
        sample: Which of the `N` samples.
        percentiles: Colour limits as percentiles, such as `(1, 99)`. The share
            clipped is printed. None: the least and the greatest value.
        cmap: The name of a matplotlib colour map.
        colorbar: Draw the scale beside the map.
        title: A title. The map's size is added.
        ax: Where to draw; None makes a figure of its own.

    Returns:
        The figure: a `FeatureFigure`, or that of `ax`.

    Raises:
        ValueError: The feature has no height and width, or is empty.
        IndexError: There is no such sample or channel.
    """
    grid, ax = grid_of(feat, channel, sample), axes_of(ax)
    shown = draw(ax, grid, percentiles, cmap)
    caption = caption_of(grid, *shown.get_clim())
    ax.set_label(f"Feature map {title or ''}: {position_of_peak(grid)}; {caption}.".replace(" :", ":"))
    if title is not None:
        ax.set_title(title, fontsize="small")
    if percentiles is not None or not grid.isfinite().all():
        ax.text(0.5, -0.02, caption, transform=ax.transAxes, ha="center", va="top", fontsize="x-small")
    if colorbar:
        clips = "both" if percentiles else "neither"
        ax.figure.colorbar(shown, ax=ax, extend=clips, shrink=0.8)
    return figure_of(ax)
