"""How activations are distributed, and which channels are dead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .._exceptions import LayoutError
from .._layout import layout_for
from ..analysis import dead_channels
from ..analysis._maps import ByLayer, channels_first
from ._figure import figure_of, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def histogram(
    feats: ByLayer,
    *,
    layout: str | Mapping[str, str] | None = None,
    bins: int = 60,
    columns: int = 3,
    ax: Axes | None = None,
) -> Figure:
    """Draws the distribution of the activations of layers, with the number of dead channels.

    Args:
        feats: `[N, C, *positions]` by layer: a `Features`, or a dict.
        layout: The order of the dimensions, one for all or a dict by layer. Default: None, the one that shapes allow.
        bins: The number of bars. Default: 60.
        columns: The number of layers side by side. Default: 3.
        ax: The axes whose place the histograms take. Default: None, a new figure.

    Returns:
        The figure; each part says on how many images it rests. Values that are not finite are left out and counted.

    Raises:
        ValueError: If there is no layer, or it has no channels.
        LayoutError: If which dimension of a layer holds the channels is not known; it names the layer.
    """
    layers = dict(feats.items())
    if not layers:
        raise ValueError("histogram needs at least one layer")
    columns = min(columns, len(layers))
    rows = math.ceil(len(layers) / columns)
    panels = [panel for row in panels_of(ax, rows, columns, 3, 2.3) for panel in row]
    for panel in panels[len(layers) :]:
        panel.set_axis_off()
    for panel, (layer, feat) in zip(panels, layers.items(), strict=False):
        _draw_one(panel, layer, _named(layer, feat, layout_for(layout, layer)), bins)
    panels[0].set_ylabel("activations (log)", fontsize="x-small")
    return figure_of(panels[0])


def _named(layer: str, feat: Tensor, layout: str | None) -> Tensor:
    try:
        return channels_first(feat, layout).detach()
    except LayoutError as error:
        raise error.of(layer) from None


def _draw_one(ax: Axes, layer: str, feat: Tensor, bins: int) -> None:
    values = feat.flatten().to("cpu", torch.float32)
    finite = values[values.isfinite()]
    images = f"{len(feat)} image{'s' if len(feat) != 1 else ''}"
    layout = "NC" if feat.ndim == 2 else "NC" + "ABDEFG"[: feat.ndim - 2]
    said = f"{len(dead_channels(feat, layout=layout))} of {feat.shape[1]} channels dead on {images}"
    if len(finite) < len(values):
        said += f", {len(values) - len(finite)} values not finite"
    ax.hist(finite.numpy(), bins=bins, log=True, color="#31688e")
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_title(f"{layer}\n{said}", fontsize="x-small")
    ax.tick_params(labelsize="x-small")
    numbers = (
        f"mean {finite.mean():.3g}, {finite.min():.3g} to {finite.max():.3g}" if len(finite) else "no finite value"
    )
    ax.set_label(f"{layer}: {said}; {numbers}.")
