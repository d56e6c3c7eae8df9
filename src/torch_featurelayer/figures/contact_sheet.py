"""Several images, with a line over each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ._draw import pixels_of
from ._figure import FeatureFigure


def contact_sheet(images: Sequence[Any], titles: Sequence[str], *, columns: int = 5) -> FeatureFigure:
    """Draws images side by side, as they are.

    Args:
        images: What matplotlib's `imshow` takes, PIL images among it, or `[3, H, W]` from 0 to 1; None leaves a gap.
        titles: One for each.
        columns: How many stand in a row.

    Returns:
        A new figure.

    Raises:
        ValueError: There are not as many titles as images, or none.
    """
    if not images or len(images) != len(titles):
        raise ValueError(f"{len(titles)} titles for {len(images)} images")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    figure = FeatureFigure(figsize=(2 * columns, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, image, title in zip(axes, images, titles, strict=False):
        if image is not None:
            ax.imshow(pixels_of(image))
        ax.set_title(title, fontsize="x-small")
        ax.set_label(title.replace("\n", ", ") + ".")
    return figure
