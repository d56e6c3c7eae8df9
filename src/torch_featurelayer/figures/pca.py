"""Principal components of features as colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._layout import layout_for
from ..analysis import pca_rgb
from ..analysis._maps import ByLayer, by_layer, pick
from ._draw import draw_image
from ._figure import get_figure, get_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_pca(
    feats: ByLayer,
    *,
    image: Any = None,
    sample: int = 0,
    layout: str | Mapping[str, str] | None = None,
    shared: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draws features in the colours of their first three principal components, side by side.

    Args:
        feats: The feature maps, all with the same number of channels: a `Features`, or a dict from title to tensor
            `[N, C, H, W]`. For tokens, apply `analysis.tokens_to_map` first.
        image: An image to draw first: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1 (`LoadedModel.image`), or anything that
            matplotlib's `imshow` accepts. Default: None, no image.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, one for all features or a dict from title to order. Default: None, the only
            order that the shape allows.
        shared: Whether all features share one basis, so that colours can be compared. If False, each has its own basis,
            and their numbers of channels may differ. Default: True.
        ax: The axes that the row replaces. Default: None, a new figure.

    Returns:
        The figure.

    Raises:
        TypeError: If `feats` is not a `Features` or a dict.
        ValueError: If there are no features, they have fewer than 3 channels, or with `shared` their numbers of
            channels differ.
        LayoutError: If the order of the dimensions of a feature is unknown.
        IndexError: If there is no such sample.
    """
    named = by_layer(feats)
    layouts = [layout_for(layout, title) for title in named]
    maps = list(named.values())
    coloured = (
        pca_rgb(maps, layout=layouts)
        if shared
        else [pca_rgb([feat], layout=[name])[0] for feat, name in zip(maps, layouts, strict=True)]
    )
    basis = "one basis for all" if shared else "its own basis"
    count = len(coloured) + (image is not None)
    (panels,) = get_panels(ax, 1, count, 2.4, 2.7)
    if image is not None:
        draw_image(panels[0], image)
        panels[0].set_title("image", fontsize="small")
        panels[0].set_label("The image.")
    for panel, title, rgb in zip(panels[count - len(coloured) :], named, coloured, strict=True):
        draw_image(panel, pick(rgb, sample, "sample"))
        panel.set_title(title, fontsize="small")
        size = "×".join(map(str, rgb.shape[-2:]))
        panel.set_label(f"{title} ({size}): first three principal components as red, green and blue, {basis}.")
    return get_figure(panels[0])
