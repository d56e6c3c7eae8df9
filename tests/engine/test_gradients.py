"""`grad_output` and `grad_input` equal autograd's on an out-of-place twin; losses on features train."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves
from torchvision import models

import torch_featurelayer as tl
from tests import toys
from tests.reference import hooked, out_of_place

MODELS = {
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_0": 64,
    "swin_t": 64,
    "vgg11": 64,
    "vit_b_16": 64,
}


def loss(output: Any) -> Tensor:
    """A sum in which every number counts differently."""
    return sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in tree_leaves(output))


@pytest.fixture
def _functions_out_of_place() -> Iterator[None]:
    """Makes `F.relu(..., inplace=True)` in the source of a model (densenet, googlenet) out of place."""
    original = functional.relu
    functional.relu = lambda x, inplace=False: original(x)  # noqa: ARG005
    yield
    functional.relu = original


def autograd(model: nn.Module, image: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of leaf modules' outputs and first inputs by `torch.autograd.grad` alone."""
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}

    def before(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            inputs[name] = args[0].view_as(args[0])
            return (inputs[name], *args[1:])

        return hook

    for name, module in model.named_modules():
        if next(module.children(), None) is None:
            module.register_forward_pre_hook(before(name))
            module.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    gradients = torch.autograd.grad(loss(model(image)), [*outputs.values(), *inputs.values()])
    return dict(zip(outputs, gradients, strict=False)), dict(zip(inputs, gradients[len(outputs) :], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_leaf_modules(name: str, training: bool, request: pytest.FixtureRequest) -> None:
    """All gradients of one backward are there, and those of autograd."""
    options: dict[str, Any] = {"image_size": 64} if name == "vit_b_16" else {}
    if name == "googlenet":
        options = {"init_weights": False}
    model = models.get_model(name, weights=None, **options).train(training)
    image = torch.randn(2, 3, MODELS[name], MODELS[name], requires_grad=True)
    twin = out_of_place(model)

    called, _, _ = hooked(twin, lambda: twin(image))
    ran = [path for path in called if next(model.get_submodule(path).children(), None) is None]
    torch.manual_seed(1)
    ports = [f"{path}:{port}" for path in ran for port in ("grad_output", "grad_input")]
    feats, output = tl.FeatureLayers(model, ports)(image)
    loss(output).backward()

    request.getfixturevalue("_functions_out_of_place")
    torch.manual_seed(1)
    at_output, at_input = autograd(twin, image)
    assert set(at_output) == set(ran)
    for path in ran:
        for port, right in (("grad_output", at_output[path]), ("grad_input", at_input[path])):
            ours = feats[f"{path}:{port}"]
            ours = ours[0] if isinstance(ours, tuple) else ours
            torch.testing.assert_close(ours, right, rtol=1e-4, atol=1e-5 * max(1e-30, right.abs().max().item()))


def test_loss_on_a_feature_trains_what_is_below(resnet18: nn.Module, image: Tensor) -> None:
    """Nothing above the layer gets a gradient; below, it is the gradient of the plain computation."""
    feat, _ = tl.FeatureLayer(resnet18, "layer1")(image)
    feat.square().mean().backward()
    assert resnet18.layer2[0].conv1.weight.grad is None
    ours = resnet18.conv1.weight.grad.clone()
    resnet18.zero_grad()
    stem = resnet18.maxpool(resnet18.relu(resnet18.bn1(resnet18.conv1(image))))
    resnet18.layer1(stem).square().mean().backward()
    assert torch.equal(ours, resnet18.conv1.weight.grad)


def test_early_stop_trains_too(resnet18: nn.Module, image: Tensor) -> None:
    layer = tl.FeatureLayer(resnet18, "layer1")
    layer.features(image)
    layer.features(image).sum().backward()
    assert resnet18.conv1.weight.grad is not None


def test_feature_is_on_the_path_to_the_output(small: nn.Module) -> None:
    """`torch.autograd.grad(output, feature)` works, although the model overwrites the layer's output."""
    feat, output = tl.FeatureLayer(small, "0")(torch.randn(2, 4))
    (gradient,) = torch.autograd.grad(output.sum(), feat)
    assert torch.equal(gradient, (feat > 0) * small[2].weight.sum(0))


def test_detach(small: nn.Module) -> None:
    feat, output = tl.FeatureLayer(small, "0", detach=True)(torch.randn(2, 4))
    assert not feat.requires_grad
    assert output.requires_grad


def test_gradient_is_read_after_backward(small: nn.Module) -> None:
    """Before, reading it is an error; a second backward replaces it; clone=False changes nothing about it."""
    x = torch.randn(2, 4)
    grad, output = tl.FeatureLayer(small, "2:grad_output", clone=False)(x)
    with pytest.raises(tl.GradientError, match="Call backward\\(\\)") as caught:
        _ = grad.value
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.name == "2:grad_output"
    output.sum().backward(retain_graph=True)
    assert torch.equal(grad.value, torch.ones(2, 2))
    (output * 3).sum().backward()
    assert torch.equal(grad.value, torch.full((2, 2), 3.0))


def test_features_of_a_gradient(small: nn.Module) -> None:
    feats, output = tl.FeatureLayers(small, ["0", "0:grad_output"])(torch.randn(2, 4))
    with pytest.raises(tl.GradientError):
        _ = feats["0:grad_output"]
    assert "gradient" in repr(feats)
    output.sum().backward()
    assert feats["0:grad_output"].shape == feats["0"].shape


def test_gradient_is_private(small: nn.Module) -> None:
    """What autograd or the user does to one gradient shows on no other."""
    feats, output = tl.FeatureLayers(small, "2:grad_output")(torch.randn(2, 4))
    seed = torch.ones_like(output)
    output.backward(seed)
    seed.zero_()
    assert torch.equal(feats[0], torch.ones(2, 2))


@pytest.mark.parametrize("port", ["grad_output", "grad_input"])
def test_nothing_requires_grad(small: nn.Module, port: str) -> None:
    """A gradient that cannot come is an error of the run, not None."""
    with torch.no_grad(), pytest.raises(tl.GradientError, match="no tensor here requires grad"):
        tl.FeatureLayer(small, f"2:{port}")(torch.randn(2, 4))
    with pytest.raises(tl.GradientError, match=r"image.requires_grad_\(\)"):
        tl.FeatureLayer(small, "0:grad_input")(torch.randn(2, 4))


def test_module_that_discards_the_result_of_an_in_place_layer() -> None:
    """Replacing an input keeps the model's own in-place semantics: same output, same gradients."""
    model, x = toys.Discards(), torch.randn(5, 4)
    bare = model(x)
    bare.sum().backward()
    right = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    grad, output = tl.FeatureLayer(model, "act:grad_input")(x)
    output.sum().backward()
    assert torch.equal(output, bare)
    assert all(map(torch.equal, right, (parameter.grad for parameter in model.parameters())))
    assert torch.equal(grad.value, (model.first(x) > 0) * model.last.weight.sum(0))


def test_output_of_an_in_place_layer_is_still_its_input() -> None:
    """What the model does to the input later, it does to the output: they are one tensor with and without us."""

    class ChangesLater(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act = nn.Linear(4, 4), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            output = self.act(hidden)
            hidden += 1
            return output

    model, x = ChangesLater(), torch.randn(5, 4)
    grad, output = tl.FeatureLayer(model, "act:grad_input")(x)
    assert torch.equal(output, model(x))
    output.sum().backward()
    assert torch.equal(grad.value, (model.first(x) > 0).float())


def test_one_input_used_twice() -> None:
    """`grad_input` is the gradient through this module alone."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return x + self.branch(x)

    model = Residual()
    grad, output = tl.FeatureLayer(model, "branch:grad_input")(torch.randn(2, 4))
    output.sum().backward()
    assert torch.allclose(grad.value, model.branch.weight.sum(0).expand(2, 4))


def test_structured_gradients() -> None:
    """A gradient has the structure of its value, None where none came."""
    model = toys.Spoils(nn.LSTM(4, 3), lambda _: None)
    model.forward = lambda x: model.layer(x)[0].sum()
    feats, output = tl.FeatureLayers(model, ["layer:grad_output", "layer:grad_output[0]"])(torch.randn(5, 4))
    output.backward()
    out, (hidden, cell) = feats[0]
    assert torch.equal(out, torch.ones(5, 3))
    assert torch.equal(feats[1], out)
    assert hidden is None
    assert cell is None


def test_every_call_has_its_gradient() -> None:
    model = toys.Repeats(3)
    feats, output = tl.FeatureLayers(model, ["layer@*:grad_output", "layer:grad_output"])(torch.randn(2, 4))
    output.sum().backward()
    gradients = feats["layer@*:grad_output"]
    assert len(gradients) == 3
    assert torch.equal(gradients[-1], feats["layer:grad_output"])
    assert torch.equal(gradients[-1], model.after.weight.sum(0) * (gradients[-1] != 0))
    assert all(gradient.shape == (2, 4) for gradient in gradients)
