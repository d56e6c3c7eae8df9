"""Attention maps over the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..analysis import attention_map
from ._draw import image_size
from .overlay import plot_overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_attention(
    weights: Tensor,
    image: Any,
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
    """Draws the attention of one token to each patch, over the image.

    Args:
        weights: Attention weights `[N, heads, queries, keys]`: the feature of the operation `attention_weights`.
        image: The image as the model received it: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1 (`LoadedModel.image`), or
            anything that matplotlib's `imshow` accepts. Its size determines the grid of patches.
        query: The index of the token. Default: 0, which is the class token if the model has one.
        head: The index of the head. Default: None, the mean over heads.
        sample: The index of the sample. Default: 0.
        grid: The numbers of rows and columns of patches. Default: None, from the size of the image.
        patch: The size of a patch in pixels, or its height and width. Default: None, the only size that fits the number
            of tokens.
        prefix: The number of tokens before the patches, such as class and register tokens. Default: None, the tokens
            that the grid leaves over.
        opacity: The opacity of the map, from 0 to 1. Default: 0.6.
        colorbar: Whether to draw a colour bar. Default: True.
        title: The title. Default: None, no title.
        ax: The axes to draw into. Default: None, those of a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If `weights` has not four dimensions.
        LayoutError: If the grid of patches cannot be determined.
        IndexError: If there is no such query, head or sample.
    """
    attention = attention_map(
        weights,
        query=query,
        head=head,
        sample=sample,
        grid=grid,
        image_size=image_size(image),
        patch=patch,
        prefix=prefix,
    )
    return plot_overlay(attention, image, opacity=opacity, colorbar=colorbar, title=title, ax=ax)
