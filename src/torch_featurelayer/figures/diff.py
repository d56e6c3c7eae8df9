"""The differences of two runs by depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._figure import get_axes, get_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FLOOR = 1e-9  # where a difference of nothing is drawn
_MOST_LABELS = 16


def plot_diff(table: Any, *, leaves: bool = True, ax: Axes | None = None) -> Figure:
    """Draws how much the layers of two runs differ, in the order of execution: relative error, and 1 - cosine.

    Args:
        table: The table of `tl.diff`.
        leaves: Whether to draw only layers without layers inside, or with parameters of their own. Default: True.
        ax: The axes to draw into. Default: None, a new figure.

    Returns:
        The figure. Both curves share one logarithmic axis; the tolerance is a dashed line, and the first layer above it
        is marked. Layers whose shapes differ, or with NaN in one run alone, are crosses at the top.

    Raises:
        ValueError: If there is nothing to draw.
    """
    rows = [row for row in table if row.is_leaf] if leaves else [*table]
    rows = rows or [*table]
    if not rows:
        raise ValueError("plot_diff needs a table with at least one row")
    ax = get_axes(ax, max(6.0, min(0.16 * len(rows) + 2, 10)), 4.4)
    places = range(len(rows))
    errors = [row.error if math.isfinite(row.error) else math.nan for row in rows]
    angles = [1 - row.cosine for row in rows]
    ax.plot(
        places,
        [max(each, _FLOOR) for each in errors],
        marker="o",
        markersize=3,
        color="#31688e",
        label="relative error",
    )
    ax.plot(
        places, [max(each, _FLOOR) for each in angles], marker=".", markersize=3, color="#d1792c", label="1 − cosine"
    )
    ax.axhline(table.rtol, color="0.4", linestyle="--", linewidth=0.8, label=f"tolerance {table.rtol:g}")
    ax.set_yscale("log")
    _mark_unmeasured(ax, rows)
    text = _mark_first(ax, rows, table.rtol)
    step = math.ceil(len(rows) / _MOST_LABELS)
    shown = [place for place in places if place % step == 0]
    ax.set_xticks(
        shown, [rows[place].name or "(the model)" for place in shown], rotation=60, ha="right", fontsize="x-small"
    )
    ax.tick_params(axis="y", labelsize="x-small")
    ax.set_title(text, fontsize="small")
    ax.legend(fontsize="x-small", loc="best")
    largest = max((each for each in errors if not math.isnan(each)), default=math.nan)
    ax.set_label(f"Relative error by layer over {len(rows)} layers: {text}; the largest error is {largest:.2g}.")
    return get_figure(ax)


def _mark_unmeasured(ax: Axes, rows: list[Any]) -> None:
    """Draws a cross for each layer without a finite error."""
    bad = [place for place, row in enumerate(rows) if not math.isfinite(row.error)]
    if bad:
        ax.plot(
            bad,
            [0.97] * len(bad),
            "x",
            color="#b40426",
            transform=ax.get_xaxis_transform(),
            label="shape or NaN differs",
        )


def _mark_first(ax: Axes, rows: list[Any], rtol: float) -> str:
    """Marks the first layer above the tolerance; returns the title."""
    place = next((place for place, row in enumerate(rows) if row.exceeds(rtol)), None)
    if place is None:
        return f"no layer differs by more than {rtol:g}"
    ax.axvline(place, color="#b40426", linewidth=0.8)
    return f"first layer above {rtol:g}: {rows[place].name or 'the model'}"
