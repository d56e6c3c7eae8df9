"""Cosine similarity of each position to one position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis import cosine_map
from ._draw import SIGNED, Scale, add_colorbar, draw, image_size, to_pixels
from ._figure import get_axes, get_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_cosine(
    feat: Tensor,
    position: tuple[int, int],
    *,
    image: Any = None,
    sample: int = 0,
    layout: str | None = None,
    opacity: float = 0.6,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws the cosine similarity of each position to one position, which is marked.

    The colours are blue for -1, white for 0 and red for 1.

    Args:
        feat: The feature, `[N, C, H, W]`. For tokens, apply `analysis.tokens_to_map` first.
        position: The zero-based row and column of the position; negative ones count from the end.
        image: An image to draw below the map: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1 (`LoadedModel.image`), or
            anything that matplotlib's `imshow` accepts. Default: None, no image.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the only order that the shape allows.
        opacity: The opacity of the map over the image, from 0 to 1. Default: 0.6.
        colorbar: Whether to draw a colour bar. Default: True.
        title: The title. Default: None, no title.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure. Its colour limits are always -1 and 1.

    Raises:
        ValueError: If the feature is not a map.
        LayoutError: If the order of the dimensions is unknown, or the proportions are not those of the image.
        IndexError: If there is no such position or sample.
    """
    size = None if image is None else image_size(image)
    grid = cosine_map(feat, position, sample=sample, layout=layout, image_size=size)
    ax = get_axes(ax, width=4.6)
    rows, columns = grid.shape
    height, width = size or (rows, columns)
    if image is not None:
        ax.imshow(to_pixels(image), extent=(0, width, height, 0), zorder=0)
    shown = draw(ax, grid, Scale(vmin=-1, vmax=1, cmap=SIGNED), extent=(0, width, height, 0), zorder=1)
    shown.set_alpha(1 if image is None else opacity)
    row, column = position[0] % rows, position[1] % columns
    ax.plot((column + 0.5) * width / columns, (row + 0.5) * height / rows, "+", color="black", markersize=10, zorder=2)
    ax.set(xlim=(0, width), ylim=(height, 0))
    if colorbar:
        add_colorbar(ax, shown, "cosine")
    named = f" ({title})" if title else ""
    ax.set_label(
        f"Cosine of each position with that at row {row}, column {column}{named}: "
        f"{grid.min():.2f} to {grid.max():.2f}, mean {grid.mean():.2f}."
    )
    if title is not None:
        ax.set_title(title, fontsize="small")
    return get_figure(ax)
