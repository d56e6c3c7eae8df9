"""Early stop where the control flow of a model depends on the values of tensors."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl
from tests import toys
from torch_featurelayer.engine import forward_pass

ONE = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1]])
MORE = torch.tensor([[3.0, 2, 10, 11], [3, 2, 5, 4]])


class Counts(nn.Module):
    """Calls its layer as often as a function of its input says."""

    def __init__(self, count: Callable[[Tensor], int]) -> None:
        super().__init__()
        self.count, self.layer, self.after = count, nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for _ in range(self.count(x)):
            y = self.layer(y)
        return self.after(y)


COUNTS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda x: int(x[0, 0].item()),
    "int": lambda x: int(x[0, 0]),
    "float": lambda x: math.ceil(float(x[0, 0])),
    "index": lambda x: len(range(x[0, 0].long())),
    "tolist": lambda x: int(x.tolist()[0][0]),
    "numpy": lambda x: int(x.numpy()[0, 0]),
    "asarray": lambda x: int(np.asarray(x)[0, 0]),
    "memoryview": lambda x: int(memoryview(x.numpy())[0, 0]),
    "data": lambda x: int(x.data.cpu()[0, 0]),
    "format": lambda x: int(float(f"{x[0, 0]:.1f}")),
    "if": lambda x: 3 if x[0, 0] > 2 else 1,
    "any": lambda x: 1 + bool((x > 2).any()),
    "max": lambda x: int(max(x[0, 0], x[0, 1])),
    "sorted": lambda x: int(sorted(x[0])[-1]),
    "in": lambda x: 1 + (11.0 in x),
    "list index": lambda x: [1, 2, 3, 1, 3][x[0, 0].long()],
    "equal": lambda x: 1 + torch.equal(x[0, :1], x[0, 1:2]),
    "allclose": lambda x: 1 + torch.allclose(x[0, :1], x[0, 1:2]),
    "is_nonzero": lambda x: 1 + torch.is_nonzero(x[0, 0] - 1),
    "nonzero": lambda x: 1 + len((x[0] > 9).nonzero()),
    "argwhere": lambda x: 1 + len(torch.argwhere(x[0] > 9)),
    "where": lambda x: 1 + len(torch.where(x[0] > 9)[0]),
    "mask": lambda x: 1 + len(x[0][x[0] > 9]),
    "masked_select": lambda x: 1 + len(torch.masked_select(x[0], x[0] > 9)),
    "unique": lambda x: len(torch.unique(x[0])),
    "unique_consecutive": lambda x: len(x[0].unique_consecutive()),
    "bincount": lambda x: len(torch.bincount(x[0].long())),
    "repeat_interleave": lambda x: len(torch.repeat_interleave(x[0].long())),
    "packed": lambda x: len(
        nn.utils.rnn.pack_padded_sequence(x.T[:, :, None], x[:, 1].long(), enforce_sorted=False).batch_sizes
    ),
}


@pytest.mark.parametrize("kind", COUNTS)
def test_the_number_of_calls_follows_the_values(kind: str) -> None:
    """However the model reads them, `.features()` returns what the complete forward pass does."""
    count = COUNTS[kind]
    assert count(ONE) != count(MORE)
    model = Counts(count)
    wrappers = [tl.FeatureLayer(model, f"layer@{call}") for call in ("-1", "*")]
    for x in (ONE, MORE, ONE, MORE, MORE):
        for wrapper in wrappers:
            feat, (right, _) = wrapper.features(x), wrapper(x)
            assert len(feat) == len(right)
            assert all(map(torch.equal, feat, right))


def test_an_unmarked_layer_that_is_called_again() -> None:
    layer = tl.FeatureLayer(toys.RepeatsByValue(), "layer")
    one, two = torch.ones(1, 4), torch.full((1, 4), 2.0)
    for _ in range(2):
        assert torch.equal(layer.features(one), layer(one)[0])
        with pytest.raises(tl.AmbiguousCallError, match="called 2 times"):
            layer.features(two)


class Gated(nn.Module):
    """Calls its layer again, after a look at the values that it made or at a weight."""

    def __init__(self, *, by_weight: bool) -> None:
        super().__init__()
        self.layer, self.gate, self.by_weight = nn.Linear(4, 4, bias=False), nn.Parameter(torch.tensor(0.0)), by_weight
        nn.init.eye_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return self.layer(x * 2) if (self.gate > 0 if self.by_weight else x.sum() > 0) else x


def test_a_look_after_the_call() -> None:
    """A call that may be followed by another, according to values read after it, is not stopped at."""
    model = Gated(by_weight=False)
    layer = tl.FeatureLayer(model, "layer@-1")
    for sign in (-1.0, 1.0, -1.0, -1.0, 1.0):
        x = torch.full((1, 4), sign)
        assert torch.equal(layer.features(x), layer(x)[0])


def test_weights_that_change_unseen() -> None:
    """Writing to `.data` leaves no trace in the version of a parameter."""
    model, x = Gated(by_weight=True), torch.ones(1, 4)
    layer = tl.FeatureLayer(model, "layer@-1")
    for gate in (-1.0, 1.0, -1.0, 1.0):
        model.gate.data.fill_(gate)
        assert torch.equal(layer.features(x), layer(x)[0])


class EarlyExit(nn.Module):
    """Leaves out its last blocks if it is sure."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        depth = x[0, 0]
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number >= depth:
                break
        return x


def test_layers_of_a_pattern_that_run_for_some_inputs() -> None:
    model = EarlyExit()
    layers, last = tl.FeatureLayers(model, "blocks.*"), tl.FeatureLayer(model, "blocks.4")
    for depth in (1.0, 3.0, 0.0, 4.0, 1.0):
        x = torch.full((2, 4), depth)
        feats, (right, _) = layers.features(x), layers(x)
        assert feats.names == right.names
        assert len(feats.not_run) == 4 - depth
        assert all(torch.equal(feats[name], right[name]) for name in feats.names)
        if depth == 4:
            assert torch.equal(last.features(x), right["blocks.4"])
        else:
            with pytest.raises(tl.LayerNotRunError):
                last.features(x)


class Masked(nn.Module):
    """Reads a mask before its layers run, as transformers do, and a value after them, in its head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.head = toys.Returns(lambda x: x.max().item())

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        if not mask.all():
            x = x * mask[:, None]
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def test_still_stops_where_the_values_are_the_same() -> None:
    model, x = Masked(), torch.randn(3, 4)
    layer = tl.FeatureLayer(model, "layers.1")
    ended: list[Any] = []
    model.head.register_forward_hook(lambda *_: ended.append(1))
    stops = []
    for given in ([1, 1, 1], [1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 1]):
        mask = torch.tensor(given)
        ended.clear()
        feat = layer.features(x, mask)
        stops.append(not ended)
        assert torch.equal(feat, layer(x, mask)[0])
    assert stops == [False, True, False, True, False]


@pytest.mark.parametrize("prepare", [lambda x: x.repeat_interleave(2, 0), lambda x: x.where(x > 0, 0), lambda x: x[:2]])
def test_shapes_that_do_not_depend_on_values(prepare: Callable[[Tensor], Tensor]) -> None:
    """They are no look at the values, so other values stop early too."""
    model = nn.Sequential(toys.Returns(prepare), nn.Linear(4, 4), nn.ReLU())
    ended: list[Any] = []
    model[2].register_forward_hook(lambda *_: ended.append(1))
    layer = tl.FeatureLayer(model, "1")
    for _ in range(3):
        layer.features(torch.randn(3, 4))
    assert len(ended) == 1


def test_a_given_call_always_stops() -> None:
    model = Gated(by_weight=False)
    layer = tl.FeatureLayer(model, "layer@0")
    ran: list[Any] = []
    model.layer.register_forward_hook(lambda *_: ran.append(1))
    for _ in range(3):
        layer.features(torch.ones(1, 4))
    assert len(ran) == 3


def test_compiled_code_does_not_tell_what_it_reads() -> None:
    if tl.engine._torch_private.TORCH_VERSION < (2, 13):
        pytest.skip("PyTorch cannot trace hooks before 2.13")
    model = toys.RepeatsByValue()
    layer = tl.FeatureLayer(model, "layer@-1")
    layer.compile(backend="eager")
    for count in (1.0, 3.0, 2.0, 3.0):
        x = torch.full((1, 4), count)
        assert torch.allclose(layer.features(x), tl.FeatureLayer(model, "layer@-1")(x)[0])


@pytest.mark.parametrize("count", [1.0, 2.0])
def test_features_are_freed_without_the_garbage_collector(count: float) -> None:
    layer = tl.FeatureLayer(toys.RepeatsByValue(), "layer@-1")
    layer.features(torch.ones(1, 4))
    gc.disable()
    try:
        feature = weakref.ref(layer.features(torch.full((1, 4), count)))
        assert feature() is None
    finally:
        gc.enable()


def test_without_function_modes_every_call_runs_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be observed is not guessed."""
    monkeypatch.setattr(forward_pass, "HAS_FUNCTION_MODES", False)
    layer = tl.FeatureLayer(toys.RepeatsByValue(), "layer@-1")
    for count in (1.0, 3.0, 2.0):
        x = torch.full((1, 4), count)
        assert torch.equal(layer.features(x), layer(x)[0])
