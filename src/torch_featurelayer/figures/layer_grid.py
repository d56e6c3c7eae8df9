"""Feature maps of several models: one row for each model, one column for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._exceptions import LayoutError
from .._layout import layout_for
from ..analysis._maps import ByLayer, Channel, by_layer
from ._draw import draw_image, image_size
from ._figure import get_figure, get_panels
from .feature_map import plot_feature_map
from .overlay import plot_overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_layer_grid(
    rows: Mapping[str, ByLayer],
    *,
    image: Any = None,
    channel: Channel = "mean",
    sample: int = 0,
    layout: str | Mapping[str, str] | None = None,
    percentiles: tuple[float, float] | None = None,
    cmap: str | None = None,
    over: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Draws the feature maps of several models: one row for each model, one column for each layer.

    Each map has its own colour range and colour bar: compare shapes, not colours.

    Args:
        rows: The features of each model, by the name of the model: a `Features`, or a dict from layer to tensor. Apply
            `analysis.tokens_to_map` to tokens first.
        image: An image to draw first in each row: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1 (`LoadedModel.image`), or
            anything that matplotlib's `imshow` accepts. Default: None, no image.
        channel: How channels are reduced to one map: `"mean"` (default), `"max"`, `"norm"` (the length of the vector at
            each position), or the number of one channel. The colour bar shows it.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, one for all layers or a dict from layer to order. Default: None, the only
            order that the shape and the image allow.
        percentiles: The colour limits as percentiles, such as `(1, 99)`; the share of clipped values is printed.
            Default: None, the smallest and the largest value.
        cmap: The name of a matplotlib colour map. Default: None, viridis, or a diverging one for signed values.
        over: Whether to draw each map over the image, half transparent. Default: False.
        ax: The axes that the grid replaces. Default: None, a new figure.

    Returns:
        The figure.

    Raises:
        TypeError: If the features of a model are not a `Features` or a dict.
        ValueError: If there are no features, or `over` is set without an image.
        LayoutError: If a feature is not a map, or the order of its dimensions is unknown. It names the layer.
        IndexError: If there is no such sample or channel.
    """
    layers = {model: by_layer(features) for model, features in rows.items()}
    if over and image is None:
        raise ValueError("over=True needs an image: pass image=")
    if not layers or not all(layers.values()):
        raise ValueError("plot_layer_grid needs at least one model, and at least one feature of each")
    photos = 0 if image is None else 1
    columns = photos + max(map(len, layers.values()))
    panels = get_panels(ax, len(layers), columns, 2.3, 2.4)
    options = {"channel": channel, "sample": sample, "percentiles": percentiles, "cmap": cmap}
    for row, (model, features) in zip(panels, layers.items(), strict=True):
        for panel in row:
            panel.set_axis_off()
        if photos:
            draw_image(row[0], image)
            row[0].set_title("image\n", fontsize="x-small")
            row[0].set_label("The image.")
        for panel, (layer, feat) in zip(row[photos:], features.items(), strict=False):
            named = {**options, "layout": layout_for(layout, layer), "ax": panel}
            _draw_layer(feat, layer, image, over, named)
            size = "×".join(map(str, feat.shape[1:])) if hasattr(feat, "shape") else ""
            panel.set_title(f"{layer}\n{size}", fontsize="x-small")
            panel.set_label(f"{model}, {layer} ({size}): {panel.get_label()}")
        row[0].text(-0.04, 0.5, model, transform=row[0].transAxes, rotation=90, ha="right", va="center")
    return get_figure(panels[0][0])


def _draw_layer(feat: Any, layer: str, image: Any, over: bool, options: dict[str, Any]) -> None:
    try:
        if over:
            plot_overlay(feat, image, **options)
        else:
            plot_feature_map(feat, image_size=None if image is None else image_size(image), **options)
    except LayoutError as error:
        raise error.of(layer) from None
