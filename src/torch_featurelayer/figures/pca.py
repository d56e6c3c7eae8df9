"""The three directions in which features vary most, as red, green and blue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._layout import layout_for
from ..analysis import pca_rgb
from ..analysis._maps import ByLayer, pick
from ._draw import draw_photo
from ._figure import figure_of, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pca(
    feats: ByLayer,
    *,
    photo: Any = None,
    sample: int = 0,
    layout: str | Mapping[str, str] | None = None,
    shared: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draws features in the colours of their principal components, side by side.

    Args:
        feats: Maps by title, as `pca_rgb` takes them: a `Features`, or a dict.
        photo: Drawn first; as in `overlay`. Default: None.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, one for all or a dict by title. Default: None, the one that shapes allow.
        shared: Use one basis for all, so that colours mean the same. Default: True; with False each has its own, and
            channels may differ.
        ax: The axes whose place the panels take. Default: None, a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is none, or channels differ or are fewer than 3.
        LayoutError: If the order of the dimensions of one is not known.
        IndexError: If there is no such sample.
    """
    named = dict(feats.items())
    layouts = [layout_for(layout, title) for title in named]
    maps = list(named.values())
    coloured = (
        pca_rgb(maps, layout=layouts)
        if shared
        else [pca_rgb([feat], layout=[name])[0] for feat, name in zip(maps, layouts, strict=True)]
    )
    basis = "one basis for all" if shared else "a basis of its own"
    count = len(coloured) + (photo is not None)
    (panels,) = panels_of(ax, 1, count, 2.4, 2.7)
    if photo is not None:
        draw_photo(panels[0], photo)
        panels[0].set_title("photo", fontsize="small")
        panels[0].set_label("The photo.")
    for panel, title, rgb in zip(panels[count - len(coloured) :], named, coloured, strict=True):
        draw_photo(panel, pick(rgb, sample, "sample"))
        panel.set_title(title, fontsize="small")
        size = "×".join(map(str, rgb.shape[-2:]))
        panel.set_label(f"{title} ({size}): first three principal components as red, green and blue, {basis}.")
    return figure_of(panels[0])
