"""CKA against its definition by kernels, and against what must not change it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torch_featurelayer.similarity import cka


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


@pytest.mark.parametrize(("one", "other"), [(5, 4), (1, 1)])
def test_the_same_inputs_are_needed(one: int, other: int) -> None:
    with pytest.raises(ValueError, match="the same 2 or more inputs"):
        cka(torch.randn(one, 3), torch.randn(other, 3))
