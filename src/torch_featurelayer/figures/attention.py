"""Where a transformer looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from .overlay import overlay
from .tokens import fold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def attention_map(
    weights: Tensor,
    *,
    query: int = 0,
    head: int | None = None,
    sample: int = 0,
    prefix: int | None = None,
    grid: tuple[int, int] | None = None,
) -> Tensor:
    """Returns how much one token attends to each patch.

    Args:
        weights: Attention weights `[N, heads, queries, keys]`: the operation `attention_weights`.
        query: The token that looks: 0, the first, is the class token where there is one.
        head: Which head; None: the mean of all.
        sample: Which of the `N` samples.
        prefix: As in `fold`.
        grid: As in `fold`.

    Returns:
        `[H, W]`; its sum is 1 less what goes to class and register tokens.

    Raises:
        ValueError: These are no weights of attention, or fill no grid.
        IndexError: There is no such query, head or sample.
    """
    if weights.ndim != 4:
        raise ValueError(f"attention weights are [N, heads, queries, keys], not {list(weights.shape)}")
    heads = weights.detach()[sample].float()
    row = (heads.mean(0) if head is None else heads[head])[query]
    return fold(row[None, :, None], prefix=prefix, grid=grid)[0, 0].cpu()


def attention(
    weights: Tensor,
    photo: Any,
    *,
    query: int = 0,
    head: int | None = None,
    sample: int = 0,
    prefix: int | None = None,
    grid: tuple[int, int] | None = None,
    opacity: float = 0.6,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws how much one token attends to each patch, over the photo.

    Args:
        weights: As in `attention_map`.
        photo: As in `overlay`.
        query: As in `attention_map`.
        head: As in `attention_map`.
        sample: As in `attention_map`.
        prefix: As in `fold`.
        grid: As in `fold`.
        opacity: Of the map.
        title: A title.
        ax: Where to draw; None makes a figure of its own.

    Returns:
        The figure.

    Raises:
        ValueError, IndexError: As `attention_map`.
    """
    seen = attention_map(weights, query=query, head=head, sample=sample, prefix=prefix, grid=grid)
    return overlay(seen, photo, opacity=opacity, title=title, ax=ax)
