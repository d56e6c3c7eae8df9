"""A value of each token in each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._draw import MAGNITUDE, Scale
from ._figure import get_axes, get_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_token_map(
    values: Tensor,
    tokens: Sequence[str],
    rows: Sequence[str],
    *,
    limits: tuple[float, float] | None = None,
    cmap: str | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws a heat map of the tokens of a text: a row for each layer, or for each token of an attention matrix.

    Args:
        values: The values `[rows, tokens]`; values that are not finite are grey.
        tokens: The tokens.
        rows: The names of the rows, such as layers.
        limits: The values of the first and the last colour, for all rows. Default: None: each row has its own range,
            because norms grow with depth, so that colours of different rows cannot be compared.
        cmap: The name of a matplotlib colour map. Default: None, viridis.
        title: The title. Default: None.
        ax: The axes to draw into. Default: None, a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the shape of `values` is not the number of rows and of tokens.

    Examples:
        >>> figure = plot_token_map(torch.rand(2, 3), ["The", " cat", " sat"], ["layer.0", "layer.1"])
        >>> figure.alt_text
        'Values of 3 tokens in 2 rows, from layer.0 to layer.1, each row in its own range.'
    """
    if tuple(values.shape) != (len(rows), len(tokens)):
        raise ValueError(f"values {list(values.shape)} are not of {len(rows)} rows and {len(tokens)} tokens")
    ax = get_axes(ax, max(3.5, min(0.34 * len(tokens) + 1.5, 14)), max(1.6, min(0.3 * len(rows) + 1.1, 10)))
    shown = values.detach().cpu().float()
    shown = torch.where(shown.isfinite(), shown, torch.nan)
    low, high = limits if limits is not None else (0.0, 1.0)
    colours = Scale(vmin=low, vmax=high, cmap=cmap or MAGNITUDE).colours(shown)
    image = ax.imshow((shown if limits is not None else _by_row(shown)).numpy(), aspect="auto", **colours)
    ax.set_xticks(range(len(tokens)), [token.strip() or " " for token in tokens], rotation=90, fontsize="x-small")
    ax.set_yticks(range(len(rows)), list(rows), fontsize="x-small")
    ax.tick_params(length=0)
    if title is not None:
        ax.set_title(title, fontsize="small")
    if limits is not None:
        ax.figure.colorbar(image, ax=ax, shrink=0.8).ax.tick_params(labelsize="x-small")
    told = "each row in its own range" if limits is None else f"from {low:g} to {high:g}"
    ax.set_label(f"Values of {len(tokens)} tokens in {len(rows)} rows, from {rows[0]} to {rows[-1]}, {told}.")
    return get_figure(ax)


def _by_row(values: Tensor) -> Tensor:
    """Returns each row scaled from 0 to 1."""
    low = values.nan_to_num(torch.inf).amin(1, keepdim=True)
    high = values.nan_to_num(-torch.inf).amax(1, keepdim=True)
    return (values - low) / torch.where(high > low, high - low, 1.0)
