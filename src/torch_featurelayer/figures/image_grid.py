"""Several images in a grid, each with a title."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._draw import to_pixels
from ._figure import get_figure, get_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_image_grid(
    images: Sequence[Any], titles: Sequence[str], *, columns: int = 5, ax: Axes | None = None
) -> Figure:
    """Draws images in a grid, each with a title.

    Args:
        images: The images: anything that matplotlib's `imshow` accepts, PIL images included, or tensors `[3, H, W]`
            from 0 to 1. None leaves a gap.
        titles: A title for each image.
        columns: The number of images in a row. Default: 5.
        ax: The axes that the grid replaces. Default: None, a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there are no images, or not as many titles as images.
    """
    if not images or len(images) != len(titles):
        raise ValueError(f"{len(titles)} titles for {len(images)} images")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    panels = [panel for row in get_panels(ax, rows, columns, 2, 2.2) for panel in row]
    for panel in panels:
        panel.set_axis_off()
    for panel, image, title in zip(panels, images, titles, strict=False):
        panel.set_title(title, fontsize="x-small")
        if image is not None:
            panel.imshow(to_pixels(image))
        panel.set_label(title.replace("\n", ", ") + ".")
    return get_figure(panels[0])
