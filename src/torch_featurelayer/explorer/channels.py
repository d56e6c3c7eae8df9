"""The channels of a layer: their order, their statistics, and edits of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from ..analysis._scaling import scale_down

_EDITS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {  # of the channels `[..., K]` of one input
    "zero": torch.zeros_like,
    "mean": lambda feat: feat.flatten(0, -2).mean(0).expand_as(feat),
    "double": lambda feat: 2 * feat,
    "negate": torch.neg,
}


def edit_of(how: str, channels: Sequence[int], axis: int) -> Callable[[Tensor], Tensor]:
    """Returns a function that edits some channels of a feature.

    Args:
        how: The edit: `"zero"`, `"mean"` over positions, `"double"` or `"negate"`.
        channels: The numbers of the channels.
        axis: The dimension of the channels.

    Raises:
        ValueError: If there is no such edit.
    """
    if how not in _EDITS:
        raise ValueError(f"no edit {how!r}: the edits are {', '.join(_EDITS)}")

    def edited(feat: Tensor) -> Tensor:
        numbers = torch.tensor(list(channels), dtype=torch.int64, device=feat.device)
        changed = _EDITS[how](feat.index_select(axis, numbers).movedim(axis, -1))
        return feat.index_copy(axis, numbers, changed.movedim(-1, axis).contiguous())

    return edited


def order(maps: Tensor, by: str) -> list[int]:
    """Returns the channels of `[C, H, W]` by `"index"`, or in descending order of `"mean"`, `"max"` or `"sparsity"`.

    Raises:
        ValueError: If there is no such order.
    """
    flat = maps.flatten(1)
    scores = {
        "index": lambda: -torch.arange(len(flat), dtype=torch.float32),
        "mean": lambda: flat.mean(1),
        "max": lambda: flat.amax(1),
        "sparsity": lambda: (flat <= 0).float().mean(1),
    }
    if by not in scores:
        raise ValueError(f"no order {by!r}: the orders are {', '.join(scores)}")
    return torch.argsort(scores[by]().nan_to_num(-torch.inf), descending=True, stable=True).tolist()


def channel_statistics(values: Tensor) -> dict[str, Any]:
    """Returns statistics of the channels of a layer, as JSON values.

    A channel is silent if it is never above zero; saturated if at least half of its positions have the largest value of
    the layer, and several channels reach that value (such as 6 for a ReLU6); and selective by the distance of its
    largest values, those of 1 % of the positions and at least eight, from its mean, in standard deviations.

    Args:
        values: The values `[C, positions]`.
    """
    scaled = scale_down(values, 1)
    deviation = scaled.std(1, correction=0)  # 0 for a single position
    # Several values: the largest alone has a limit that every channel with a single value reaches.
    largest = scaled.topk(min(max(8, values.shape[1] // 100), values.shape[1]), dim=1).values
    selective = (largest.mean(1) - scaled.mean(1)) / deviation.clamp_min(1e-6)
    at_most = values == values.max()
    limited = int(at_most.any(1).sum()) > 1
    best = selective.nan_to_num(nan=-torch.inf).topk(min(10, len(values))).indices.tolist()
    return {
        "positions": values.shape[1], "channels": len(values),
        "silent": (values <= 0).all(1).nonzero().flatten().tolist(),
        "saturated": (at_most.float().mean(1) >= 0.5).nonzero().flatten().tolist() if limited else [],
        "constant": (deviation == 0).nonzero().flatten().tolist(),
        "selective": [[channel, selective[channel].item()] for channel in best if selective[channel].isfinite()],
    }  # fmt: skip
