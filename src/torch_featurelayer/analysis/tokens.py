"""Tokens of transformers as maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from .._exceptions import LayoutError
from .._layout import Layout
from ._maps import to_maps

_PREFIXES: Final = (0, 1, 2, 4, 5, 8, 9)  # a class token, another for distillation, 4 or 8 registers


def tokens_to_map(
    feat: Tensor,
    *,
    grid: tuple[int, int] | None = None,
    image_size: tuple[int, int] | None = None,
    patch: int | tuple[int, int] | None = None,
    prefix: int | None = None,
    layout: str | None = None,
) -> Tensor:
    """Reshapes tokens to feature maps, without class and register tokens, and moves channels before positions.

    The grid of tokens follows from the size of the image and of the model's patches, not from the number of tokens
    alone: 200 tokens are 10 × 20 for an image twice as wide as high, and 14 × 14 with 4 registers for a square one.

    Args:
        feat: Tokens `[N, T, C]`. Maps `[N, C, H, W]` and `[N, H, W, C]` (Swin) are accepted and permuted as needed.
        grid: The numbers of rows and columns of patches. Default: None, from `image_size`.
        image_size: The height and width of the image in pixels. Default: None.
        patch: The size of a patch in pixels, or its height and width. Default: None, the only size that fits the number
            of tokens.
        prefix: The number of tokens before the patches. Default: None, the tokens that the grid leaves over, if that is
            a usual number of class and register tokens (0, 1, 2, 4, 5, 8 or 9).
        layout: The order of the dimensions, such as `"NTC"`, `"TNC"` or `"NHWC"`. Default: None, `"NTC"` for tokens,
            and for maps the only order that the shape allows.

    Returns:
        Feature maps `[N, C, H, W]`: a view of the feature where possible, with its gradient.

    Raises:
        LayoutError: If the grid cannot be determined, or the tokens do not fill it.
        TypeError: If the tokens are no tensor.

    Examples:
        >>> import torch
        >>> tokens_to_map(torch.zeros(1, 197, 768), image_size=(224, 224)).shape
        torch.Size([1, 768, 14, 14])
        >>> tokens_to_map(torch.zeros(1, 200, 768), grid=(10, 20)).shape
        torch.Size([1, 768, 10, 20])
    """
    if not isinstance(feat, Tensor):
        raise TypeError(f"tokens are a tensor [N, T, C], not a {type(feat).__name__}: torch.as_tensor(feat)")
    if feat.ndim == 4:
        return to_maps(feat, layout, image_size)
    if feat.ndim != 3:
        raise LayoutError(f"tokens are [N, T, C], not {list(feat.shape)}", shape=tuple(feat.shape))
    tokens = Layout.parse(layout or "NTC").channels_first(feat)
    count = tokens.shape[-1]
    before, (rows, columns) = token_grid(count, grid, image_size, patch, prefix)
    patches = tokens[..., before:]
    return patches.reshape(*patches.shape[:-1], rows, columns)


def token_grid(
    count: int,
    grid: tuple[int, int] | None = None,
    image_size: tuple[int, int] | None = None,
    patch: int | tuple[int, int] | None = None,
    prefix: int | None = None,
) -> tuple[int, tuple[int, int]]:
    """Returns the number of tokens before the patches, and the numbers of rows and columns of patches.

    Args:
        count: The number of tokens.
        grid: The numbers of rows and columns of patches. Default: None, from `image_size`.
        image_size: The height and width of the image in pixels. Default: None.
        patch: The size of a patch in pixels, or its height and width. Default: None, the only size that fits the number
            of tokens.
        prefix: The number of tokens before the patches. Default: None, the tokens that the grid leaves over.

    Returns:
        A pair: the number of tokens before the patches, and the pair of rows and columns.

    Raises:
        LayoutError: If the grid cannot be determined, or several fit.
    """
    grids = [grid] if grid is not None else _grids(image_size, patch)
    if not grids:
        raise LayoutError(
            f"the grid of {count} tokens is unknown",
            hint="Pass image_size=(height, width), with patch= if several grids fit, or grid=(rows, columns).",
        )
    wanted = _PREFIXES if prefix is None else (prefix,)
    fitting = [(count - rows * columns, (rows, columns)) for rows, columns in grids]
    fitting = [(before, size) for before, size in fitting if before in wanted and min(size) > 0]
    if len(fitting) != 1:
        found = " or ".join(f"{before} + {rows} × {columns}" for before, (rows, columns) in fitting)
        raise LayoutError(
            f"{count} tokens may be {found}" if fitting else f"{count} tokens do not fill {_describe(grids)}",
            hint="Pass grid=(rows, columns) and prefix=, the number of tokens before the patches.",
        )
    return fitting[0]


def _grids(image_size: tuple[int, int] | None, patch: int | tuple[int, int] | None) -> list[tuple[int, int]]:
    """Returns the grids that patches of any size make of an image, without duplicates."""
    if image_size is None:
        return []
    height, width = image_size
    if patch is not None:
        high, wide = patch if isinstance(patch, tuple) else (patch, patch)
        return [(height // high, width // wide)]
    return list(dict.fromkeys((height // side, width // side) for side in range(1, min(height, width) + 1)))


def _describe(grids: Sequence[tuple[int, int]]) -> str:
    return f"a {' × '.join(map(str, grids[0]))} grid" if len(grids) == 1 else "any grid of patches"
