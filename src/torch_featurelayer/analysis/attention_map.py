"""Attention maps."""

from __future__ import annotations

from torch import Tensor

from ._maps import pick
from .tokens import tokens_to_map


def attention_map(
    weights: Tensor,
    *,
    query: int = 0,
    head: int | None = None,
    sample: int = 0,
    grid: tuple[int, int] | None = None,
    image_size: tuple[int, int] | None = None,
    patch: int | tuple[int, int] | None = None,
    prefix: int | None = None,
) -> Tensor:
    """Returns the attention of one token to each patch.

    Args:
        weights: Attention weights `[N, heads, queries, keys]`: the feature of the operation `attention_weights`.
        query: The index of the token. Default: 0, which is the class token if the model has one.
        head: The index of the head. Default: None, the mean over heads.
        sample: The index of the sample. Default: 0.
        grid: The numbers of rows and columns of patches. Default: None, from `image_size`.
        image_size: The height and width of the image in pixels. Default: None.
        patch: The size of a patch in pixels, or its height and width. Default: None, the only size that fits the number
            of tokens.
        prefix: The number of tokens before the patches, such as class and register tokens. Default: None, the tokens
            that the grid leaves over.

    Returns:
        A new float32 tensor `[H, W]` on the CPU, without gradient. Its sum is 1 minus the attention to class and
        register tokens.

    Raises:
        ValueError: If `weights` has not four dimensions.
        LayoutError: If the grid of patches cannot be determined.
        IndexError: If there is no such query, head or sample.
    """
    if weights.ndim != 4:
        raise ValueError(f"attention weights must be [N, heads, queries, keys], not {list(weights.shape)}")
    heads = pick(weights.detach(), sample, "sample").float()
    row = pick(heads.mean(0) if head is None else pick(heads, head, "head"), query, "query")
    folded = tokens_to_map(row[None, :, None], grid=grid, image_size=image_size, patch=patch, prefix=prefix)
    return folded[0, 0].cpu()
