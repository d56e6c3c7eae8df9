"""`torch.func`, tracing and export."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl
from tests.versions import TORCH


def test_values_do_not_leave_a_transform(small: nn.Module) -> None:
    """Inside it they would be dead wrappers: the error says so as they are read."""
    x = torch.randn(3, 4)
    runs = {
        "vmap": ("0", lambda: torch.func.vmap(small)(x)),
        "grad": ("0:grad_output", lambda: torch.func.grad(lambda y: small(y).sum())(x)),
        "jvp": ("2", lambda: torch.func.jvp(small, (x,), (x,))),
        "jacrev": ("1", lambda: torch.func.jacrev(small)(x[0])),
    }
    for name, run in runs.values():
        with tl.capture(small, name) as record:
            run()
        with pytest.raises(tl.TransformError, match=r"torch\.func"):
            _ = record[name]


def test_a_capture_inside_a_transform(small: nn.Module) -> None:
    x = torch.randn(3, 4)

    def feature(row: Tensor) -> Tensor:
        with tl.capture(small, "0") as record:
            small(row)
        return record["0"]

    assert torch.allclose(torch.func.vmap(feature)(x), small[0](x))


def test_a_traced_wrapper_is_a_plain_graph(small: nn.Module) -> None:
    """PyTorch checks it by tracing again; nothing in it is private to PyTorch."""
    x = torch.randn(2, 4)
    for layer in (
        tl.FeatureLayer(small, "0"),
        tl.FeatureLayer(small, "1:input"),
        tl.FeatureLayer(small, "0", reduce="max"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(layer, x)
            assert "lazy" not in str(traced.inlined_graph)
            buffer = io.BytesIO()
            torch.jit.save(traced, buffer)
        other = torch.randn(2, 4)
        assert all(map(torch.equal, traced(other), layer(other)))


@pytest.mark.skipif(TORCH < (2, 6), reason="its exporter looks for parameters in a state dict that is the model's own")
def test_exported_wrappers(small: nn.Module) -> None:
    x = torch.randn(2, 4)
    program = torch.export.export(tl.FeatureLayer(small, "0"), (x,), strict=False)
    assert "lazy" not in str(program.graph)
    feat, output = program.module()(x)
    assert torch.allclose(feat, small[0](x))
    assert torch.allclose(output, small(x))
    feats, _ = torch.export.export(tl.FeatureLayers(small, ["0", "1"]), (x,), strict=False).module()(x)
    assert torch.allclose(feats["1"], small[0](x).relu())


def test_under_a_default_device(small: nn.Module) -> None:
    x = torch.randn(2, 4)
    with torch.device("meta"):
        feat, output = tl.FeatureLayer(small, "0:grad_output")(x)
        empty, _ = tl.FeatureLayer(nn.Sequential(nn.Linear(4, 3)), "0")(torch.empty(2, 4))
    output.sum().backward()
    assert feat.value.device.type == "cpu"
    assert empty.is_meta
