"""One feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis._maps import Channel, describe_channels, token_grid
from ._draw import Scale, add_colorbar, describe_positions, describe_values, draw
from ._figure import get_axes, get_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_feature_map(
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
    """Draws one feature map.

    Args:
        feat: The feature, `[N, C, H, W]` or `[H, W]`, of any dtype and device; it is not changed. For tokens, apply
            `analysis.tokens_to_map` first.
        channel: How channels are reduced to one map: `"mean"` (default), `"max"`, `"norm"` (the length of the vector at
            each position), or the number of one channel. The colour bar shows it.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"` or `"CHW"`. Default: None, the only order that the shape
            allows.
        image_size: The height and width of the image in pixels, which help to determine the layout. Default: None.
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
        The figure: a `FeatureFigure`, or the figure of `ax`.

    Raises:
        ValueError: If the feature is empty or not a map.
        LayoutError: If the order of the dimensions is unknown.
        IndexError: If there is no such sample or channel.
    """
    grid, ax = token_grid(feat, channel, sample, layout, image_size), get_axes(ax, width=4.6)
    shown = draw(ax, grid, Scale(percentiles, vmin, vmax, center, norm, cmap))
    reduced, values = describe_channels(feat, channel, layout, image_size), describe_values(grid, shown)
    named = f" {title}" if title else ""
    reduced_text = f" ({reduced})" if reduced else ""
    ax.set_label(f"Feature map{named}{reduced_text}: {describe_positions(grid)}; {values}.")
    if title is not None:
        ax.set_title(title, fontsize="small")
    if percentiles is not None or "constant" in values or "finite" in values:
        ax.text(0.5, -0.02, values, transform=ax.transAxes, ha="center", va="top", fontsize="x-small")
    if colorbar:
        add_colorbar(ax, shown, reduced, clipped="clipped" in values)
    return get_figure(ax)
