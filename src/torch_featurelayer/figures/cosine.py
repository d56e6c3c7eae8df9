"""How alike the feature at one position is to those at all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis import cosine_map
from ._draw import SIGNED, Scale, add_colorbar, draw, pixels_of, size_of
from ._figure import axes_of, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def cosine(
    feat: Tensor,
    position: tuple[int, int],
    *,
    photo: Any = None,
    sample: int = 0,
    layout: str | None = None,
    opacity: float = 0.6,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws how alike each position is to one, which is marked: blue opposite, white unrelated, red alike.

    Args:
        feat: As in `cosine_map`.
        position: As in `cosine_map`.
        photo: Drawn below the map; as in `overlay`. Default: None.
        sample: As in `cosine_map`.
        layout: As in `cosine_map`.
        opacity: The opacity of the map over the photo. Default: 0.6.
        colorbar: Draw the scale beside the map. Default: True.
        title: A title. Default: None.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure; its scale is always -1 to 1.

    Raises:
        ValueError: If the feature is no map.
        LayoutError: If the order of its dimensions is not known, or it is no map of the photo.
        IndexError: If there is no such position or sample.
    """
    size = None if photo is None else size_of(photo)
    grid = cosine_map(feat, position, sample=sample, layout=layout, image_size=size)
    ax = axes_of(ax, width=4.6)
    rows, columns = grid.shape
    height, width = size or (rows, columns)
    if photo is not None:
        ax.imshow(pixels_of(photo), extent=(0, width, height, 0), zorder=0)
    shown = draw(ax, grid, Scale(vmin=-1, vmax=1, cmap=SIGNED), extent=(0, width, height, 0), zorder=1)
    shown.set_alpha(1 if photo is None else opacity)
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
    return figure_of(ax)
