"""Several models above each other, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._exceptions import LayoutError
from .._layout import layout_for
from ..analysis._maps import ByLayer, Channel
from ._draw import draw_photo, size_of
from ._figure import figure_of, panels_of
from .feature_map import feature_map
from .overlay import overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def depths(
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
    """Draws what several models see, layer by layer: one row a model, one column a layer.

    Each map has its own range of colours and its own colour bar: compare shapes, not colours.

    Args:
        rows: For each model's name its features by layer: a `Features`, or a dict from name to tensor. Tokens are
            made maps by `tokens_to_map` first.
        image: The photo, drawn first in each row: `[1, 3, H, W]` or `[3, H, W]`
            from 0 to 1, as `images.load(..., mean=None, std=None)` gives it, or
            what matplotlib's `imshow` takes. Default: None.
        channel: As in `feature_map`; the figure says it.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, one for all or a dict by layer. Default: None, the one that the shape
            and the photo allow.
        percentiles: As in `feature_map`.
        cmap: As in `feature_map`.
        over: Draw each map over the photo, half transparent. Default: False.
        ax: The axes whose place the rows take. Default: None, a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no row, or `over` is given without a photo.
        LayoutError: If a feature is no map, or the order of its dimensions is not known; it names the layer.
        IndexError: If there is no such sample or channel.
    """
    layers = {model: dict(features.items()) for model, features in rows.items()}
    if over and image is None:
        raise ValueError("over needs the photo: image=")
    if not layers or not all(layers.values()):
        raise ValueError("depths needs at least one model, and at least one feature of each")
    photos = 0 if image is None else 1
    columns = photos + max(map(len, layers.values()))
    panels = panels_of(ax, len(layers), columns, 2.3, 2.4)
    options = {"channel": channel, "sample": sample, "percentiles": percentiles, "cmap": cmap}
    for row, (model, features) in zip(panels, layers.items(), strict=True):
        for panel in row:
            panel.set_axis_off()
        if photos:
            draw_photo(row[0], image)
            row[0].set_title("photo\n", fontsize="x-small")
            row[0].set_label("The photo.")
        for panel, (layer, feat) in zip(row[photos:], features.items(), strict=False):
            named = {**options, "layout": layout_for(layout, layer), "ax": panel}
            _draw_layer(feat, layer, image, over, named)
            size = "×".join(map(str, feat.shape[1:])) if hasattr(feat, "shape") else ""
            panel.set_title(f"{layer}\n{size}", fontsize="x-small")
            panel.set_label(f"{model}, {layer} ({size}): {panel.get_label()}")
        row[0].text(-0.04, 0.5, model, transform=row[0].transAxes, rotation=90, ha="right", va="center")
    return figure_of(panels[0][0])


def _draw_layer(feat: Any, layer: str, image: Any, over: bool, options: dict[str, Any]) -> None:
    try:
        if over:
            overlay(feat, image, **options)
        else:
            feature_map(feat, image_size=None if image is None else size_of(image), **options)
    except LayoutError as error:
        raise error.of(layer) from None
