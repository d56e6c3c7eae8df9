"""How well the layers of a model tell classes apart, by depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._figure import get_axes, get_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"linear": "#31688e", "kNN": "#35b779", "baseline": "0.55"}


def plot_probe(table: Any, *, ax: Axes | None = None) -> Figure:
    """Draws the accuracy of the probes of each layer, from shallow to deep, with 95 % intervals.

    Args:
        table: The table of `tl.probe`.
        ax: The axes to draw into. Default: None, a new figure.

    Returns:
        The figure. The best layer is marked, and so are those that do not differ from it; the dotted line is the
        accuracy of always predicting the largest class.

    Raises:
        ValueError: If the table has no rows.
    """
    rows = [*table]
    if not rows:
        raise ValueError("plot_probe needs a table with at least one row")
    ax = get_axes(ax, max(5.0, min(0.5 * len(rows) + 2, 10)), 3.8)
    places = list(range(len(rows)))
    _draw(ax, places, [row.linear for row in rows], [row.linear_interval for row in rows], "linear")
    _draw(ax, places, [row.knn for row in rows], [row.knn_interval for row in rows], "kNN")
    if not all(math.isnan(row.baseline) for row in rows):
        ax.plot(
            places, [row.baseline for row in rows], "o--", markersize=3, color=_COLOURS["baseline"], label="baseline"
        )
    ax.axhline(table.chance, color="0.4", linestyle=":", linewidth=0.8, label="chance")
    equal = [place for place in places if rows[place] in table.equals]
    best = rows.index(table.best)
    ax.plot(best, table.best.linear, "*", markersize=12, color="#d1792c", label="best", zorder=5)
    if equal:
        ax.plot(
            equal, [rows[place].linear for place in equal], "o", markersize=9, markerfacecolor="none",
            markeredgecolor="#d1792c", label="not different from it", zorder=4,
        )  # fmt: skip
    ax.set_xticks(places, [row.layer for row in rows], rotation=45, ha="right", fontsize="x-small")
    ax.tick_params(axis="y", labelsize="x-small")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.set_ylabel("accuracy", fontsize="small")
    ax.legend(fontsize="x-small", loc="best")
    ax.set_label(f"Accuracy of probes by layer over {len(rows)} layers. {table.summary}")
    return get_figure(ax)


def _draw(ax: Axes, places: list[int], values: list[float], intervals: list[tuple[float, float]], name: str) -> None:
    below = [value - low for value, (low, _) in zip(values, intervals, strict=True)]
    above = [high - value for value, (_, high) in zip(values, intervals, strict=True)]
    ax.errorbar(
        places, values, yerr=[below, above], fmt="o-", markersize=4, linewidth=1, capsize=2, color=_COLOURS[name],
        label=name,
    )  # fmt: skip
