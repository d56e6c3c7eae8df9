"""What a request says: the model, the image, and the position of the probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

Options: TypeAlias = Mapping[str, str]


def selection(options: Options) -> tuple[int, int]:
    """Returns the numbers of the model and of the image in a request."""
    return int(options.get("model", 0)), int(options.get("picture", 0))


def probe_x(options: Options) -> float | None:
    """Returns the horizontal position of the probe in a request, from 0 to 1; None without a probe."""
    return float(options["x"]) if "x" in options else None


def probe_position(options: Options) -> tuple[float, float] | None:
    """Returns the position of the probe in a request, each from 0 to 1; None without a probe."""
    return (float(options["x"]), float(options["y"])) if "x" in options else None


def token_at(count: int, x: float | None) -> int:
    """Returns the number of the token at a position from 0 to 1; the last one for None."""
    return count - 1 if x is None else min(max(int(x * count), 0), count - 1)


def position_at(maps: Tensor, x: float, y: float) -> tuple[int, int]:
    """Returns the row and the column of `[C, H, W]` at a position in the image, each from 0 to 1."""
    height, width = maps.shape[1:]
    return min(max(int(y * height), 0), height - 1), min(max(int(x * width), 0), width - 1)
