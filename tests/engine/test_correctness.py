"""Never silently wrong: every module's output and input equals a clone taken at hook time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

import torch_featurelayer as tl
from tests.reference import cloned, hooked, same, same_arguments

pytestmark = pytest.mark.slow


FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 96,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_0": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11_bn": 64,
    "vit_b_16": 64,
}


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    size = FAMILIES[name]
    options: dict[str, Any] = {"image_size": size} if name.startswith("vit") else {}
    if name == "googlenet":
        options["init_weights"] = False
    return models.get_model(name, weights=None, **options), torch.randn(2, 3, size, size)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_every_module_of_a_family(name: str, training: bool) -> None:
    """One run captures all outputs and inputs, copy-on-write or cloned, with and without gradients."""
    model, image = build(name)
    model.train(training)

    def run(call: Any) -> Any:
        torch.manual_seed(1)
        return call()

    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            bare = cloned(run(lambda: model(image)))
            outputs, inputs, _ = run(lambda: hooked(model, lambda: model(image)))
            names = [*outputs, *(f"{name}:input" for name in inputs)]
            for clone in ("lazy", True):
                layers = tl.FeatureLayers(model, names, clone=clone)
                feats, output = run(lambda: layers(image))  # noqa: B023
                assert feats.names == tuple(names)
                assert same(output, bare)
                assert [name for name, right in outputs.items() if not same(feats[name], right)] == []
                wrong = [name for name, given in inputs.items() if not same_arguments(feats[f"{name}:input"], *given)]
                assert wrong == []


def test_keeping_the_reference_would_fail(resnet18: nn.Module, image: torch.Tensor) -> None:
    """The comparison can fail: without copies, layers followed by an in-place ReLU or `+=` are wrong."""
    outputs, _, _ = hooked(resnet18, lambda: resnet18(image))
    feats, _ = tl.FeatureLayers(resnet18, list(outputs), clone=False)(image)
    wrong = {name for name, right in outputs.items() if not same(feats[name], right)}
    assert {"bn1", "layer1.0.bn2"} <= wrong


@pytest.mark.parametrize("grad", [True, False])
def test_identity_then_written_to(grad: bool) -> None:
    """A feature is private even where a layer returns its very input and the model writes to either."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.same = nn.Linear(4, 4), nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            y = self.same(x)
            x = x.mul_(0) if not torch.is_grad_enabled() else x
            return y.add_(1) + x

    model, x = Model(), torch.ones(1, 4)
    with torch.set_grad_enabled(grad):
        bare = model(x)
        feats, output = tl.FeatureLayers(model, ["first", "same", "same:input"])(x)
        right = model.first(x)
    assert [torch.equal(feat, right) for feat in feats] == [True] * 3
    if not grad:
        assert torch.equal(output, bare)


def test_features_outlive_what_the_user_does_next(small: nn.Module) -> None:
    """Writing to a feature changes neither the model, its output nor another feature; results are fresh."""
    layer = tl.FeatureLayers(small, ["0", "1", "1:input", ":input"], detach=True)
    x = torch.randn(2, 4)
    feats, output = layer(x)
    kept, before, given = [feat.clone() for feat in feats], output.clone(), x.clone()
    again, _ = layer(x)
    for feat in again:
        feat.fill_(7.0)
    assert all(map(torch.equal, feats, kept))
    assert torch.equal(output, before)
    assert torch.equal(x, given)
    assert again is not feats
