"""Hooks stay with the model: its copies and pickles are plain models."""

from __future__ import annotations

import contextlib
import copy
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import torch_featurelayer as tl
from tests.versions import TORCH
from torch_featurelayer.engine.compiled_forward import OLDEST_TRACING


@contextlib.contextmanager
def everything(model: nn.Module) -> Iterator[None]:
    """Captures and edits of outputs, inputs, gradients, operations and reductions."""
    names = ["conv1", "layer1:input", "layer2.0:add", "fc:grad_output", "layer1.0:grad_input"]
    changes = {"bn1": 0.5, "layer3.0:add": lambda feat: feat * 2, "fc:input": 0.0}
    with tl.edit(model, changes), tl.capture(model, names), tl.capture(model, "layer4", reduce="mean"):
        yield


def saved(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def averaged(model: nn.Module) -> nn.Module:
    return AveragedModel(model).eval()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, saved, averaged], ids=lambda fn: fn.__name__)
def test_copies_are_plain(resnet18: nn.Module, image: Tensor, duplicate: object) -> None:
    with torch.no_grad():
        right = resnet18(image)
        with everything(resnet18):
            resnet18(image)
            twin = duplicate(resnet18)  # type: ignore[operator]
            assert torch.equal(twin(image), right)
            assert not torch.equal(resnet18(image), right)
        assert torch.equal(twin(image), right)
        if duplicate is not saved:  # what was saved keeps hooks that do nothing
            assert not any(part._forward_hooks or part._forward_pre_hooks for part in twin.modules())
        feat, _ = tl.FeatureLayer(twin, "module.fc" if isinstance(twin, AveragedModel) else "fc")(image)
        assert torch.equal(feat, right)


def test_copies_of_a_layer_and_of_a_compiled_wrapper(small: nn.Module) -> None:
    x = torch.randn(1, 4)
    with tl.edit(small, {"0": 0.0}):
        twin = copy.deepcopy(small[0])
        assert torch.equal(twin(x), nn.functional.linear(x, small[0].weight, small[0].bias))
        small(x)
    if TORCH < OLDEST_TRACING:
        return
    layer = tl.FeatureLayer(small, "0")
    layer.compile(backend="eager")
    assert torch.equal(copy.deepcopy(small)(x), small(x))
    layer.uncompile()


@pytest.mark.slow
def test_a_saved_model_loads_without_this_package(small: nn.Module, tmp_path: Path) -> None:
    x = torch.ones(1, 4)
    with tl.edit(small, {"0": 0.0}):
        small(x)
        torch.save(small, tmp_path / "model.pt")
    code = f"""
import sys
sys.modules["torch_featurelayer"] = None
import torch
model = torch.load({str(tmp_path / "model.pt")!r}, weights_only=False)
print(model(torch.ones(1, 4)).tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(small(x).tolist())
