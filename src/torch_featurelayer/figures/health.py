"""The statistics of all layers of a model, on one page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ._figure import get_figure, get_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BANDS = ((0.0, 1.0, 0.15), (0.25, 0.75, 0.35))  # quantiles over channels, and how dark they are drawn
_MOST_LABELS = 16
_COLOUR = "#31688e"


def plot_health(statistics: Mapping[str, Any], *, ax: Axes | None = None) -> Figure:
    """Draws the statistics of all layers by depth: magnitude, zeros, kurtosis, and dead and outlier channels.

    Args:
        statistics: The statistics of `tl.statistics`.
        ax: The axes that the panels replace. Default: None, a new figure.

    Returns:
        The figure. Lines are medians over the channels of a layer, bands their quartiles and range.

    Raises:
        ValueError: If there is no layer.
    """
    layers = list(statistics.values())
    if not layers:
        raise ValueError("plot_health needs the statistics of at least one layer")
    panels = [row[0] for row in get_panels(ax, 4, 1, max(6.0, min(0.3 * len(layers) + 2, 12)), 1.8)]
    _draw_bands(panels[0], "root mean square", [layer.rms for layer in layers], log=True)
    _draw_bands(panels[1], "share of zeros", [layer.zeros for layer in layers])
    _draw_bands(panels[2], "kurtosis", [layer.kurtosis for layer in layers], log=True)
    panels[2].axhline(3, color="0.4", linestyle="--", linewidth=0.8, label="3: normal distribution")
    panels[2].legend(fontsize="x-small", loc="best")
    _draw_counts(panels[3], layers)
    step = math.ceil(len(layers) / _MOST_LABELS)
    shown = range(0, len(layers), step)
    for panel in panels[:-1]:
        panel.set_xticks(shown, [""] * len(shown))
    panels[-1].set_xticks(shown, [layers[n].layer for n in shown], rotation=45, ha="right", fontsize="x-small")
    items = getattr(statistics, "num_items", 0)
    positions = [layer.positions for layer in layers]
    counted = f"{min(positions):,} to {max(positions):,}" if len(set(positions)) > 1 else f"{positions[0]:,}"
    panels[0].set_title(f"{items:,} items, {counted} positions per channel", fontsize="small")
    return get_figure(panels[0])


def _draw_bands(ax: Axes, name: str, columns: list[Tensor], *, log: bool = False) -> None:
    """Draws the median, the quartiles and the range over channels for each layer."""
    finite = [column[column.isfinite()] for column in columns]
    places = [place for place, column in enumerate(finite) if len(column)]
    kept = [finite[place] for place in places]
    for low, high, alpha in _BANDS:
        lower, upper = ([float(column.quantile(share)) for column in kept] for share in (low, high))
        ax.fill_between(places, lower, upper, color=_COLOUR, alpha=alpha, linewidth=0)
    medians = [float(column.median()) for column in kept]
    ax.plot(places, medians, marker="o", markersize=3, color=_COLOUR)
    if log and any(median > 0 for median in medians):
        ax.set_yscale("log", nonpositive="mask")
    else:
        ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel(name, fontsize="x-small")
    ax.tick_params(which="both", labelsize="x-small")
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ends = f"{medians[0]:.3g} in the first layer, {medians[-1]:.3g} in the last" if medians else "no finite value"
    ax.set_label(f"{name[0].upper()}{name[1:]}, median over channels: {ends}.")


def _draw_counts(ax: Axes, layers: list[Any]) -> None:
    """Draws the shares of dead and of outlier channels, with their numbers above."""
    bars = (("dead", "#b40426", -0.2), ("outliers", "#d1792c", 0.2))
    for name, colour, shift in bars:
        counts = [len(getattr(layer, name)) for layer in layers]
        shares = [count / len(layer.count) for count, layer in zip(counts, layers, strict=True)]
        places = [place + shift for place in range(len(layers))]
        ax.bar(places, shares, width=0.4, color=colour, label=f"{name}: {sum(counts)} channels")
        for place, share, count in zip(places, shares, counts, strict=True):
            if count:
                ax.annotate(str(count), (place, share), ha="center", va="bottom", fontsize="xx-small")
    ax.legend(fontsize="x-small", loc="best")
    ax.set_ylim(0, max(0.01, 1.2 * ax.dataLim.y1))
    ax.set_ylabel("share of channels", fontsize="x-small")
    ax.tick_params(labelsize="x-small")
    ax.set_xlim(-0.5, len(layers) - 0.5)
    totals = {name: sum(len(getattr(layer, name)) for layer in layers) for name, _, _ in bars}
    ax.set_label(f"{totals['dead']} dead and {totals['outliers']} outlier channels in {len(layers)} layers.")
