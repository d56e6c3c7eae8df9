"""Capture at compiled speed, and never nothing from a model that is compiled already."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import torch_featurelayer as tl
from tests import toys
from tests.reference import holds_hooks
from tests.versions import TORCH, traces
from torch_featurelayer.engine.compiled_forward import OLDEST_TRACING

pytestmark = pytest.mark.slow

MODELS = {
    "vgg11": ("features.5", 32),
    "resnet18": ("layer2", 32),
    "mobilenet_v2": ("features.7", 32),
    "vit_b_16": ("encoder.layers.encoder_layer_3", 32),
    "convnext_tiny": ("features.3", 32),
}


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def close(ours: Any, right: Any) -> None:
    torch.testing.assert_close(ours, right, rtol=1e-3, atol=1e-4)


@traces
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("grad", [False, True], ids=["no grad", "grad"])
def test_one_graph(name: str, grad: bool) -> None:
    """`fullgraph=True` refuses a graph break: there is none, early stop included, and features are the same."""
    path, size = MODELS[name]
    options = {"image_size": size} if name == "vit_b_16" else {}
    model = models.get_model(name, weights=None, **options).eval()
    image = torch.randn(1, 3, size, size)
    layers = tl.FeatureLayers(model, [path, f"{path}:input"])
    with torch.set_grad_enabled(grad):
        right, bare = layers(image)
        layers.compile(fullgraph=True, backend="aot_eager")
        feats, output = layers(image)
        close([*feats], [*right])
        close(output, bare)
        for _ in range(2):  # the first counts calls in an eager run, the second is compiled
            close([*layers.features(image)], [*right])
    if grad:
        feats[0].sum().backward()
        assert next(model.parameters()).grad is not None


@traces
def test_stopped_graph_is_shorter(resnet18: nn.Module, image: Tensor) -> None:
    """The compiled early stop leaves out what comes after the layer."""
    sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        sizes.append(len(graph.graph.nodes))
        return graph.forward

    layer = tl.FeatureLayer(resnet18, "layer1")
    layer.compile(fullgraph=True, backend=backend)
    layer(image)
    layer.features(image)
    layer.features(image)
    whole, stopped = sizes
    assert stopped < whole / 2


@traces
def test_in_place_operations_after_the_layer(small: nn.Module) -> None:
    """The compiled feature is not overwritten either."""
    x = torch.randn(8, 4)
    layer = tl.FeatureLayer(small, "0")
    layer.compile(fullgraph=True, backend="aot_eager")
    feat, output = layer(x)
    close(feat, small[0](x))
    close(output, small(x))


@traces
@pytest.mark.parametrize("clone", ["lazy", True, False])
def test_clone(clone: Any, small: nn.Module) -> None:
    """As in an eager run: a copy, or the model's own tensor, which the ReLU after it overwrites."""
    x = torch.randn(8, 4)
    layer = tl.FeatureLayer(small, "0", clone=clone)
    right, _ = layer(x)
    layer.compile(fullgraph=True, backend="aot_eager")
    feat, _ = layer(x)
    close(feat, right)
    assert torch.equal(feat, small[0](x)) == (clone is not False)


@traces
def test_inductor(small: nn.Module) -> None:
    """With PyTorch's own backend, as users call it."""
    x = torch.randn(8, 4)
    layer = tl.FeatureLayer(small, "0")
    layer.compile(fullgraph=True)
    feat, output = layer(x)
    close(feat, small[0](x))
    close(output, small(x))


@traces
def test_calls_and_structures() -> None:
    """Addresses mean in compiled runs what they mean in eager ones."""
    model, x = toys.Repeats(3), torch.randn(2, 4)
    ports = ["layer@0", "layer@-2", "layer@*", "layer@1:input", "layer"]
    layers = tl.FeatureLayers(model, ports)
    right, _ = layers(x)
    layers.compile(fullgraph=True, backend="eager")
    feats, _ = layers(x)
    close(list(feats), list(right))
    pair = tl.FeatureLayer(nn.Sequential(toys.Returns(lambda x: (x * 1, None)), toys.Returns(lambda v: v[0])), "0[0]")
    pair.compile(fullgraph=True, backend="eager")
    close(pair(x)[0], x)


@traces
def test_more_compiled_layers_than_dynamos_limit(small: nn.Module) -> None:
    """Dynamo counts recompilations by code object, 8 at most: each compiled layer has its own."""
    x = torch.randn(1, 4)
    for _ in range(torch._dynamo.config.recompile_limit + 2):
        layer = tl.FeatureLayer(copy.deepcopy(small), "0")
        layer.compile(fullgraph=True, backend="eager")
        close(layer(x)[0], small[0](x))


@traces
def test_hooks_of_a_compiled_layer_are_inert_and_removable(small: nn.Module) -> None:
    """Other calls of the model are not captured; other captures of it work; a copy has none of it."""
    x = torch.randn(1, 4)
    layer = tl.FeatureLayer(small, "0")
    layer.compile(backend="eager")
    assert holds_hooks(small) == 1
    layer(x)
    small(x)
    feat, _ = tl.FeatureLayer(small, "1")(x)
    close(feat, small[0](x).relu())
    close(copy.deepcopy(layer)(x)[0], small[0](x))
    layer.compile(backend="eager")
    assert holds_hooks(small) == 1
    layer.uncompile()
    layer.uncompile()
    assert holds_hooks(small) == 0
    close(layer(x)[0], small[0](x))


@pytest.mark.skipif(TORCH >= OLDEST_TRACING, reason="this PyTorch traces our hooks")
def test_compile_is_refused_where_hooks_cannot_be_traced(small: nn.Module) -> None:
    with pytest.raises(tl.CompileError, match=r"needs PyTorch 2\.13 or newer"):
        tl.FeatureLayer(small, "0").compile()
    assert holds_hooks(small) == 0


def test_gradient_ports_are_eager_only(small: nn.Module) -> None:
    with pytest.raises(tl.CompileError, match="'0:grad_output': gradients are captured in eager forward passes"):
        tl.FeatureLayer(small, "0:grad_output").compile()
    assert holds_hooks(small) == 0


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compiled_forward(model: nn.Module) -> nn.Module:
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compiled_child(model: nn.Module) -> nn.Module:
    model.layer1 = torch.compile(model.layer1, backend="eager")
    return model


def compiled_child_in_place(model: nn.Module) -> nn.Module:
    model.layer1.compile(backend="eager")
    return model


@pytest.mark.parametrize(
    "how", [compiled, compiled_in_place, compiled_forward, compiled_child, compiled_child_in_place]
)
def test_model_compiled_and_warmed_before(how: Any, resnet18: nn.Module, image: Tensor) -> None:
    """Compiled code that has run ignores new hooks: it is set aside for the run, and that is said."""
    right = []
    with torch.no_grad():
        feats, bare = tl.FeatureLayers(resnet18, ["layer1.0.bn1", "layer1"])(image)
        right = [*feats]
        model = how(resnet18)
        model(image)
        model(image)
        prefix = "_orig_mod." if how is compiled else ""
        child = "layer1._orig_mod" if how is compiled_child else f"{prefix}layer1"
        layers = tl.FeatureLayers(model, [f"{child}.0.bn1", f"{prefix}layer1"])
        if TORCH < (2, 6):  # no stance: compiled code cannot be set aside
            with pytest.raises(tl.CompileError, match="cannot run a compiled model eagerly"):
                layers(image)
            return
        for call in (layers, layers.features, layers.features):
            with pytest.warns(UserWarning, match="inside a compiled model"):
                result = call(image)
            feats = result[0] if call is layers else result
            close([*feats], right)
        close(model(image), bare)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_plain_torch_compile_of_a_wrapper(small: nn.Module) -> None:
    """`torch.compile(wrapper)` either works or says what to call instead."""
    x = torch.randn(1, 4)
    layer = tl.FeatureLayer(small, "0")
    try:
        feat, output = torch.compile(layer, backend="eager")(x)
    except tl.CompileError as error:
        assert TORCH < (2, 9), "this PyTorch leaves the trace where the wrapper raises"
        assert "call .compile() on the wrapper" in str(error)
    else:
        close(feat, small[0](x))
        close(output, small(x))
    torch.compiler.reset()
    with pytest.raises(Exception, match=r"call \.compile\(\) on the wrapper|CompileError"):
        torch.compile(layer, backend="eager", fullgraph=True)(x)
    assert holds_hooks(small) == 0
