"""Copy-on-write where PyTorch is right, `clone` where it is not."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from torch_featurelayer.engine import HAS_COPY_ON_WRITE, copy_on_write


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)


TENSORS = {
    "plain": lambda: torch.randn(3),
    "view": lambda: torch.randn(9)[3:6],
    "transposed": lambda: torch.randn(2, 3).T,
    "expanded": lambda: torch.randn(1, 3).expand(2, 3),
    "empty": lambda: torch.empty(0),
    "scalar": lambda: torch.tensor(1.5),
    "numpy": lambda: torch.from_numpy(np.ones(3)),
    "shared": lambda: torch.randn(3).share_memory_(),
    "parameter": lambda: nn.Parameter(torch.randn(3)),
    "bfloat16": lambda: torch.randn(3).bfloat16(),
    "bool": lambda: torch.tensor([True, False]),
    "integer": lambda: torch.arange(3),
    "conjugate": lambda: torch.randn(3, dtype=torch.complex64).conj(),
    "negative": lambda: torch.randn(3, dtype=torch.complex64).conj().imag,
    "sparse": lambda: torch.eye(3).to_sparse(),
    "subclass": lambda: torch.randn(3).as_subclass(type("Sub", (torch.Tensor,), {})),
    "mkldnn": lambda: torch.randn(2, 2).to_mkldnn(),
}


def dense(tensor: torch.Tensor) -> torch.Tensor:
    return (
        tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach().resolve_conj().resolve_neg()
    )


@pytest.mark.parametrize("kind", TENSORS)
def test_a_copy_is_equal(kind: str) -> None:
    """Every kind of tensor comes out with its values, type and shape."""
    tensor = TENSORS[kind]()
    copy = copy_on_write.lazy_copy(tensor)
    assert torch.equal(dense(copy), dense(tensor))
    assert (copy.dtype, copy.shape, copy.layout) == (tensor.dtype, tensor.shape, tensor.layout)


@pytest.mark.parametrize("kind", ["plain", "view", "transposed", "numpy", "shared", "bfloat16", "integer"])
def test_a_copy_is_private(kind: str) -> None:
    """Writing to either side never shows on the other."""
    tensor = TENSORS[kind]()
    right = tensor.clone()
    first, second = copy_on_write.lazy_copy(tensor), copy_on_write.lazy_copy(tensor)
    second.zero_()
    assert torch.equal(tensor, right)
    tensor.add_(1)
    assert torch.equal(first, right)


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor.*:UserWarning")
def test_quantized_tensors_are_cloned() -> None:
    """`torch._lazy_clone` of a quantized tensor crashes the interpreter when it is read."""
    tensor = quantized()
    copy = copy_on_write.lazy_copy(tensor)
    assert torch.equal(copy.int_repr(), tensor.int_repr())
    assert torch.equal(copy.dequantize(), tensor.dequantize())


@pytest.mark.parametrize("kind", ["nested", "jagged"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_cloned(kind: str) -> None:
    layout = torch.jagged if kind == "jagged" else torch.strided
    tensor = torch.nested.nested_tensor([torch.ones(2, 2), torch.zeros(3, 2)], layout=layout)
    copy = copy_on_write.lazy_copy(tensor)
    assert all(map(torch.equal, copy.unbind(), tensor.unbind()))


def test_nothing_is_copied_until_written() -> None:
    """This PyTorch has copy-on-write, and capture uses it."""
    assert HAS_COPY_ON_WRITE
    feat, _ = tl.FeatureLayer(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), "0", detach=True)(torch.ones(1, 2))
    assert torch._C._is_cow_tensor(feat)


def test_fallback_without_copy_on_write(monkeypatch: pytest.MonkeyPatch, small: nn.Module) -> None:
    """Where the private function is gone, features are cloned and as right."""
    monkeypatch.setattr(copy_on_write, "HAS_COPY_ON_WRITE", False)
    x = torch.ones(1, 4)
    feat, _ = tl.FeatureLayer(small, "0", detach=True)(x)
    assert not torch._C._is_cow_tensor(feat)
    assert torch.equal(feat, small[0](x))


@pytest.mark.slow
def test_probe_survives_a_missing_function() -> None:
    """A PyTorch without the function, or with one that does not copy, imports and falls back."""
    for broken in ("del torch._lazy_clone", "torch._lazy_clone = lambda tensor: tensor"):
        code = f"import torch; {broken}; from torch_featurelayer.engine import HAS_COPY_ON_WRITE as h; assert not h"
        subprocess.run([sys.executable, "-c", code], check=True)


def test_under_vmap_and_grad(small: nn.Module) -> None:
    """`torch.func` transforms run through a capture."""
    layer = tl.FeatureLayer(small, "0")
    x = torch.randn(5, 4)
    feats, outputs = torch.vmap(layer)(x)
    assert torch.allclose(feats, small[0](x))
    assert torch.allclose(outputs, small(x))
    gradient = torch.func.grad(lambda x: layer(x)[0].sum())(x)
    assert torch.allclose(gradient, small[0].weight.sum(0).expand(5, 4))


def test_inference_mode(small: nn.Module) -> None:
    x = torch.ones(1, 4)
    with torch.inference_mode():
        feat, _ = tl.FeatureLayer(small, "0")(x)
    assert torch.equal(feat, small[0](x))


def test_meta_tensors(small: nn.Module) -> None:
    """A run on shapes alone."""
    feat, output = tl.FeatureLayer(small.to("meta"), "0")(torch.ones(5, 4, device="meta"))
    assert (feat.shape, output.shape) == ((5, 3), (5, 2))


def test_policies() -> None:
    with pytest.raises(ValueError, match="clone must be 'lazy', True or False, not 'deep'"):
        tl.FeatureLayer(nn.Linear(1, 1), "", clone="deep")
