"""A feature map over the photo it was computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis._maps import Channel, describe_channels, grid_of
from ._draw import Scale, add_colorbar, describe_positions, describe_values, draw, pixels_of, size_of
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
    """Draws a feature map over the photo, stretched to its size.

    Args:
        feat: As in `feature_map`. A feature without the proportions of the photo is refused.
        photo: The image as the model saw it: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1
            (`images.load(..., mean=None, std=None)`), or what matplotlib's `imshow` takes.
        channel: As in `feature_map`.
        sample: As in `feature_map`.
        layout: As in `feature_map`.
        opacity: The opacity of the map: 0 shows the photo alone, 1 the map alone. Default: 0.5.
        percentiles: As in `feature_map`.
        vmin: As in `feature_map`.
        vmax: As in `feature_map`.
        center: As in `feature_map`.
        norm: As in `feature_map`.
        cmap: As in `feature_map`.
        colorbar: As in `feature_map`.
        title: A title. Default: None.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the feature has no height and width, or `opacity` is not from 0 to 1.
        LayoutError: If the order of its dimensions is not known, or it is no map of the photo.
        IndexError: If there is no such sample or channel.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is from 0 to 1, not {opacity}")
    height, width = size_of(photo)
    grid, ax = grid_of(feat, channel, sample, layout, (height, width)), axes_of(ax, width=4.6)
    ax.imshow(pixels_of(photo), extent=(0, width, height, 0))
    scale = Scale(percentiles, vmin, vmax, center, norm, cmap)
    shown = draw(ax, grid, scale, extent=(0, width, height, 0), alpha=opacity, interpolation="bilinear")
    ax.set(xlim=(0, width), ylim=(height, 0))
    reduced, said = describe_channels(feat, channel, layout, (height, width)), describe_values(grid, shown)
    named, how = f" {title}" if title else "", f" ({reduced})" if reduced else ""
    ax.set_label(f"Feature map{named}{how} over the photo: {describe_positions(grid)}; {said}.")
    if title is not None:
        ax.set_title(title, fontsize="small")
    if colorbar:
        add_colorbar(ax, shown, reduced, clipped="clipped" in said)
    return figure_of(ax)
