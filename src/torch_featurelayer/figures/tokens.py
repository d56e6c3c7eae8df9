"""Tokens and maps of transformers, brought to the layout of convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from torch import Tensor

_PREFIXES: Final = (0, 1, 2, 4, 5, 8, 9)  # a class token, another for distillation, 4 or 8 registers


def fold(
    feat: Tensor,
    *,
    prefix: int | None = None,
    grid: tuple[int, int] | None = None,
    channels_last: bool | None = None,
) -> Tensor:
    """Folds tokens to maps, without the class and register tokens in front, and puts channels before positions.

    Args:
        feat: Tokens `[N, T, C]`; maps `[N, C, H, W]` are returned as they are, maps `[N, H, W, C]` (Swin) permuted.
        prefix: How many tokens stand before the patches. None: what a square, or `grid`, leaves over, if
            that is a number of class and register tokens in use (0, 1, 2, 4, 5, 8 or 9).
        grid: Rows and columns of patches; None: as many of one as of the other.
        channels_last: Whether a map is `[N, H, W, C]`. None: if it is square in that reading alone.

    Returns:
        `[N, C, H, W]`: a view of the feature, which carries its gradient.

    Raises:
        ValueError: The tokens do not fill such a grid.

    Examples:
        >>> import torch
        >>> fold(torch.zeros(1, 197, 768)).shape
        torch.Size([1, 768, 14, 14])
    """
    if feat.ndim == 4:
        is_last = _is_last(feat.shape) if channels_last is None else channels_last
        return feat.permute(0, 3, 1, 2) if is_last else feat
    if feat.ndim != 3:
        raise ValueError(f"tokens are [N, T, C], not {list(feat.shape)}")
    count = feat.shape[1]
    prefix = _prefix(count, grid) if prefix is None else prefix
    rows, columns = grid or (math.isqrt(max(count - prefix, 0)),) * 2
    if prefix < 0 or rows * columns != count - prefix or not rows:
        raise ValueError(
            f"{count} tokens, some of them perhaps before the patches, fill no {'square' if grid is None else grid} "
            "grid: give prefix= and grid=(rows, columns)"
        )
    patches = feat[:, prefix:].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], rows, columns)


def _is_last(shape: Sequence[int]) -> bool:
    _, first, second, third = shape
    return first == second != third


def _prefix(count: int, grid: tuple[int, int] | None) -> int:
    """Returns the number of tokens left over, where as many class and register tokens are in use; else -1."""
    left = count - (math.isqrt(count) ** 2 if grid is None else grid[0] * grid[1])
    return left if left in _PREFIXES else -1
