"""A feature map over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis._maps import Channel, describe_channels, token_grid
from ._draw import Scale, add_colorbar, describe_positions, describe_values, draw, image_size, to_pixels
from ._figure import get_axes, get_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_overlay(
    feat: Tensor,
    image: Any,
    *,
    channel: Channel = "mean",
    sample: int = 0,
    layout: str | None = None,
    opacity: float = 0.5,
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
    """Draws a feature map over the image, stretched to its size.

    Args:
        feat: The feature, `[N, C, H, W]` or `[H, W]`, with the proportions of the image. For tokens, apply
            `analysis.tokens_to_map` first.
        image: The image as the model received it: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1 (`LoadedModel.image`), or
            anything that matplotlib's `imshow` accepts.
        channel: How channels are reduced to one map: `"mean"` (default), `"max"`, `"norm"` (the length of the vector at
            each position), or the number of one channel. The colour bar shows it.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the only order that the shape and the
            image allow.
        opacity: The opacity of the map: 0 shows only the image, 1 only the map. Default: 0.5.
        percentiles: The colour limits as percentiles, such as `(1, 99)`; the share of clipped values is printed.
            Default: None, the smallest and the largest value.
        vmin: The lower colour limit. Default: None, as for `percentiles`.
        vmax: The upper colour limit. Default: None, as for `percentiles`.
        center: The value in the middle of the colours. Default: None, zero if the map has values of both signs and no
            limits, norm or colour map are given.
        norm: A matplotlib norm, which replaces the limits. Default: None.
        cmap: The name of a matplotlib colour map. Default: None, viridis, or a diverging one if there is a centre.
        colorbar: Whether to draw a colour bar. Default: True.
        title: The title. Default: None, no title.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the feature is empty or not a map, or `opacity` is not from 0 to 1.
        LayoutError: If the order of the dimensions is unknown, or the proportions are not those of the image.
        IndexError: If there is no such sample or channel.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be from 0 to 1, not {opacity}")
    height, width = image_size(image)
    grid, ax = token_grid(feat, channel, sample, layout, (height, width)), get_axes(ax, width=4.6)
    # Both are drawn in the coordinates of the image, so that the map is stretched to it exactly.
    ax.imshow(to_pixels(image), extent=(0, width, height, 0))
    scale = Scale(percentiles, vmin, vmax, center, norm, cmap)
    shown = draw(ax, grid, scale, extent=(0, width, height, 0), alpha=opacity, interpolation="bilinear")
    ax.set(xlim=(0, width), ylim=(height, 0))
    reduced, values = describe_channels(feat, channel, layout, (height, width)), describe_values(grid, shown)
    named, how = f" {title}" if title else "", f" ({reduced})" if reduced else ""
    ax.set_label(f"Feature map{named}{how} over the image: {describe_positions(grid)}; {values}.")
    if title is not None:
        ax.set_title(title, fontsize="small")
    if colorbar:
        add_colorbar(ax, shown, reduced, clipped="clipped" in values)
    return get_figure(ax)
