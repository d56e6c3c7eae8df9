"""Channels with the largest activations, and dead channels."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from torch import Tensor

from .._checks import check_choice, check_counts
from ._maps import channels_first, pick, to_maps

Criterion: TypeAlias = Literal["mean", "max", "std"]


def top_channels(
    feat: Tensor, count: int = 16, *, by: Criterion = "mean", sample: int = 0, layout: str | None = None
) -> list[int]:
    """Returns the channels with the largest scores, in descending order.

    Args:
        feat: The feature, `[N, C, H, W]`. For tokens, apply `tokens_to_map` first.
        count: The number of channels. Default: 16.
        by: The score of a channel: `"mean"` (default) or `"max"` over positions, or the standard deviation `"std"`.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the only order that the shape allows.

    Returns:
        The numbers of the channels; fewer than `count` if the feature has fewer.

    Raises:
        ValueError: If there is no such score, the feature is not a map, or `count` is less than 1.
        LayoutError: If the order of the dimensions is unknown.
        IndexError: If there is no such sample.
    """
    check_counts(count=count)
    check_choice(Criterion, by=by)
    values = pick(to_maps(feat, layout).detach(), sample, "sample").flatten(1).to("cpu").float()
    scores = values.mean(1) if by == "mean" else values.amax(1) if by == "max" else values.double().std(1)
    return scores.nan_to_num(nan=-math.inf).topk(min(count, len(scores))).indices.tolist()


def dead_channels(feat: Tensor, *, layout: str | None = None) -> list[int]:
    """Returns the channels that are never above zero in any of the samples.

    Note:
        Few samples overestimate dead channels: a channel may be active on other inputs.

    Args:
        feat: The feature, `[N, C]`, `[N, C, H, W]`, or any shape with `layout`.
        layout: The order of the dimensions, such as `"NHWC"` or `"NTC"`. Default: None, the only order that the shape
            allows.

    Returns:
        The numbers of the channels, in ascending order.

    Raises:
        ValueError: If the feature has no channels.
        LayoutError: If the dimension of the channels is unknown.
    """
    largest = channels_first(feat, layout).detach().movedim(1, 0).flatten(1).amax(1)
    return (largest <= 0).nonzero().flatten().tolist()
