"""Intervals cover, and the permutation test keeps its level."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from torch_featurelayer.similarity import MinibatchCKA, assess, cka, rsa

unbiased = partial(cka, debiased=True)


def related(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two representations that share two of their directions."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(count, 2, generator=generator)
    return (
        torch.cat([shared, torch.randn(count, 2, generator=generator)], 1),
        torch.cat([shared * 0.8, torch.randn(count, 3, generator=generator)], 1),
    )


def test_debiased_cka() -> None:
    """Unrelated features of many values have nothing in common; the sum of pairs is that of a minibatch."""
    torch.manual_seed(0)
    one, other = torch.randn(40, 500), torch.randn(40, 500)
    assert cka(one, other) > 0.8
    assert abs(cka(one, other, debiased=True)) < 0.1
    assert cka(one, one, debiased=True) == pytest.approx(1)
    measure = MinibatchCKA()
    measure.add(one, other)
    assert cka(one, other, debiased=True) == measure.value


@pytest.mark.slow
def test_intervals_cover() -> None:
    right = unbiased(*related(3_000, 0))
    covered = 0
    for trial in range(40):
        low, high = assess(unbiased, *related(120, trial + 1), permutations=0, resamples=200).interval
        covered += low <= right <= high
    assert covered >= 34


@pytest.mark.parametrize("measure", [unbiased, rsa], ids=["cka", "rsa"])
def test_the_permutation_test(measure: partial[float]) -> None:
    found = assess(measure, *related(60, 1), permutations=99, resamples=20)
    assert found.p_value == 0.01
    assert found.interval[0] < found.value < found.interval[1]
    torch.manual_seed(0)
    values = [
        assess(measure, torch.randn(20, 3), torch.randn(20, 3), permutations=19, resamples=2).p_value for _ in range(40)
    ]
    assert sum(value <= 0.05 for value in values) <= 7  # two are expected
    assert sum(values) / 40 == pytest.approx(0.525, abs=0.2)


def test_the_same_seed_gives_the_same_result() -> None:
    pair = related(30, 2)
    assert assess(cka, *pair, permutations=9, resamples=9) == assess(cka, *pair, permutations=9, resamples=9)


def test_too_few_inputs() -> None:
    with pytest.raises(ValueError, match="8 or more inputs, not of 5 and 5"):
        assess(cka, torch.randn(5, 2), torch.randn(5, 2))
