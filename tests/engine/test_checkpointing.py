"""Activation checkpointing: one feature for one forward, and gradients as without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import torch_featurelayer as tl
from tests.reference import holds_hooks


class Checkpointed(nn.Module):
    """Two layers in a region, nested in another where asked for."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.mode = mode

    def region(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(x)) * 2))

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "none":
            return self.region(self.region(x)).sum()
        if self.mode == "nested":
            return checkpoint(self.nested, x, use_reentrant=False).sum()
        reentrant = self.mode == "reentrant"
        for _ in range(2):
            x = checkpoint(self.region, x, use_reentrant=reentrant)
        return x.sum()

    def nested(self, x: Tensor) -> Tensor:
        return checkpoint(self.region, self.region(x), use_reentrant=False)


MODES = ["reentrant", "plain", "nested"]


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    found = [*(parameter.grad for parameter in model.parameters()), x.grad]
    return [torch.zeros(()) if gradient is None else gradient.clone() for gradient in found]


def compared(mode: str, run: Callable[[nn.Module, Tensor], None]) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the gradients with checkpointing and without."""
    found = []
    for kind in (mode, "none"):
        model, x = Checkpointed(kind), torch.linspace(-1, 1, 12).reshape(3, 4).requires_grad_()
        run(model, x)
        found.append(gradients(model, x))
        assert holds_hooks(model) == 0
    return found[0], found[1]


EDITS = {
    "every call": {"first": lambda feat: feat * 3 + 1},
    "one call": {"first@1": lambda feat: feat.square(), "second@0": lambda feat: feat - 2},
    "input and number": {"second:input": lambda feat: feat.exp(), "first@0": 0.5},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("changes", EDITS)
@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward after"])
def test_edits_are_made_again(mode: str, changes: str, inside: bool) -> None:
    def run(model: nn.Module, x: Tensor) -> None:
        with tl.edit(model, EDITS[changes]):
            loss = model(x)
            if inside:
                loss.backward()
        if not inside:
            loss.backward()

    ours, right = compared(mode, run)
    assert all(map(torch.allclose, ours, right))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("capture", ["block", "wrapper"])
def test_a_model_that_is_checkpointed_as_a_whole(reentrant: bool, capture: str) -> None:
    found = []
    for use in (True, False):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        x = torch.ones(3, 4, requires_grad=True)

        def run(model: Callable[..., Any], *args: Any, use: bool = use) -> Any:
            return checkpoint(model, *args, use_reentrant=reentrant) if use else model(*args)

        with tl.edit(layers, {"0": lambda feat: feat * 2}):
            if capture == "block":
                with tl.capture(layers, ["2:grad_output", "0"], keep="last") as feats:
                    output = run(layers, x)
            else:
                kept: list[Any] = []
                wrapper = tl.FeatureLayers(layers, ["2:grad_output", "0"])

                def call(x: torch.Tensor, wrapper: Any = wrapper, kept: list[Any] = kept) -> Any:
                    feats, output = wrapper(x)
                    kept.append(feats)
                    return output

                output = run(call, x)
                feats = kept[0]
        output.square().sum().backward()
        found.append([x.grad, layers[0].weight.grad, feats["2:grad_output"], feats["0"].detach()])
    assert all(map(torch.allclose, *found))


def test_an_edit_that_is_learned() -> None:
    """The parameters of an edit get their gradients from the recomputation."""
    found = []
    for mode in ("reentrant", "plain", "none"):
        model, x = Checkpointed(mode), torch.ones(3, 4, requires_grad=True)
        scale = nn.Parameter(torch.full((4,), 0.5))
        with tl.edit(model, {"first": lambda feat, scale=scale: feat * scale}):
            loss = model(x)
        loss.backward()
        found.append(scale.grad)
    assert torch.allclose(found[0], found[2])
    assert torch.allclose(found[1], found[2])


@pytest.mark.parametrize("mode", MODES)
def test_one_feature_for_one_forward(mode: str) -> None:
    def run(model: nn.Module, x: Tensor) -> None:
        with tl.capture(model, ["first", "second@0", "second:grad_output"], keep="all") as record:
            model(x).backward()
        assert [len(values) for values in record] == [1, 1, 1]
        assert record.forwards("first") == [0]

    ours, right = compared(mode, run)
    assert all(map(torch.allclose, ours, right))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduce", ["mean", "max", lambda feat: feat.square().amax(0)])
def test_features_and_gradients(mode: str, reduce: object) -> None:
    """Gradient ports, reductions and features, after which PyTorch compares what it saved."""
    names = ["first@0", "first@0:grad_output", "second:grad_input", "second@1:grad_output"]
    found = []
    for kind in (mode, "none"):
        model, x = Checkpointed(kind), torch.linspace(-1, 1, 12).reshape(3, 4).requires_grad_()
        feats, loss = tl.FeatureLayers(model, names, reduce=reduce)(x)  # type: ignore[arg-type]
        loss.backward()
        found.append([feats["first@0"].detach(), *(feats[name] for name in names[1:]), *gradients(model, x)])
    assert all(map(torch.allclose, *found))


def test_no_features_are_held_by_the_graph() -> None:
    """What a recomputation needs is in the graph; features are not."""
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        model, x = Checkpointed("reentrant"), torch.ones(3, 4, requires_grad=True)
        feat, loss = tl.FeatureLayer(model, "first", clone=True)(x)
        watched = weakref.ref(feat)
        del feat
        assert watched() is None
        loss.backward()
    finally:
        gc.enable()


def test_sequential_and_transformers() -> None:
    """`checkpoint_sequential`, and Hugging Face's gradient checkpointing."""
    from transformers import GPT2Config, GPT2Model

    layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    x = torch.ones(2, 4, requires_grad=True)
    with tl.capture(layers, ["0:grad_output"]) as record:
        checkpoint_sequential(layers, 2, x, use_reentrant=False).sum().backward()
    right = torch.ones(2, 4) @ layers[3].weight @ layers[2].weight @ layers[1].weight
    assert torch.allclose(record["0:grad_output"], right)

    config = GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=20, n_positions=16, attn_pdrop=0.0)
    config.resid_pdrop = config.embd_pdrop = 0.0
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = GPT2Model(config).train()
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable()
        with tl.edit(model, {"h.0": lambda value: value * 2 if isinstance(value, torch.Tensor) else (value[0] * 2,)}):
            output = model(torch.arange(10)[None], use_cache=False).last_hidden_state.square().sum()
        output.backward()
        found.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.allclose, *found))
