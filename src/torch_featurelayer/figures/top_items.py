"""The items that excite channels most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .image_grid import plot_image_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_top_items(
    layer: Any, channels: Sequence[int], load: Callable[[str], Any], *, count: int = 6, ax: Axes | None = None
) -> Figure:
    """Draws the images with the largest values of some channels, a row for each channel.

    Args:
        layer: The statistics of a layer, such as `tl.statistics(...)["layer4"]`.
        channels: The channels.
        load: A function from the id of an item to its image, such as `lambda id: Image.open(folder / id)`.
        count: The number of images for each channel, at most those that were kept. Default: 6.
        ax: The axes that the grid replaces. Default: None, a new figure.

    Returns:
        The figure. Each title has the channel, the value and the id.

    Raises:
        ValueError: If no channel has an item.
    """
    rows = [layer.top(channel)[:count] for channel in channels]
    width = max(map(len, rows), default=0)
    if not width:
        raise ValueError(f"no item excites channels {list(channels)} of {layer.layer!r}")
    images: list[Any] = []
    titles: list[str] = []
    for channel, row in zip(channels, rows, strict=True):
        images += [load(name) for name, _ in row] + [None] * (width - len(row))
        titles += [f"{layer.layer}, channel {channel}: {value:.3g}\n{name}" for name, value in row]
        titles += [""] * (width - len(row))
    return plot_image_grid(images, titles, columns=width, ax=ax)
