"""Drawing one map: from a feature to the pixels of an axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch
from torch import Tensor

from .._optional import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

Channel: TypeAlias = Literal["mean", "max", "norm"] | int

_MISSING: Final = "0.6"  # grey, for what is not a number


def grid_of(feat: Tensor, channel: Channel, sample: int) -> Tensor:
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


def draw(ax: Axes, grid: Tensor, percentiles: tuple[float, float] | None, cmap: str) -> AxesImage:
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


def caption_of(grid: Tensor, low: float, high: float) -> str:
    finite = grid[grid.isfinite()]
    parts = [f"{low:.3g} to {high:.3g}"]
    clipped = ((finite < low) | (finite > high)).sum().item()
    if clipped:
        parts.append(f"{clipped / finite.numel():.1%} clipped")
    if finite.numel() < grid.numel():
        parts.append(f"{grid.numel() - finite.numel()} not finite (grey)")
    return ", ".join(parts)


def position_of_peak(grid: Tensor) -> str:
    height, width = grid.shape
    filled = grid.nan_to_num(nan=-torch.inf, posinf=-torch.inf)
    row, column = divmod(int(filled.argmax()), width)
    return f"{height} by {width} positions, brightest at row {row}, column {column}"


def draw_photo(ax: Axes, image: Any) -> None:
    """Draws a photo: `[1, 3, H, W]` or `[3, H, W]` from 0 to 1, or what matplotlib's `imshow` takes."""
    ax.set_axis_off()
    ax.imshow(pixels_of(image))


def pixels_of(image: Any) -> Any:
    """Returns a photo as `imshow` takes it."""
    if isinstance(image, Tensor):
        return image.detach().cpu().reshape(-1, *image.shape[-2:]).permute(1, 2, 0).clamp(0, 1).numpy()
    return image
