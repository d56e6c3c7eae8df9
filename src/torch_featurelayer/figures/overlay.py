"""A feature map over the photo it was computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ._draw import Channel, caption_of, draw, grid_of, pixels_of, position_of_peak
from ._figure import axes_of, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def overlay(
    feat: Tensor,
    photo: Any,
    *,
    channel: Channel = "mean",
    sample: int = 0,
    opacity: float = 0.5,
    percentiles: tuple[float, float] | None = None,
    cmap: str = "viridis",
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws a feature map over the photo, stretched to its size.

    Args:
        feat: As in `feature_map`.
        photo: What the model saw: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1
            (`images.load(..., mean=None, std=None)`), or what matplotlib's `imshow` takes.
        channel: As in `feature_map`.
        sample: As in `feature_map`.
        opacity: Of the map: 0 shows the photo alone, 1 the map alone.
        percentiles: As in `feature_map`.
        cmap: As in `feature_map`.
        title: A title.
        ax: Where to draw; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError: The feature has no height and width, or `opacity` is not from 0 to 1.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is from 0 to 1, not {opacity}")
    grid, ax, pixels = grid_of(feat, channel, sample), axes_of(ax), pixels_of(photo)
    height, width = pixels.shape[:2]
    ax.imshow(pixels, extent=(0, width, height, 0))
    shown = draw(ax, grid, percentiles, cmap)
    shown.set(extent=(0, width, height, 0), alpha=opacity, interpolation="bilinear")
    ax.set(xlim=(0, width), ylim=(height, 0))
    caption = caption_of(grid, *shown.get_clim())
    named = f" {title}" if title else ""
    ax.set_label(f"Feature map{named} over the photo: {position_of_peak(grid)}; {caption}.")
    if title is not None:
        ax.set_title(title, fontsize="small")
    return figure_of(ax)
