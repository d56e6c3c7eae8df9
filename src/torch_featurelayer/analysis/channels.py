"""Channels that stand out, and those that never fire."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from torch import Tensor

from ._maps import channels_first, maps_of, pick

Criterion: TypeAlias = Literal["mean", "max", "std"]


def top_channels(
    feat: Tensor, count: int = 16, *, by: Criterion = "mean", sample: int = 0, layout: str | None = None
) -> list[int]:
    """Returns the channels that are greatest by a criterion, the greatest first.

    Args:
        feat: `[N, C, H, W]`. For tokens: `tokens_to_map`.
        count: The number of channels. Default: 16.
        by: `"mean"` (default) or `"max"` over positions, or `"std"`, how much a channel varies over them.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the one that the shape allows.

    Raises:
        ValueError: If there is no such criterion, or the feature is no map.
        LayoutError: If the order of its dimensions is not known.
        IndexError: If there is no such sample.
    """
    values = pick(maps_of(feat, layout).detach(), sample, "sample").flatten(1).to("cpu").float()
    if by not in ("mean", "max", "std"):
        raise ValueError(f"by is 'mean', 'max' or 'std', not {by!r}")
    scores = values.mean(1) if by == "mean" else values.amax(1) if by == "max" else values.std(1)
    return scores.nan_to_num(nan=-math.inf).topk(min(count, len(scores))).indices.tolist()


def dead_channels(feat: Tensor, *, layout: str | None = None) -> list[int]:
    """Returns the channels that are never above zero, in any of the samples given.

    Args:
        feat: `[N, C]`, `[N, C, H, W]`, or any shape with `layout`. On few samples a channel may only seem dead.
        layout: The order of the dimensions, such as `"NHWC"` or `"NTC"`. Default: None, the one that the shape allows.

    Raises:
        ValueError: If there is no channel.
        LayoutError: If which dimension holds the channels is not known.
    """
    greatest = channels_first(feat, layout).detach().movedim(1, 0).flatten(1).amax(1)
    return (greatest <= 0).nonzero().flatten().tolist()
