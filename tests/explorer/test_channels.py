"""The statistics of the channels of a layer."""

from __future__ import annotations

import pytest
import torch

from torch_featurelayer.explorer.channels import channel_statistics


@pytest.mark.parametrize("scale", [1e-30, 1e-14, 1e14, 1e30])
def test_they_do_not_depend_on_the_scale(scale: float) -> None:
    """The channels of an untrained network may be as small as 1e-14."""
    values = torch.randn(6, 400)
    values[1] = values[1].abs() * -1
    values[2] = 3.0
    right, found = channel_statistics(values), channel_statistics(values * scale)
    assert (found["silent"], found["constant"]) == (right["silent"], right["constant"]) == ([1], [2])
    assert [channel for channel, _ in found["selective"]] == [channel for channel, _ in right["selective"]]
    assert [share for _, share in found["selective"]] == pytest.approx(
        [share for _, share in right["selective"]], rel=1e-3
    )
    mixed = channel_statistics(values * torch.tensor([1, 1, 1, 1, 1, scale]).unsqueeze(1))
    assert dict(mixed["selective"])[5] == pytest.approx(dict(right["selective"])[5], rel=1e-3)


def test_one_position_and_values_that_are_not_finite() -> None:
    """A pooled layer has one position; a channel with NaN is not the most selective one."""
    pooled = channel_statistics(torch.randn(4, 1))
    assert dict(pooled["selective"]) == dict.fromkeys(range(4), 0.0)
    values = torch.randn(3, 50)
    values[1, 7], values[2, 9] = torch.nan, torch.inf
    assert [channel for channel, _ in channel_statistics(values)["selective"]] == [0]
