"""How alike the feature at one position is to those at all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._draw import draw, pixels_of
from ._figure import axes_of, figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def cosine_map(feat: Tensor, position: tuple[int, int], *, sample: int = 0) -> Tensor:
    """Computes the cosine of the angle between the vector at one position and that at each.

    Args:
        feat: Maps `[N, C, H, W]`. (`fold` takes tokens.)
        position: Row and column, counted from 0; negative ones from the end.
        sample: Which of the `N` samples.

    Returns:
        `[H, W]`, float32 on the host, from -1 to 1; 0 where a vector is zero.

    Raises:
        ValueError: The feature is no map.
        IndexError: There is no such position or sample.
    """
    if feat.ndim != 4:
        raise ValueError(f"a cosine map is of [N, C, H, W], not {list(feat.shape)}")
    vectors = feat.detach()[sample].to("cpu", torch.float32)
    row, column = position
    return torch.cosine_similarity(vectors, vectors[:, row, column, None, None], dim=0)


def cosine(
    feat: Tensor,
    position: tuple[int, int],
    *,
    photo: Any = None,
    sample: int = 0,
    opacity: float = 0.6,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws how alike each position is to one, which is marked: blue opposite, white unrelated, red alike.

    Args:
        feat: As in `cosine_map`.
        position: As in `cosine_map`.
        photo: Drawn below the map, where given; as in `overlay`.
        sample: As in `cosine_map`.
        opacity: Of the map over the photo.
        title: A title.
        ax: Where to draw; None makes a figure of its own.

    Returns:
        The figure; its scale is always -1 to 1.

    Raises:
        ValueError, IndexError: As `cosine_map`.
    """
    grid, ax = cosine_map(feat, position, sample=sample), axes_of(ax, width=4.6)
    shown = draw(ax, grid, None, "RdBu_r")
    shown.set_clim(-1, 1)
    rows, columns = grid.shape
    height, width = (rows, columns) if photo is None else pixels_of(photo).shape[:2]
    shown.set_extent((0, width, height, 0))
    if photo is not None:
        shown.set_alpha(opacity)
        ax.imshow(pixels_of(photo), extent=(0, width, height, 0), zorder=0)
        shown.set_zorder(1)
    row, column = position[0] % rows, position[1] % columns
    ax.plot((column + 0.5) * width / columns, (row + 0.5) * height / rows, "+", color="black", markersize=10, zorder=2)
    ax.set(xlim=(0, width), ylim=(height, 0))
    figure_of(ax).colorbar(shown, ax=ax, shrink=0.8, label="cosine")
    named = f" ({title})" if title else ""
    ax.set_label(
        f"Cosine of each position with that at row {row}, column {column}{named}: "
        f"{grid.min():.2f} to {grid.max():.2f}, mean {grid.mean():.2f}."
    )
    if title is not None:
        ax.set_title(title, fontsize="small")
    return figure_of(ax)
