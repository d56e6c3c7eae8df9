"""Figures of features: tensors to matplotlib figures.

Every function returns a figure, draws into an `ax` where one is given, and
never shows anything. Magnitudes are in viridis; what is clipped is said, what
is not a number is grey and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

from ._optional import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
else:
    Figure = need("matplotlib.figure", "figures").Figure

__all__ = ["FeatureFigure", "alt_text", "depths", "feature_map"]

Channel: TypeAlias = Literal["mean", "max", "norm"] | int

_MISSING = "0.6"  # grey, for what is not a number


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


def feature_map(
    feat: Tensor,
    *,
    channel: Channel = "mean",
    sample: int = 0,
    percentiles: tuple[float, float] | None = None,
    cmap: str = "viridis",
    colorbar: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draws one feature map: the mean over channels, from its least to its greatest value, without axes.

    Args:
        feat: `[N, C, H, W]`, `[C, H, W]` or `[H, W]`, any dtype and device; it is not changed.
        channel: What stands for the channels: `"mean"`, `"max"`, `"norm"` (the
            length of each position's vector), or the number of one channel.
        sample: Which of the `N` samples.
        percentiles: Colour limits as percentiles, such as `(1, 99)`. The share
            clipped is printed. None: the least and the greatest value.
        cmap: The name of a matplotlib colour map.
        colorbar: Draw the scale beside the map.
        title: A title. The map's size is added.
        ax: Where to draw; None makes a figure of its own.

    Returns:
        The figure: a `FeatureFigure`, or that of `ax`.

    Raises:
        ValueError: The feature has no height and width, or is empty.
        IndexError: There is no such sample or channel.
    """
    grid = _grid(feat, channel, sample)
    if ax is None:
        ax = FeatureFigure(figsize=(4, 4), layout="constrained").subplots()
    shown = _draw(ax, grid, percentiles, cmap)
    caption = _caption(grid, *shown.get_clim())
    ax.set_label(f"Feature map {title or ''}: {_position_of_peak(grid)}; {caption}.".replace(" :", ":"))
    if title is not None:
        ax.set_title(title, fontsize="small")
    if percentiles is not None or not grid.isfinite().all():
        ax.text(0.5, -0.02, caption, transform=ax.transAxes, ha="center", va="top", fontsize="x-small")
    if colorbar:
        clips = "both" if percentiles else "neither"
        ax.figure.colorbar(shown, ax=ax, extend=clips, shrink=0.8)
    return ax.figure  # type: ignore[return-value]


def depths(
    rows: Mapping[str, Mapping[str, Tensor]] | Mapping[str, Any],
    *,
    image: Any = None,
    channel: Channel = "mean",
    sample: int = 0,
    percentiles: tuple[float, float] | None = None,
    cmap: str = "viridis",
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

    Returns:
        A new figure.

    Raises:
        ValueError: There is no row, or a feature has no height and width.
    """
    layers = {model: dict(features.items()) for model, features in rows.items()}
    if not layers or not all(layers.values()):
        raise ValueError("depths needs at least one model, and at least one feature of each")
    photos = 0 if image is None else 1
    columns = photos + max(map(len, layers.values()))
    figure = FeatureFigure(figsize=(2 * columns, 2.3 * len(layers)), layout="constrained")
    axes = figure.subplots(len(layers), columns, squeeze=False)
    for row, (model, features) in zip(axes, layers.items(), strict=True):
        for ax in row:
            ax.set_axis_off()
        if photos:
            _draw_photo(row[0], image)
        for ax, (layer, feat) in zip(row[photos:], features.items(), strict=False):
            size = "×".join(map(str, feat.shape[-3:]))
            feature_map(feat, channel=channel, sample=sample, percentiles=percentiles, cmap=cmap, ax=ax)
            ax.set_title(f"{layer}\n{size}", fontsize="x-small")
            ax.set_label(f"{model}, {layer} ({size}): {ax.get_label()}")
        row[0].text(-0.04, 0.5, model, transform=row[0].transAxes, rotation=90, ha="right", va="center")
    return figure


def _grid(feat: Tensor, channel: Channel, sample: int) -> Tensor:
    """Returns the `[H, W]` map of one sample, in float32 on the host."""
    if not isinstance(feat, Tensor) or feat.ndim not in (2, 3, 4) or not feat.numel():
        shape = list(feat.shape) if isinstance(feat, Tensor) else type(feat).__name__
        raise ValueError(f"a feature map is [N, C, H, W], [C, H, W] or [H, W] and not empty; this is {shape}")
    feat = feat.detach()[sample] if feat.ndim == 4 else feat.detach()
    feat = feat.to("cpu", torch.float32)
    if feat.ndim == 2:
        return feat
    if isinstance(channel, int):
        return feat[channel]
    if channel == "mean":
        return feat.mean(0)
    if channel == "max":
        return feat.amax(0)
    if channel == "norm":
        return feat.square().sum(0).sqrt()
    raise ValueError(f"channel is 'mean', 'max', 'norm' or a number, not {channel!r}")


def _draw(ax: Axes, grid: Tensor, percentiles: tuple[float, float] | None, cmap: str) -> AxesImage:
    colours = need("matplotlib", "figures").colormaps[cmap].with_extremes(bad=_MISSING)
    low, high = _limits(grid, percentiles)
    ax.set_axis_off()
    values = grid.masked_fill(~grid.isfinite(), float("nan")).numpy()
    return ax.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")


def _limits(grid: Tensor, percentiles: tuple[float, float] | None) -> tuple[float, float]:
    finite = grid[grid.isfinite()]
    if not finite.numel():
        return 0.0, 1.0
    if percentiles is None:
        return finite.min().item(), finite.max().item()
    at = torch.tensor(percentiles, dtype=torch.float32) / 100
    low, high = torch.quantile(finite, at).tolist()
    return low, high


def _caption(grid: Tensor, low: float, high: float) -> str:
    finite = grid[grid.isfinite()]
    parts = [f"{low:.3g} to {high:.3g}"]
    clipped = ((finite < low) | (finite > high)).sum().item()
    if clipped:
        parts.append(f"{clipped / finite.numel():.1%} clipped")
    if finite.numel() < grid.numel():
        parts.append(f"{grid.numel() - finite.numel()} not finite (grey)")
    return ", ".join(parts)


def _position_of_peak(grid: Tensor) -> str:
    height, width = grid.shape
    filled = grid.nan_to_num(nan=-torch.inf, posinf=-torch.inf)
    row, column = divmod(int(filled.argmax()), width)
    return f"{height} by {width} positions, brightest at row {row}, column {column}"


def _draw_photo(ax: Axes, image: Any) -> None:
    if isinstance(image, Tensor):
        image = image.detach().cpu().reshape(-1, *image.shape[-2:]).permute(1, 2, 0).clamp(0, 1).numpy()
    ax.imshow(image)
    ax.set_title("photo\n", fontsize="x-small")
    ax.set_label("The photo.")
