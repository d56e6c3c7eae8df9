"""Draws one map into axes: colours, scale, colour bar, and the description of its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from .._optional import need
from ._figure import get_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

MAGNITUDE: Final = "viridis"
SIGNED: Final = "RdBu_r"  # diverging, white at zero
_NOT_FINITE: Final = "0.6"  # grey


@dataclass(frozen=True, slots=True)
class Scale:
    """The mapping from values to colours.

    Attributes:
        percentiles: The colour limits as percentiles; the share of clipped values is printed.
        vmin: The lower limit; None for the smallest value or the percentile.
        vmax: The upper limit; None for the largest value or the percentile.
        center: The value in the middle of the colours; None for zero if values have both signs and no limit is given.
        norm: A matplotlib norm, which replaces the limits.
        cmap: The name of a matplotlib colour map; None for viridis, or a diverging one if there is a centre.
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
        colours = need("matplotlib", "figures").colormaps[name].with_extremes(bad=_NOT_FINITE)
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
    """Draws a map without ticks and frame; values that are not finite are grey."""
    ax.set_axis_off()
    values = grid.masked_fill(~grid.isfinite(), float("nan")).numpy()
    return ax.imshow(values, **{"interpolation": "nearest", **scale.colours(grid), **options})


def add_colorbar(ax: Axes, shown: AxesImage, label: str, *, clipped: bool = False) -> None:
    """Draws a colour bar beside a map, in an inset, so that the axes keep their size."""
    # An inset: a colour bar of its own axes would shrink the user's.
    side = ax.inset_axes((1.03, 0, 0.05, 1), label="<colorbar>")
    bar = get_figure(ax).colorbar(shown, cax=side, extend="both" if clipped else "neither")
    bar.ax.tick_params(labelsize="x-small")
    bar.set_label(label, fontsize="x-small")


def describe_values(grid: Tensor, shown: AxesImage) -> str:
    """Describes the values of a map: their range, and the numbers of clipped and of non-finite values."""
    finite = grid[grid.isfinite()]
    missing = grid.numel() - finite.numel()
    if not finite.numel():
        return "no finite value (all grey)"
    smallest, largest = finite.min().item(), finite.max().item()
    parts = [f"constant at {smallest:.3g}" if smallest == largest else f"{smallest:.3g} to {largest:.3g}"]
    low, high = shown.get_clim()
    clipped = ((finite < low) | (finite > high)).sum().item() if low is not None and high is not None else 0
    if clipped:
        parts.append(f"colours from {low:.3g} to {high:.3g}, {clipped / finite.numel():.1%} clipped")
    if missing:
        parts.append(f"{missing} not finite (grey)")
    return ", ".join(parts)


def describe_positions(grid: Tensor) -> str:
    """Describes the size of a map, and the position of its largest value if it has one."""
    height, width = grid.shape
    size = f"{height} by {width} positions"
    finite = grid[grid.isfinite()]
    if not finite.numel() or finite.min() == finite.max():
        return size
    row, column = divmod(int(grid.masked_fill(~grid.isfinite(), -torch.inf).argmax()), width)
    return f"{size}, largest at row {row}, column {column}"


def draw_image(ax: Axes, image: Any) -> None:
    """Draws an image: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1, or anything that `imshow` accepts."""
    ax.set_axis_off()
    ax.imshow(to_pixels(image))


def to_pixels(image: Any) -> Any:
    """Returns an image as `imshow` accepts it.

    Raises:
        ValueError: If a tensor has not the shape of an image.
    """
    if not isinstance(image, Tensor):
        return image
    if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3) or (image.ndim == 4 and len(image) != 1):
        raise ValueError(f"an image is [3, H, W] or [1, 3, H, W] from 0 to 1, not {list(image.shape)}")
    return image.detach().cpu().reshape(-1, *image.shape[-2:]).permute(1, 2, 0).clamp(0, 1).float().numpy()


def image_size(image: Any) -> tuple[int, int]:
    """Returns the height and width of an image."""
    pixels = to_pixels(image)
    height, width = pixels.shape[:2] if hasattr(pixels, "shape") else need("numpy", "figures").asarray(pixels).shape[:2]
    return int(height), int(width)
