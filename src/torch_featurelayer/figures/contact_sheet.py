"""Several images, with a line over each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._draw import pixels_of
from ._figure import figure_of, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def contact_sheet(images: Sequence[Any], titles: Sequence[str], *, columns: int = 5, ax: Axes | None = None) -> Figure:
    """Draws images side by side, as they are.

    Args:
        images: What matplotlib's `imshow` takes, PIL images among it, or `[3, H, W]` from 0 to 1; None leaves a gap.
        titles: One for each.
        columns: The number of images in a row. Default: 5.
        ax: The axes whose place the images take. Default: None, a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there are not as many titles as images, or none.
    """
    if not images or len(images) != len(titles):
        raise ValueError(f"{len(titles)} titles for {len(images)} images")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    panels = [panel for row in panels_of(ax, rows, columns, 2, 2.2) for panel in row]
    for panel in panels:
        panel.set_axis_off()
    for panel, image, title in zip(panels, images, titles, strict=False):
        panel.set_title(title, fontsize="x-small")
        if image is not None:
            panel.imshow(pixels_of(image))
        panel.set_label(title.replace("\n", ", ") + ".")
    return figure_of(panels[0])
