"""Early stop never returns what the same call without stopping would not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl


class Steps(nn.Module):
    """Calls its layer as often as an argument, an attribute or a mode says."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.inner, self.last = nn.Linear(4, 4), nn.Dropout(0.0), nn.Linear(4, 2)
        self.register_buffer("more", torch.tensor(0))
        self.plain = torch.tensor(0)
        self.steps, self.config = 1, SimpleNamespace(depth={"steps": [1]})
        self.calls = 0

    def forward(self, x: Tensor, steps: Any = None) -> Tensor:
        if isinstance(steps, SimpleNamespace):
            steps = steps.count
        if callable(steps):
            steps = steps()
        if isinstance(steps, (list, np.ndarray)):
            steps = int(sum(steps))
        if steps is None:
            steps = self.steps * self.config.depth["steps"][0] + (2 if self.inner.training else 0)
            steps += int(self.more) + int(self.plain)
        for _ in range(steps):
            x = self.layer(x)
            self.calls += 1
        return self.last(x)


def twice(counts: tuple[int, int], make: Any) -> list[Any]:
    return [make(count) for count in counts]


ARGUMENTS = {
    "number": lambda count: count,
    "list": lambda count: [1] * count,
    "array": lambda count: np.ones(count),
    "same array, other values": lambda count: np.array([count, 0]),
    "object": lambda count: SimpleNamespace(count=count),
    "function": lambda count: lambda: count,
}


@pytest.mark.parametrize("kind", ARGUMENTS)
@pytest.mark.parametrize("address", ["layer@-1", "layer@*", "layer@-2"])
def test_values_of_arguments(kind: str, address: str) -> None:
    """A count that was learned under other arguments is not used."""
    model, x = Steps().eval(), torch.randn(2, 4)
    layer = tl.FeatureLayer(model, address)
    for count in (3, 3, 2, 4, 3):
        argument = ARGUMENTS[kind](count)
        ours, right = layer.features(x, steps=argument), layer(x, steps=argument)[0]
        assert len(ours) == len(right)
        assert all(map(torch.equal, ours, right))


def test_an_object_that_changes() -> None:
    model, x, steps = Steps().eval(), torch.randn(2, 4), SimpleNamespace(count=2)
    layer = tl.FeatureLayer(model, "layer@-1")
    layer.features(x, steps=steps)
    steps.count = 3
    assert torch.equal(layer.features(x, steps=steps), layer(x, steps=steps)[0])


@pytest.mark.parametrize("change", ["attribute", "nested", "mode of a part", "module", "buffer", "tensor"])
def test_state_of_the_model(change: str) -> None:
    model, x = Steps().eval(), torch.randn(2, 4)
    layer = tl.FeatureLayer(model, "layer@-1")
    layer.features(x)
    layer.features(x)
    if change == "attribute":
        model.steps = 3
    elif change == "nested":
        model.config.depth["steps"][0] = 2
    elif change == "buffer":
        model.more += 2
    elif change == "tensor":
        model.plain.fill_(1)
    elif change == "mode of a part":
        model.inner.train()
    else:
        model.inner = nn.Identity().train()
    assert torch.equal(layer.features(x), layer(x)[0])


def test_a_known_call_stops() -> None:
    """The same kind of call is learned once, with an argument of every kind that can be compared."""
    x = torch.randn(2, 4)
    for make in ARGUMENTS.values():
        model = Steps().eval()
        ran: list[int] = []
        model.last.register_forward_hook(lambda *_, ran=ran: ran.append(1))
        # the state that counts calls is the model's own: it would make every call another kind
        del model.calls
        type(model).calls = 0
        argument, layer = make(2), tl.FeatureLayer(model, "layer@-1")
        for _ in range(3):
            layer.features(x, steps=argument)
            vars(model).pop("calls", None)
        assert ran == [1]


def test_an_unmarked_layer_that_runs_more_often() -> None:
    """Asked for without a call, it is the last call or an error, never an earlier call."""
    model, x = Steps().eval(), torch.randn(2, 4)
    layer = tl.FeatureLayer(model, "layer")
    assert torch.equal(layer.features(x, steps=1), layer(x, steps=1)[0])
    with pytest.raises(tl.AmbiguousCallError, match="called 3 times"):
        layer.features(x, steps=3)


def test_modes_that_a_forward_switches_are_put_back() -> None:
    class Switches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)
            torch.set_autocast_enabled("cpu", True)
            self.last.eval()
            x = self.first(x)
            torch.set_autocast_enabled("cpu", False)
            torch.set_default_dtype(torch.float32)
            torch.set_grad_enabled(True)
            self.last.train()
            return self.last(x)

    model = Switches()
    tl.FeatureLayer(model, "first@0").features(torch.randn(2, 4))
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32
    assert not torch.is_autocast_enabled("cpu")
    assert model.last.training


def test_a_model_that_keeps_a_lazy_mapping() -> None:
    """Such as the offloaded weights of accelerate, which are not read for the signature of a call."""
    from collections.abc import Iterator, Mapping

    class Lazy(Mapping[str, torch.Tensor]):
        def __getitem__(self, key: str) -> torch.Tensor:
            raise KeyError(key)

        def __iter__(self) -> Iterator[str]:
            return iter(["weight"])

        def __len__(self) -> int:
            return 1

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.weights = nn.Linear(2, 2), nn.Linear(2, 2), Lazy()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    model, x = Holder(), torch.randn(1, 2)
    for _ in range(3):
        assert torch.equal(tl.FeatureLayer(model, "first").features(x), model.first(x))
