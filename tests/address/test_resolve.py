"""What a user asks for becomes named addresses, in a fixed order, or an error that helps."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from torch_featurelayer.address import ancestors, resolve


def names(model: nn.Module, selectors: object) -> list[str]:
    return [request.name for request in resolve(model, selectors)]


def test_order_is_as_asked(resnet18: nn.Module) -> None:
    """Requests keep the order of the list, whatever the order of the model."""
    assert names(resnet18, ["fc", "conv1", "layer1:input"]) == ["fc", "conv1", "layer1:input"]


def test_globs(resnet18: nn.Module) -> None:
    """`*` stays inside one name, `**` crosses dots, `?` is one character; matches come in definition order."""
    assert names(resnet18, "layer*.0") == [f"layer{i}.0" for i in range(1, 5)]
    assert names(resnet18, "layer?") == [f"layer{i}" for i in range(1, 5)]
    assert names(resnet18, "**.conv1") == [f"layer{i}.{j}.conv1" for i in range(1, 5) for j in range(2)]
    assert names(resnet18, "layer*.0.relu@*:input")[0] == "layer1.0.relu@*:input"


def test_module_type_and_regex(resnet18: nn.Module) -> None:
    """A module, a type and a compiled regex (which must match the complete path) select too."""
    assert names(resnet18, resnet18.layer3) == ["layer3"]
    assert names(resnet18, nn.MaxPool2d) == ["maxpool"]
    assert names(resnet18, re.compile(r"layer\d")) == [f"layer{i}" for i in range(1, 5)]


def test_pattern_skips_what_is_named_already(resnet18: nn.Module) -> None:
    """What was named before a pattern keeps its place, and stands once."""
    assert names(resnet18, ["layer4", "layer*"]) == ["layer4", "layer1", "layer2", "layer3"]


def test_patterns_skip_holders() -> None:
    """A `ModuleList` never runs, so no pattern means it."""
    model = nn.Module()
    model.blocks = nn.ModuleList([nn.Linear(1, 1)])
    assert names(model, "**") == ["blocks.0"]


def test_a_modules_own_name_wins_over_the_grammar() -> None:
    """A `ModuleDict` key may hold any character but a dot."""
    model = nn.ModuleDict({"a:b@0[c]*": nn.Linear(1, 1)})
    (request,) = resolve(model, "a:b@0[c]*")
    assert (request.name, request.address.path, request.address.port) == ("a:b@0[c]*", "a:b@0[c]*", "output")


def test_ancestors() -> None:
    assert list(ancestors("a.b.c")) == ["", "a", "a.b"]
    assert list(ancestors("")) == []


def test_unknown_layer(resnet18: nn.Module) -> None:
    """An AttributeError that names the nearest paths and how to list them."""
    with pytest.raises(tl.LayerNotFoundError, match="no layer 'layer1.0.conv3'") as caught:
        names(resnet18, "layer1.0.conv3")
    error = caught.value
    assert isinstance(error, AttributeError)
    assert (error.path, error.model) == ("layer1.0.conv3", "ResNet")
    assert "layer1.0.conv1" in error.nearest
    assert "Did you mean 'layer1.0.conv" in str(error)
    assert "get_layer_candidates(model, max_depth=None)" in str(error)


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("layer*.9", "'\\*' matches inside one name, '\\*\\*' across dots"),
        (nn.LSTM, "of type LSTM"),
        (re.compile("layer"), "must match the complete path"),
        (nn.Linear(1, 1), "not part of the model"),
    ],
)
def test_nothing_matches(resnet18: nn.Module, selector: object, says: str) -> None:
    """A pattern that finds nothing is an error, never an empty answer."""
    with pytest.raises(tl.LayerNotFoundError, match=says):
        names(resnet18, selector)


@pytest.mark.parametrize("selectors", [[], ()])
def test_empty_request(resnet18: nn.Module, selectors: object) -> None:
    with pytest.raises(tl.EmptyRequestError, match="name at least one") as caught:
        names(resnet18, selectors)
    assert isinstance(caught.value, ValueError)


def test_duplicate_request(resnet18: nn.Module) -> None:
    with pytest.raises(tl.DuplicateRequestError, match="'fc' is requested twice") as caught:
        names(resnet18, ["fc", "conv1", "fc"])
    assert isinstance(caught.value, ValueError)
    assert caught.value.name == "fc"


@pytest.mark.parametrize(("model", "found"), [("resnet18", str), (None, type(None)), (nn.Linear, type)])
def test_not_a_module(model: object, found: type) -> None:
    """Also where the class is given in place of a model."""
    with pytest.raises(tl.NotAModuleError, match="must be a torch.nn.Module") as caught:
        tl.FeatureLayer(model, "fc")
    assert isinstance(caught.value, TypeError)
    assert caught.value.found is found
    with pytest.raises(tl.NotAModuleError):
        tl.get_layer_candidates(model)


def test_not_a_selector(resnet18: nn.Module) -> None:
    with pytest.raises(TypeError, match="must be an address, a glob, a module"):
        names(resnet18, [3])


def test_scripted_module(small: nn.Module) -> None:
    """Nothing inside a TorchScript module can be hooked: said before anything runs."""
    model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(small))
    with pytest.raises(tl.ScriptedModuleError, match=r"'1.0' is inside '1', a TorchScript module") as caught:
        tl.FeatureLayer(model, "1.0")
    assert isinstance(caught.value, TypeError)
    assert (caught.value.path, caught.value.scripted) == ("1.0", "1")
    with pytest.raises(tl.ScriptedModuleError, match="'1' is a TorchScript module"):
        tl.FeatureLayer(model, "1")
    feat, _ = tl.FeatureLayer(model, "0")(torch.ones(1, 4))
    assert torch.equal(feat, model[0](torch.ones(1, 4)))
