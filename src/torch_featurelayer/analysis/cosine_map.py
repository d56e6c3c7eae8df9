"""How alike the feature at one position is to those at all others."""

from __future__ import annotations

import torch
from torch import Tensor

from ._maps import maps_of, pick


def cosine_map(
    feat: Tensor,
    position: tuple[int, int],
    *,
    sample: int = 0,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    """Computes the cosine of the angle between the vector at one position and that at each.

    Args:
        feat: Maps `[N, C, H, W]`. For tokens: `tokens_to_map`.
        position: Row and column, counted from 0; negative ones from the end.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the one that the shape allows.
        image_size: Height and width of the image in pixels, which help to find the layout. Default: None.

    Returns:
        `[H, W]`, float32 on the host, from -1 to 1; 0 where a vector is zero.

    Raises:
        ValueError: If the feature is no map.
        LayoutError: If the order of its dimensions is not known.
        IndexError: If there is no such position or sample.
    """
    vectors = pick(maps_of(feat, layout, image_size).detach(), sample, "sample").to("cpu", torch.float32)
    row, column = position
    at = pick(pick(vectors.movedim(1, 0), row, "row").mT, column, "column")
    return torch.cosine_similarity(vectors, at[:, None, None], dim=0)
