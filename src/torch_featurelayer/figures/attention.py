"""Where a transformer looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis import attention_map
from ._draw import size_of
from .overlay import overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def attention(
    weights: Tensor,
    photo: Any,
    *,
    query: int = 0,
    head: int | None = None,
    sample: int = 0,
    grid: tuple[int, int] | None = None,
    patch: int | tuple[int, int] | None = None,
    prefix: int | None = None,
    opacity: float = 0.6,
    colorbar: bool = True,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws how much one token attends to each patch, over the photo.

    Args:
        weights: As in `attention_map`.
        photo: As in `overlay`; its size gives the grid of the patches.
        query: As in `attention_map`.
        head: As in `attention_map`.
        sample: As in `attention_map`.
        grid: As in `tokens_to_map`.
        patch: As in `tokens_to_map`.
        prefix: As in `tokens_to_map`.
        opacity: The opacity of the map. Default: 0.6.
        colorbar: Draw the scale beside the map. Default: True.
        title: A title. Default: None.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If these are no weights of attention.
        LayoutError: If the grid of the patches is not known.
        IndexError: If there is no such query, head or sample.
    """
    seen = attention_map(
        weights,
        query=query,
        head=head,
        sample=sample,
        grid=grid,
        image_size=size_of(photo),
        patch=patch,
        prefix=prefix,
    )
    return overlay(seen, photo, opacity=opacity, colorbar=colorbar, title=title, ax=ax)
