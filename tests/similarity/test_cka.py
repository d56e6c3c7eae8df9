"""CKA against its definition by kernels, and against what must not change it."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torch_featurelayer.similarity import assess, cka, procrustes, rsa


def by_definition(x: Tensor, y: Tensor) -> float:
    """HSIC of linear kernels, center by a matrix, as the paper writes it."""
    count = len(x)
    centre = torch.eye(count).double() - 1 / count
    k, m = (centre @ part.flatten(1).double() @ part.flatten(1).double().T @ centre for part in (x, y))
    return float(torch.trace(k @ m) / (torch.trace(k @ k) * torch.trace(m @ m)).sqrt())


@given(
    count=st.integers(3, 30), first=st.integers(1, 40), second=st.integers(1, 40), seed=st.integers(0, 1000)
)  # both ways to compute it: fewer inputs than values, and more
def test_it_is_what_the_paper_defines(count: int, first: int, second: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(count, width, generator=generator) for width in (first, second))
    assert cka(x, y) == pytest.approx(by_definition(x, y), abs=1e-6)


def test_rotation_scale_and_shift_change_nothing() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 8)
    rotation = torch.linalg.qr(torch.randn(8, 8)).Q
    assert cka(x, 3 * x @ rotation + 5) == pytest.approx(1, abs=1e-6)
    assert cka(x.reshape(50, 2, 2, 2), x) == pytest.approx(1, abs=1e-6)
    assert cka(x, torch.randn(50, 8)) < 0.5


def test_what_does_not_vary_has_nothing_in_common() -> None:
    assert cka(torch.ones(5, 3), torch.randn(5, 3)) == 0


@pytest.mark.parametrize("count", [7, 33, 100])
@pytest.mark.parametrize("debiased", [False, True])
def test_rounding_is_no_similarity(count: int, debiased: bool) -> None:
    """The mean of equal numbers is not always that number."""
    for _ in range(50):
        constant = (1000 * torch.rand(1, 3, dtype=torch.float64)).expand(count, 3)
        assert cka(constant, torch.randn(count, 5), debiased=debiased) == 0
        assert cka(constant, constant, debiased=debiased) == 0


def test_debiased_does_not_depend_on_the_mean() -> None:
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 6, dtype=torch.float64)
    assert cka(x + 1e6, y, debiased=True) == pytest.approx(cka(x, y, debiased=True), abs=1e-8)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite(value: float) -> None:
    """No similarity, and no significance, can be told from them."""
    x, y = torch.randn(20, 4), torch.randn(20, 4)
    x[3, 1] = value
    for measure in (cka, partial(cka, debiased=True), rsa, procrustes):
        assert math.isnan(measure(x, y))
        assert math.isnan(measure(y, x))
        assert math.isnan(assess(measure, x, y, permutations=9, resamples=9).p_value)


@pytest.mark.parametrize(("one", "other"), [(5, 4), (1, 1)])
def test_the_same_inputs_are_needed(one: int, other: int) -> None:
    with pytest.raises(ValueError, match="the same 2 or more inputs"):
        cka(torch.randn(one, 3), torch.randn(other, 3))
