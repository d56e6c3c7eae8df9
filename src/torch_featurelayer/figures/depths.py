"""Several models above each other, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from ._draw import Channel, draw_photo
from ._figure import FeatureFigure
from .maps import feature_map
from .overlay import overlay


def depths(
    rows: Mapping[str, Mapping[str, Tensor]] | Mapping[str, Any],
    *,
    image: Any = None,
    channel: Channel = "mean",
    sample: int = 0,
    percentiles: tuple[float, float] | None = None,
    cmap: str = "viridis",
    over: bool = False,
) -> FeatureFigure:
    """Draws what several models see, layer by layer: one row a model, one column a layer.

    Each map has its own range of colours: compare shapes, not magnitudes.

    Args:
        rows: For each model's name its features by layer: a `Features`, or a dict from name to tensor.
        image: The photo, drawn first in each row: `[1, 3, H, W]` or `[3, H, W]`
            from 0 to 1, as `images.load(..., mean=None, std=None)` gives it, or
            what matplotlib's `imshow` takes.
        channel: As in `feature_map`.
        sample: As in `feature_map`.
        percentiles: As in `feature_map`.
        cmap: As in `feature_map`.
        over: Draw each map over the photo, half transparent.

    Returns:
        A new figure.

    Raises:
        ValueError: There is no row, a feature has no height and width, or `over` without a photo.
    """
    layers = {model: dict(features.items()) for model, features in rows.items()}
    if over and image is None:
        raise ValueError("over needs the photo: image=")
    if not layers or not all(layers.values()):
        raise ValueError("depths needs at least one model, and at least one feature of each")
    draw_one = partial(overlay, photo=image) if over else feature_map
    photos = 0 if image is None else 1
    columns = photos + max(map(len, layers.values()))
    figure = FeatureFigure(figsize=(2 * columns, 2.3 * len(layers)), layout="constrained")
    axes = figure.subplots(len(layers), columns, squeeze=False)
    for row, (model, features) in zip(axes, layers.items(), strict=True):
        for ax in row:
            ax.set_axis_off()
        if photos:
            draw_photo(row[0], image)
            row[0].set_title("photo\n", fontsize="x-small")
            row[0].set_label("The photo.")
        for ax, (layer, feat) in zip(row[photos:], features.items(), strict=False):
            size = "×".join(map(str, feat.shape[-3:]))
            draw_one(feat, channel=channel, sample=sample, percentiles=percentiles, cmap=cmap, ax=ax)
            ax.set_title(f"{layer}\n{size}", fontsize="x-small")
            ax.set_label(f"{model}, {layer} ({size}): {ax.get_label()}")
        row[0].text(-0.04, 0.5, model, transform=row[0].transAxes, rotation=90, ha="right", va="center")
    return figure
