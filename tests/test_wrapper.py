"""A wrapper behaves as the wrapped model's users expect."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torch_featurelayer as tl


@pytest.fixture
def layer(resnet18: nn.Module) -> tl.FeatureLayer:
    return tl.FeatureLayer(resnet18, "layer1")


def test_checkpoints_carry_no_trace_of_it(layer: tl.FeatureLayer, resnet18: nn.Module) -> None:
    """Saved through the wrapper, loaded into the bare model, and the other way round."""
    state = layer.state_dict()
    assert list(state) == list(resnet18.state_dict())
    assert state._metadata == resnet18.state_dict()._metadata
    assert layer.load_state_dict(state) == resnet18.load_state_dict(state)
    with torch.no_grad():
        changed = {key: value + 1 for key, value in state.items()}
    layer.load_state_dict(changed)
    assert torch.equal(resnet18.fc.bias, changed["fc.bias"])
    with pytest.raises(RuntimeError, match='Missing key.*"fc.bias"'):
        layer.load_state_dict({key: value for key, value in state.items() if key != "fc.bias"})


def test_inside_a_larger_module(resnet18: nn.Module) -> None:
    """As a backbone, it saves and loads as if the bare model stood there; mistakes are still found."""
    model = nn.ModuleDict({"backbone": tl.FeatureLayers(resnet18, ["layer1"]), "head": nn.Linear(2, 2)})
    plain = nn.ModuleDict({"backbone": resnet18, "head": model["head"]})
    assert list(model.state_dict()) == list(plain.state_dict())
    state = {key: value + 1 for key, value in plain.state_dict().items()}
    model.load_state_dict(state)
    assert torch.equal(resnet18.fc.bias, state["backbone.fc.bias"])
    result = model.load_state_dict({"backbone.fc.bias": state["backbone.fc.bias"], "backbone.nope": 1}, strict=False)
    assert "head.weight" in result.missing_keys
    assert any("nope" in key for key in result.unexpected_keys)


def test_is_a_module(layer: tl.FeatureLayer, resnet18: nn.Module) -> None:
    """`to`, `train`, `eval`, `parameters`, `requires_grad_` reach the wrapped model."""
    assert [*layer.parameters()] == [*resnet18.parameters()]
    assert not layer.training
    layer.train()
    assert resnet18.layer1[0].bn1.training
    layer.eval()
    assert not resnet18.training
    layer.to(torch.float64)
    assert resnet18.fc.weight.dtype == torch.float64
    layer.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in resnet18.parameters())


def test_takes_the_mode_of_the_model(small: nn.Module) -> None:
    assert tl.FeatureLayer(small.train(), "0").training
    assert not tl.FeatureLayer(small.eval(), "0").training


def test_trains_as_part_of_a_model(small: nn.Module) -> None:
    """An optimizer over the wrapper's parameters takes a step."""
    layer = tl.FeatureLayer(small, "1")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = small[0].weight.detach().clone()
    feat, output = layer(torch.randn(8, 4))
    (feat.sum() + output.sum()).backward()
    optimizer.step()
    assert not torch.equal(small[0].weight, before)
