"""Cosine similarity of each position to one position, of vectors of any length."""

from __future__ import annotations

import torch
from torch import Tensor

from ._maps import pick, to_maps
from ._scaling import unit_vectors


def cosine_map(
    feat: Tensor,
    position: tuple[int, int],
    *,
    sample: int = 0,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    """Computes the cosine similarity between the vector at one position and the vector at each position.

    Args:
        feat: The feature, `[N, C, H, W]`. For tokens, apply `tokens_to_map` first.
        position: The zero-based row and column of the position; negative ones count from the end.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the only order that the shape allows.
        image_size: The height and width of the image in pixels, which help to determine the layout. Default: None.

    Returns:
        A new float32 tensor `[H, W]` on the CPU, without gradient, from -1 to 1; 0 where a vector is zero.

    Raises:
        ValueError: If the feature is not a map.
        LayoutError: If the order of the dimensions is unknown.
        IndexError: If there is no such position or sample.
    """
    vectors = pick(to_maps(feat, layout, image_size).detach(), sample, "sample").to("cpu", torch.float32)
    row, column = position
    at = pick(pick(vectors.movedim(1, 0), row, "row").mT, column, "column")
    return (unit_vectors(vectors, 0) * unit_vectors(at, 0)[:, None, None]).sum(0)
