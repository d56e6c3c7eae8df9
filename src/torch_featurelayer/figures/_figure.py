"""The figure all functions of this package return."""

from __future__ import annotations

from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

from .._optional import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Figure = need("matplotlib.figure", "figures").Figure


class FeatureFigure(Figure):
    """A matplotlib figure that shows itself in a notebook, with a text for those who do not see it."""

    @property
    def alt_text(self) -> str:
        """What the figure shows, in words and numbers."""
        return alt_text(self)

    def _repr_html_(self) -> str:
        from base64 import b64encode

        buffer = BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        data = b64encode(buffer.getvalue()).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{escape(self.alt_text)}">'


def alt_text(figure: Figure) -> str:
    """Returns what a figure of this module shows, in words and numbers: a text for its `alt`."""
    texts = [ax.get_label() for ax in figure.axes]
    return " ".join(str(text) for text in texts if text and text != "<colorbar>")


def axes_of(ax: Axes | None, width: float = 4, height: float = 4) -> Axes:
    """Returns the axes to draw into: those given, or those of a new figure, of a size in inches."""
    return FeatureFigure(figsize=(width, height), layout="constrained").subplots() if ax is None else ax


def figure_of(ax: Axes) -> Figure:
    """Returns the figure that axes are in."""
    return ax.figure  # type: ignore[return-value]
