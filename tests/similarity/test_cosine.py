"""The cosine of every row with every other, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from torch_featurelayer.similarity import cosine


@given(seed=st.integers(0, 1000), first=st.integers(1, 9), second=st.integers(1, 9), width=st.integers(1, 9))
def test_is_that_of_scikit_learn(seed: int, first: int, second: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(count, width, generator=generator) for count in (first, second))
    x[0] = 0
    np.testing.assert_allclose(cosine(x, y).numpy(), cosine_similarity(x.double(), y.double()), atol=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e160])
def test_vectors_of_any_length(scale: float) -> None:
    """Such as gradients: PyTorch's own functions take short vectors for longer ones, and squares overflow."""
    x, y = torch.randn(4, 9, dtype=torch.float64), torch.randn(3, 9, dtype=torch.float64)
    torch.testing.assert_close(cosine(x * scale, y / scale), cosine(x, y))
    short = (x * scale).requires_grad_()
    cosine(short, y).sum().backward()
    usual = x.clone().requires_grad_()
    cosine(usual, y).sum().backward()
    assert short.grad is not None
    assert usual.grad is not None
    torch.testing.assert_close(short.grad * scale, usual.grad)


def test_maps_are_flattened_and_the_gradient_flows() -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    assert torch.allclose(cosine(x, x).diagonal(), torch.ones(2, dtype=torch.float64))
    cosine(x, torch.randn(1, 48)).sum().backward()
    assert x.grad is not None
    assert x.grad.any()


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="not 3 and 4"):
        cosine(torch.randn(2, 3), torch.randn(2, 4))
