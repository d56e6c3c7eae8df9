"""Where a transformer looks."""

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
    """Returns how much one token attends to each patch.

    Args:
        weights: Attention weights `[N, heads, queries, keys]`: the operation `attention_weights`.
        query: The token that looks. Default: 0, the first, which is the class token where there is one.
        head: The index of the head. Default: None, the mean of all.
        sample: The index of the sample. Default: 0.
        grid: As in `tokens_to_map`.
        image_size: As in `tokens_to_map`.
        patch: As in `tokens_to_map`.
        prefix: As in `tokens_to_map`.

    Returns:
        `[H, W]`, float32 on the host; its sum is 1 less what goes to class and register tokens.

    Raises:
        ValueError: If these are no weights of attention.
        LayoutError: If the grid of the patches is not known.
        IndexError: If there is no such query, head or sample.
    """
    if weights.ndim != 4:
        raise ValueError(f"attention weights are [N, heads, queries, keys], not {list(weights.shape)}")
    heads = pick(weights.detach(), sample, "sample").float()
    row = pick(heads.mean(0) if head is None else pick(heads, head, "head"), query, "query")
    folded = tokens_to_map(row[None, :, None], grid=grid, image_size=image_size, patch=patch, prefix=prefix)
    return folded[0, 0].cpu()
