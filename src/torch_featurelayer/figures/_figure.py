"""`FeatureFigure`, the figure that all functions return, and the axes to draw into."""

from __future__ import annotations

from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from .._optional import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    # Not pyplot, which keeps every figure in a global list.
    Figure = need("matplotlib.figure", "figures").Figure

_GAP = 0.04  # between panels, as a share of a panel


class FeatureFigure(Figure):
    """A matplotlib figure that displays itself in a notebook, with a text for readers who do not see it."""

    @property
    def alt_text(self) -> str:
        """A description of the figure in words and numbers."""
        return alt_text(self)

    def _repr_html_(self) -> str:
        from base64 import b64encode

        buffer = BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        data = b64encode(buffer.getvalue()).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{escape(self.alt_text)}">'


def alt_text(figure: Figure) -> str:
    """Returns a description of a figure in words and numbers, for the `alt` attribute of its image.

    Args:
        figure: A figure that a function of this package drew.
    """
    texts = [ax.get_label() for ax in _all_axes(figure)]
    return " ".join(str(text) for text in texts if text and not str(text).startswith("<"))


def _all_axes(figure: Figure) -> list[Axes]:
    """Returns the axes of a figure and the insets in them, in reading order."""
    found: list[Axes] = []
    for ax in figure.axes:
        found.append(ax)
        found.extend(inner for inner in ax.child_axes if inner not in found)  # type: ignore[misc]
    return found


def get_axes(ax: Axes | None, width: float = 4, height: float = 4) -> Axes:
    """Returns the given axes, or the axes of a new figure of a size in inches."""
    return FeatureFigure(figsize=(width, height), layout="constrained").subplots() if ax is None else ax


def get_panels(ax: Axes | None, rows: int, columns: int, width: float, height: float) -> list[list[Axes]]:
    """Returns a grid of axes, in a new figure or inside the given axes.

    Args:
        ax: The axes that the grid replaces; None for a new figure.
        rows: The number of rows.
        columns: The number of columns.
        width: The width of a panel of a new figure, in inches.
        height: The height of a panel of a new figure, in inches.
    """
    if ax is None:
        figure = FeatureFigure(figsize=(width * columns, height * rows), layout="constrained")
        return [list(row) for row in figure.subplots(rows, columns, squeeze=False)]
    ax.set_axis_off()
    wide, high = 1 / columns, 1 / rows
    return [
        [
            ax.inset_axes(
                (column * wide, 1 - (row + 1) * high, wide * (1 - 3 * _GAP), high * (1 - 5 * _GAP)), label="<panel>"
            )
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def get_figure(ax: Axes) -> Figure:
    """Returns the figure that axes are in."""
    return ax.figure  # type: ignore[return-value]
