"""Drawing one map into axes: colours, scale, colour bar, and the words that go with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from .._optional import need
from ._figure import figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

MAGNITUDE: Final = "viridis"
SIGNED: Final = "RdBu_r"  # diverging, white at zero
_MISSING: Final = "0.6"  # grey, for what is not a number


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to colours.

    Attributes:
        percentiles: Colour limits as percentiles; the share of clipped values is printed.
        vmin: The lower limit; None: the least value, or the percentile.
        vmax: The upper limit; None: the greatest value, or the percentile.
        center: The value in the middle of the colours; None: zero if values have both signs and no limit is given.
        norm: A matplotlib norm, in place of the limits.
        cmap: The name of a matplotlib colour map; None: viridis, or a diverging one where there is a centre.
    """

    percentiles: tuple[float, float] | None = None
    vmin: float | None = None
    vmax: float | None = None
    center: float | None = None
    norm: Any = None
    cmap: str | None = None

    def colours(self, grid: Tensor) -> dict[str, Any]:
        """Returns the arguments of `imshow` for a map."""
        center = self._center(grid)
        name = self.cmap or (MAGNITUDE if center is None else SIGNED)
        colours = need("matplotlib", "figures").colormaps[name].with_extremes(bad=_MISSING)
        if self.norm is not None:
            return {"cmap": colours, "norm": self.norm}
        low, high = self._limits(grid)
        if center is not None:
            reach = max(abs(high - center), abs(low - center))
            low, high = center - reach, center + reach
        return {"cmap": colours, "vmin": low, "vmax": high}

    def _center(self, grid: Tensor) -> float | None:
        is_free = (self.cmap, self.vmin, self.vmax, self.norm) == (None, None, None, None)
        if self.center is not None or not is_free:
            return self.center
        finite = grid[grid.isfinite()]
        return 0.0 if finite.numel() and finite.min() < 0 < finite.max() else None

    def _limits(self, grid: Tensor) -> tuple[float, float]:
        finite = grid[grid.isfinite()]
        low, high = 0.0, 1.0
        if finite.numel():
            at = torch.tensor(self.percentiles or (0, 100), dtype=torch.float32) / 100
            sample = finite[:: max(1, finite.numel() // 10_000_000)]  # torch.quantile takes 16 million values
            limits = torch.quantile(sample, at) if self.percentiles else torch.stack([finite.min(), finite.max()])
            low, high = limits.tolist()
        return float(low if self.vmin is None else self.vmin), float(high if self.vmax is None else self.vmax)


def draw(ax: Axes, grid: Tensor, scale: Scale, **options: Any) -> AxesImage:
    """Draws a map without axes; what is not a number is grey."""
    ax.set_axis_off()
    values = grid.masked_fill(~grid.isfinite(), float("nan")).numpy()
    return ax.imshow(values, **{"interpolation": "nearest", **scale.colours(grid), **options})


def add_colorbar(ax: Axes, shown: AxesImage, label: str, *, clipped: bool = False) -> None:
    """Draws the scale beside a map, in an inset: the axes keep their size."""
    side = ax.inset_axes((1.03, 0, 0.05, 1), label="<colorbar>")
    bar = figure_of(ax).colorbar(shown, cax=side, extend="both" if clipped else "neither")
    bar.ax.tick_params(labelsize="x-small")
    bar.set_label(label, fontsize="x-small")


def describe_values(grid: Tensor, shown: AxesImage) -> str:
    """Describes the values of a map: their range, or that there is none, and what is clipped or grey."""
    finite = grid[grid.isfinite()]
    missing = grid.numel() - finite.numel()
    if not finite.numel():
        return "no finite value (all grey)"
    least, greatest = finite.min().item(), finite.max().item()
    parts = [f"constant at {least:.3g}" if least == greatest else f"{least:.3g} to {greatest:.3g}"]
    low, high = shown.get_clim()
    clipped = ((finite < low) | (finite > high)).sum().item() if low is not None and high is not None else 0
    if clipped:
        parts.append(f"colours from {low:.3g} to {high:.3g}, {clipped / finite.numel():.1%} clipped")
    if missing:
        parts.append(f"{missing} not finite (grey)")
    return ", ".join(parts)


def describe_positions(grid: Tensor) -> str:
    """Describes the size of a map and where its greatest value is, if it has one."""
    height, width = grid.shape
    size = f"{height} by {width} positions"
    finite = grid[grid.isfinite()]
    if not finite.numel() or finite.min() == finite.max():
        return size
    row, column = divmod(int(grid.masked_fill(~grid.isfinite(), -torch.inf).argmax()), width)
    return f"{size}, greatest at row {row}, column {column}"


def draw_photo(ax: Axes, image: Any) -> None:
    """Draws a photo: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1, or what matplotlib's `imshow` takes."""
    ax.set_axis_off()
    ax.imshow(pixels_of(image))


def pixels_of(image: Any) -> Any:
    """Returns a photo as `imshow` takes it.

    Raises:
        ValueError: If a tensor is no photo.
    """
    if not isinstance(image, Tensor):
        return image
    if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3) or (image.ndim == 4 and len(image) != 1):
        raise ValueError(f"a photo is [3, H, W] or [1, 3, H, W] from 0 to 1, not {list(image.shape)}")
    return image.detach().cpu().reshape(-1, *image.shape[-2:]).permute(1, 2, 0).clamp(0, 1).float().numpy()


def size_of(photo: Any) -> tuple[int, int]:
    """Returns the height and width of a photo."""
    pixels = pixels_of(photo)
    height, width = pixels.shape[:2] if hasattr(pixels, "shape") else need("numpy", "figures").asarray(pixels).shape[:2]
    return int(height), int(width)
