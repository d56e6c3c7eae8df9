"""Distributions of activations, with the number of dead channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._checks import check_counts
from .._exceptions import LayoutError
from .._layout import layout_for
from ..analysis import dead_channels
from ..analysis._maps import ByLayer, by_layer, channels_first
from ._figure import get_figure, get_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_histogram(
    feats: ByLayer,
    *,
    layout: str | Mapping[str, str] | None = None,
    bins: int = 60,
    columns: int = 3,
    ax: Axes | None = None,
) -> Figure:
    """Draws the distribution of the activations of each layer, with the number of dead channels.

    Args:
        feats: The features `[N, C, *positions]`: a `Features`, or a dict from layer to tensor.
        layout: The order of the dimensions, one for all layers or a dict from layer to order. Default: None, the only
            order that the shape allows.
        bins: The number of bars. Default: 60.
        columns: The number of histograms in a row. Default: 3.
        ax: The axes that the histograms replace. Default: None, a new figure.

    Returns:
        The figure. Each histogram gives the number of images it is based on; values that are not finite are left out
        and counted.

    Raises:
        TypeError: If `feats` is not a `Features` or a dict.
        ValueError: If there is no layer, a feature has no channels, or `bins` or `columns` is less than 1.
        LayoutError: If the dimension of the channels of a layer is unknown. It names the layer.
    """
    check_counts(bins=bins, columns=columns)
    layers = by_layer(feats)
    if not layers:
        raise ValueError("plot_histogram needs at least one layer")
    columns = min(columns, len(layers))
    rows = math.ceil(len(layers) / columns)
    panels = [panel for row in get_panels(ax, rows, columns, 3, 2.3) for panel in row]
    for panel in panels[len(layers) :]:
        panel.set_axis_off()
    for panel, (layer, feat) in zip(panels, layers.items(), strict=False):
        _draw_one(panel, layer, _channels_first(layer, feat, layout_for(layout, layer)), bins)
    panels[0].set_ylabel("activations (log)", fontsize="x-small")
    return get_figure(panels[0])


def _channels_first(layer: str, feat: Tensor, layout: str | None) -> Tensor:
    try:
        return channels_first(feat, layout).detach()
    except LayoutError as error:
        raise error.of(layer) from None


def _draw_one(ax: Axes, layer: str, feat: Tensor, bins: int) -> None:
    values = feat.flatten().to("cpu", torch.float32)
    finite = values[values.isfinite()]
    images = f"{len(feat)} image{'s' if len(feat) != 1 else ''}"
    layout = "NC" if feat.ndim == 2 else "NC" + "ABDEFG"[: feat.ndim - 2]
    text = f"{len(dead_channels(feat, layout=layout))} of {feat.shape[1]} channels dead on {images}"
    if len(finite) < len(values):
        text += f", {len(values) - len(finite)} values not finite"
    if len(finite):
        # In float64, whose steps are small enough for bins between two neighbouring float32.
        ax.hist(finite.double().numpy(), bins=bins, range=_span(finite), log=True, color="#31688e")
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_title(f"{layer}\n{text}", fontsize="x-small")
    ax.tick_params(labelsize="x-small")
    numbers = (
        f"mean {finite.mean():.3g}, {finite.min():.3g} to {finite.max():.3g}" if len(finite) else "no finite value"
    )
    ax.set_label(f"{layer}: {text}; {numbers}.")


def _span(values: Tensor) -> tuple[float, float]:
    """Returns the smallest and the largest value, or a range around them if they are equal."""
    low, high = float(values.min()), float(values.max())
    half = 0.0 if low < high else abs(low) / 2 or 0.5
    return low - half, high + half
