"""RSA, Procrustes and CKA by batches, against SciPy and against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from torch import Tensor

from torch_featurelayer.similarity import MinibatchCKA, cka, procrustes, rsa


def pair(seed: int, count: int, first: int, second: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, first, generator=generator), torch.randn(count, second, generator=generator)


@given(seed=st.integers(0, 1000), count=st.integers(4, 20), first=st.integers(3, 9), second=st.integers(3, 9))
def test_rsa_is_that_of_scipy(seed: int, count: int, first: int, second: int) -> None:
    x, y = pair(seed, count, first, second)
    right = spearmanr(pdist(x.double().numpy(), "correlation"), pdist(y.double().numpy(), "correlation")).statistic
    assert rsa(x, y) == pytest.approx(right, abs=1e-9)


def test_rsa_shares_the_ranks_of_equal_pairs() -> None:
    x = torch.eye(6)
    x[5] = x[4]
    y, _ = pair(0, 6, 4, 1)
    right = spearmanr(pdist(x.numpy(), "correlation").round(12), pdist(y.double().numpy(), "correlation")).statistic
    assert rsa(x, y) == pytest.approx(right, abs=0.02)
    assert rsa(x, x) == pytest.approx(1)


@given(seed=st.integers(0, 1000), count=st.integers(3, 20), width=st.integers(2, 9))
def test_procrustes_is_that_of_scipy(seed: int, count: int, width: int) -> None:
    x, y = pair(seed, count, width, width)
    assert procrustes(x, y) == pytest.approx(scipy_procrustes(x.double().numpy(), y.double().numpy())[2], abs=1e-9)


@pytest.mark.parametrize("row", [0.0, 0.1])
def test_rsa_of_inputs_without_a_correlation(row: float) -> None:
    """Of a row of equal values, such as one of a dead layer, the correlation is rounding."""
    x, y = torch.randn(9, 5), torch.randn(9, 5)
    assert math.isnan(rsa(torch.randn(1, 5).expand(9, 5), y))  # all pairs are equally similar
    x[4] = row
    assert math.isnan(rsa(x, y))
    assert math.isnan(rsa(y, x))


def test_procrustes_of_a_turned_layer_is_nothing() -> None:
    x, noise = pair(0, 30, 6, 9)
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    assert procrustes(x, 4 * x @ rotation - 2) == pytest.approx(0, abs=1e-6)
    wider = torch.cat([x @ rotation, torch.zeros(30, 3)], 1)
    assert procrustes(x, wider) == pytest.approx(0, abs=1e-6)
    assert procrustes(x, noise) > 0.3
    with pytest.raises(ValueError, match="must not be constant"):
        procrustes(x, torch.ones(30, 2))


def test_batches_give_what_the_whole_gives() -> None:
    """Whatever their size, near the value of all inputs at once; the biased form on small batches is far off."""
    torch.manual_seed(0)
    shared = torch.randn(4096, 10)
    x, y = shared + 0.5 * torch.randn(4096, 10), shared @ torch.randn(10, 30) + torch.randn(4096, 30)
    whole = cka(x, y)
    for size in (8, 64):
        measure = MinibatchCKA()
        for one, other in zip(x.split(size), y.split(size), strict=True):
            measure.add(one, other)
        assert measure.value == pytest.approx(whole, abs=0.03)
    biased = sum(cka(one, other) for one, other in zip(x.split(8), y.split(8), strict=True)) / 512
    assert abs(biased - whole) > 0.1


def test_too_few_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="3 or more"):
        rsa(torch.randn(2, 3), torch.randn(2, 3))
    with pytest.raises(ValueError, match="same inputs"):
        procrustes(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match="4 or more"):
        MinibatchCKA().add(torch.randn(3, 3), torch.randn(3, 3))
    assert math.isnan(MinibatchCKA().value)
