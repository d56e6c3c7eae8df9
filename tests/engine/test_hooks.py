"""Hooks go in all or nothing, and come out whatever happens."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from tests import toys
from tests.reference import holds_hooks, hooked


def paths(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit()], ids=lambda e: type(e).__name__
)
def test_forward_that_raises_at_every_layer(resnet18: nn.Module, image: torch.Tensor, error: BaseException) -> None:
    """Wherever the model breaks, no hook of ours stays and a user's own stay."""
    layers = tl.FeatureLayers(resnet18, ["**", "**:input", "**:grad_input"])
    calls: list[int] = []
    handle = resnet18.layer1.register_forward_hook(lambda *_: calls.append(1))
    for path in paths(resnet18):
        module = resnet18.get_submodule(path)
        module.forward, forward = toys.Raises(error).forward, module.forward
        with pytest.raises(type(error)):
            layers(image.clone().requires_grad_())
        module.forward = forward
        assert holds_hooks(resnet18) == 1
    calls.clear()
    layers(image.clone().requires_grad_())
    assert calls == [1]
    handle.remove()
    assert holds_hooks(resnet18) == 0


def test_failed_installation(resnet18: nn.Module, image: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the second of two hooks cannot go in, the first comes out and the model does not run."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no hooks here")

    ran: list[int] = []
    resnet18.conv1.register_forward_pre_hook(lambda *_: ran.append(1))
    monkeypatch.setattr(resnet18.layer2, "register_forward_hook", refuse)
    with pytest.raises(RuntimeError, match="no hooks here"):
        tl.FeatureLayers(resnet18, ["layer1", "layer2"])(image)
    assert holds_hooks(resnet18) == 1
    assert ran == []


def test_nothing_is_held_between_calls(resnet18: nn.Module, image: torch.Tensor) -> None:
    layer = tl.FeatureLayer(resnet18, "layer1")
    assert holds_hooks(resnet18) == 0
    layer(image)
    layer.features(image)
    layer.features(image)
    assert holds_hooks(resnet18) == 0


def test_users_hooks_run_first(small: nn.Module) -> None:
    """What is captured is what the model goes on with, a user's changes included."""
    small[0].register_forward_hook(lambda *_: torch.ones(1, 3))
    feat, _ = tl.FeatureLayer(small, "0")(torch.randn(1, 4))
    assert torch.equal(feat, torch.ones(1, 3))


@pytest.mark.slow
def test_threads(resnet18: nn.Module) -> None:
    """8 threads × 50 calls on one model, different layers and inputs: every feature is right."""
    names = ["conv1", "bn1", "relu", "layer1.0.bn2", "layer2.0", "layer3.0.conv2", "layer4", "avgpool"]
    inputs = [torch.randn(1, 3, 32, 32) for _ in names]
    right = []
    with torch.no_grad():
        for name, x in zip(names, inputs, strict=True):
            right.append(hooked(resnet18, lambda x=x: resnet18(x))[0][name])
    start = threading.Barrier(len(names))

    def work(index: int) -> int:
        start.wait()
        bad = 0
        for count in range(50):
            port = names[index] if count % 2 else f"{names[index]}@-1"
            with torch.no_grad():
                feats, _ = tl.FeatureLayers(resnet18, [port, f"{names[index]}:input"])(inputs[index])
            bad += not torch.equal(feats[port], right[index])
        return bad

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(work, range(len(names)))) == [0] * len(names)
    assert holds_hooks(resnet18) == 0


def test_nested_captures(resnet18: nn.Module, image: torch.Tensor) -> None:
    """A wrapper around a wrapper: each gives its own features, and an inner stop ends the inner run only."""
    inner = tl.FeatureLayer(resnet18, "layer1")
    feat, (inner_feat, output) = tl.FeatureLayer(inner, "model.layer2")(image)
    assert torch.equal(inner_feat, hooked(resnet18, lambda: resnet18(image))[0]["layer1"])
    assert torch.equal(feat, resnet18.layer2(inner_feat))
    assert torch.equal(output, resnet18(image))


def test_capture_inside_a_forward(small: nn.Module) -> None:
    """A model that captures from another while it is captured from."""
    other = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    inner = tl.FeatureLayer(other, "0@0")
    outer = nn.Sequential(toys.Returns(inner.features), small)
    feat, output = tl.FeatureLayer(outer, "1.0")(torch.randn(2, 4))
    assert feat.shape == (2, 3)
    assert output.shape == (2, 2)
    assert holds_hooks(outer) == holds_hooks(other) == 0


@pytest.mark.parametrize("edit_first", [True, False])
def test_the_order_of_hooks(edit_first: bool) -> None:
    """Edits, the user's hooks, captures: whichever context was opened first; docs/architecture.md draws it."""
    model, order = nn.Sequential(nn.Identity()), []

    def note(name: str, value: torch.Tensor) -> torch.Tensor:
        order.append((name, value.item()))
        return value + 1

    model[0].register_forward_pre_hook(lambda _, args: (note("user pre-hook", args[0]),))
    model[0].register_forward_hook(lambda _, __, output: note("user hook", output))
    edit = tl.edit(model, {"0:input": lambda x: note("edit of the input", x), "0": lambda x: note("edit", x)})
    capture = tl.capture(model, ["0:input", "0"])
    contexts = [edit, capture] if edit_first else [capture, edit]
    with contexts[0] as first, contexts[1] as second:
        model(torch.zeros(1))
    assert order == [("edit of the input", 0), ("user pre-hook", 1), ("edit", 2), ("user hook", 3)]
    record = second if edit_first else first
    assert (record["0:input"].item(), record["0"].item()) == (2, 4)
