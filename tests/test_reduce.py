"""Reductions, against the same sums written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_featurelayer.reduce import cls, flatten, maximum, mean, reduction

MAP, TOKENS, VECTOR, CLIP = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 3), torch.randn(2, 3), torch.randn(2, 3, 2, 4, 5)


@pytest.mark.parametrize(
    ("feature", "rows"),
    [
        (MAP, MAP.reshape(2, 3, -1)),
        (TOKENS, TOKENS.transpose(1, 2)),
        (VECTOR, VECTOR[..., None]),
        (CLIP, CLIP.flatten(2)),
    ],
)
def test_mean_and_max_are_over_positions(feature: Tensor, rows: Tensor) -> None:
    """One value for each sample and channel, of maps, clips, tokens and vectors alike."""
    averages = torch.stack([torch.stack([row.sum() / len(row) for row in sample]) for sample in rows])
    peaks = torch.stack([torch.stack([max(row) for row in sample]) for sample in rows])
    torch.testing.assert_close(mean(feature), averages)
    assert torch.equal(maximum(feature), peaks)


def test_cls_is_the_first_token_in_memory_of_its_own() -> None:
    tokens = TOKENS.clone()
    first = cls(tokens)
    assert torch.equal(first, TOKENS[:, 0])
    tokens.zero_()
    assert torch.equal(first, TOKENS[:, 0])
    with pytest.raises(ValueError, match=r"takes tokens \[N, T, C\], not \[2, 3, 4, 5\]"):
        cls(MAP)


def test_flatten() -> None:
    assert flatten(MAP).shape == (2, 60)
    assert torch.equal(flatten(MAP)[1], MAP[1].flatten())
    assert flatten(torch.tensor(1.0)).ndim == 0


def test_by_name_by_function_and_unknown() -> None:
    assert [reduction(name) for name in ("mean", "max", "cls", "flatten")] == [mean, maximum, cls, flatten]
    assert reduction(torch.relu) is torch.relu
    assert reduction(None)(MAP) is MAP
    with pytest.raises(ValueError, match=r"no reduction 'maen'.*Did you mean 'mean'"):
        reduction("maen")
