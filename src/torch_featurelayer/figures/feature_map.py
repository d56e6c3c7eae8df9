"""One feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis._maps import Channel, describe_channels, grid_of
from ._draw import Scale, add_colorbar, describe_positions, describe_values, draw
from ._figure import axes_of, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def feature_map(
    feat: Tensor,
    *,
    channel: Channel = "mean",
    sample: int = 0,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
    percentiles: tuple[float, float] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    center: float | None = None,
    norm: Any = None,
    cmap: str | None = None,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws one feature map, without axes.

    Args:
        feat: `[N, C, H, W]` or `[H, W]`, any dtype and device; it is not changed. Tokens: see `tokens_to_map`.
        channel: What stands for the channels: `"mean"` (default), `"max"`, `"norm"` (the
            length of each position's vector), or the number of one channel. The colour bar says it.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"` or `"CHW"`. Default: None, the one that the shape allows.
        image_size: Height and width of the image in pixels, which help to find the layout. Default: None.
        percentiles: Colour limits as percentiles, such as `(1, 99)`; the share of clipped values is printed.
            Default: None, the least and the greatest value.
        vmin: The lower colour limit. Default: None, as `percentiles`.
        vmax: The upper colour limit. Default: None, as `percentiles`.
        center: The value at the middle of the colours. Default: None: zero if the map has values of both signs and
            neither limits, norm nor colour map are given.
        norm: A matplotlib norm, in place of limits. Default: None.
        cmap: The name of a matplotlib colour map. Default: None: viridis, or blue to red where there is a centre.
        colorbar: Draw the scale beside the map. Default: True.
        title: A title. Default: None.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure: a `FeatureFigure`, or that of `ax`.

    Raises:
        ValueError: If the feature has no height and width, or is empty.
        LayoutError: If the order of its dimensions is not known.
        IndexError: If there is no such sample or channel.
    """
    grid, ax = grid_of(feat, channel, sample, layout, image_size), axes_of(ax, width=4.6)
    shown = draw(ax, grid, Scale(percentiles, vmin, vmax, center, norm, cmap))
    reduced, said = describe_channels(feat, channel, layout, image_size), describe_values(grid, shown)
    named = f" {title}" if title else ""
    reduced_text = f" ({reduced})" if reduced else ""
    ax.set_label(f"Feature map{named}{reduced_text}: {describe_positions(grid)}; {said}.")
    if title is not None:
        ax.set_title(title, fontsize="small")
    if percentiles is not None or "constant" in said or "finite" in said:
        ax.text(0.5, -0.02, said, transform=ax.transAxes, ha="center", va="top", fontsize="x-small")
    if colorbar:
        add_colorbar(ax, shown, reduced, clipped="clipped" in said)
    return figure_of(ax)
