"""What an edit may give, what it must not, and when it applies."""

from __future__ import annotations

from collections import deque
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

import torch_featurelayer as tl
from tests import toys

X = torch.randn(2, 4)


def test_what_the_function_keeps_is_not_overwritten() -> None:
    """An in-place operation follows the edit."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    own, parts = torch.full((2, 4), -1.0), (torch.full((2, 4), -1.0), {"a": torch.full((2, 4), -2.0)})
    with torch.no_grad(), tl.edit(model, {"0": lambda _: own}):
        assert torch.equal(model(X), torch.zeros(2, 4))
    assert (own == -1).all()
    pair = nn.Sequential(toys.Returns(lambda x: (x, {"a": x})), toys.Returns(lambda v: v[0].relu_() + v[1]["a"].abs_()))
    with tl.edit(pair, {"0": lambda _: parts}):
        assert torch.equal(pair(X), torch.full((2, 4), 2.0))
    assert (parts[0] == -1).all()
    assert (parts[1]["a"] == -2).all()


STRUCTURES: dict[str, tuple[Any, str, Any]] = {
    "model output by position": (
        lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x, x + 1)),
        "0[0]",
        lambda v: v[0] + v.last_hidden_state,
    ),
    "model output by name": (
        lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x, x + 1)),
        "0[hidden_states][1]",
        lambda v: v.hidden_states[1] + v[1][1],
    ),
    "deque": (lambda x: deque([x, x + 1]), "0[1]", lambda v: v[1]),
    "deque from the end": (lambda x: deque([x, x + 1]), "0[-2]", lambda v: v[0]),
    "mapping proxy": (lambda x: MappingProxyType({"a": x}), "0['a']", lambda v: v["a"]),
    "dict with numbers": (lambda x: {7: x, 0: x + 1}, "0[7]", lambda v: v[7]),
    "object": (toys.Cache, "0[keys]", lambda v: v.keys),
    "named tuple": (lambda x: toys.Pair(x, None), "0[first]", lambda v: v.first),
}


@pytest.mark.parametrize("kind", STRUCTURES)
def test_parts_are_edited_where_captures_read_them(kind: str) -> None:
    make, address, read = STRUCTURES[kind]
    model = nn.Sequential(toys.Returns(make), toys.Returns(read))
    with tl.edit(model, {address: 0.0}), tl.capture(model, address) as record:
        assert torch.equal(model(X), torch.zeros(2, 4))
    assert torch.equal(record[address], torch.zeros(2, 4))
    assert not torch.equal(model(X), torch.zeros(2, 4))


class Named(nn.Module):
    """Calls its layer by keywords, and by one positional argument and one keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = toys.Returns(lambda a, b=0: a - b)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(a=x, b=2 * x), self.layer(x, b=2 * x)


def test_arguments_in_another_order() -> None:
    model = Named()
    with tl.edit(model, {"layer:input": lambda given: dict(reversed([*given.items()]))}):
        assert all(torch.equal(output, -X) for output in model(X))


@pytest.mark.parametrize(
    "function",
    [
        lambda given: {"b": given["b"]},
        lambda given: {**given, "c": 1},
        lambda given: given["b"],
        lambda given: list(given.values()),
    ],
)
def test_arguments_that_are_missing_or_too_many(function: Any) -> None:
    model = Named()
    with (
        pytest.raises(tl.EditError, match="must be a dict with the keys 'a', 'b'"),
        tl.edit(model, {"layer:input": function}),
    ):
        model(X)
    several = toys.Returns(lambda x: x)
    several.layer = toys.Returns(lambda a, b: a - b)
    several.make = lambda x: several.layer(x, x)
    with (
        pytest.raises(tl.EditError, match="must be a tuple of 2 arguments"),
        tl.edit(several, {"layer:input": lambda v: v[:1]}),
    ):
        several(X)


def test_a_capture_inside_an_edit_of_the_same_layer() -> None:
    """The model runs unedited by this edit while its function runs it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))

    def add_plain(value: Tensor) -> Tensor:
        with tl.capture(model, "0") as record:
            model(X)
        return value + tl.FeatureLayer(model, "0")(X)[0] + record["0"]

    with tl.edit(model, {"0": add_plain}):
        output = model(X)
    torch.testing.assert_close(output, model[1](3 * model[0](X)))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0.7, torch.int64),
        (-1, torch.uint8),
        (2, torch.bool),
        (torch.tensor(0.5), torch.int32),
        (torch.tensor([300.0]), torch.uint8),
        (torch.tensor(1 + 2j), torch.float32),
    ],
)
def test_values_that_the_dtype_cannot_hold(value: Any, kind: torch.dtype) -> None:
    model = nn.Sequential(toys.Returns(lambda x: x.to(kind)), toys.Returns(lambda x: x + 0))
    with pytest.raises(tl.EditError, match="cannot be represented"), tl.edit(model, {"0": value}):
        model(X)


@pytest.mark.parametrize(("value", "kind"), [(3.0, torch.int64), (1, torch.bool), (torch.tensor([2.0]), torch.int32)])
def test_whole_numbers_of_another_dtype_are_fine(value: Any, kind: torch.dtype) -> None:
    model = nn.Sequential(toys.Returns(lambda x: x.to(kind)), toys.Returns(lambda x: x.float()))
    with tl.edit(model, {"0": value}):
        assert (model(X) == torch.as_tensor(float(torch.as_tensor(value)))).all()


def test_calls_are_counted_in_each_forward_of_an_inner_model() -> None:
    """As code does that calls a part of the model, such as PEFT's `generate` or a `training_step`."""
    inner = toys.Repeats(2)
    model = nn.ModuleDict({"inner": inner})
    with (
        tl.edit(model, {"inner.layer@1": 0.0}),
        tl.capture(model, ["inner.layer@0", "inner.layer@1"], keep="all") as record,
    ):
        for _ in range(3):
            inner(torch.ones(1, 4))
    assert len(record["inner.layer@0"]) == len(record["inner.layer@1"]) == 3
    assert all((value == 0).all() for value in record["inner.layer@1"])
    assert not any((value == 0).all() for value in record["inner.layer@0"])
    assert record.forwards("inner.layer@0") == [None] * 3


class Twice(nn.Module):
    """Runs a layer twice, which multiplies twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Products()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


class Products(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 2) * 3


def test_calls_of_operations_are_those_of_their_module() -> None:
    model = Twice()
    names = ["layer@0:mul.0", "layer@0:mul.1", "layer@1:mul.0", "layer@1:mul.1", "layer@-2:mul.0", "layer@*:mul.1"]
    feats, _ = tl.FeatureLayers(model, names)(X)
    for feat, scale in zip(list(feats)[:5], [2, 6, 12, 36, 2], strict=True):
        torch.testing.assert_close(feat, X * scale)
    for feat, scale in zip(feats[5], [6, 36], strict=True):
        torch.testing.assert_close(feat, X * scale)
    layer = tl.FeatureLayer(model, "layer@1:mul.0")
    torch.testing.assert_close(layer.features(X), X * 12)
    with tl.edit(model, {"layer@1:mul.0": 1.0}):
        assert torch.equal(model(X), torch.full((2, 4), 3.0))
    with tl.edit(model, {"layer@0:mul.1:input[0]": 1.0}):
        assert torch.equal(model(X), torch.full((2, 4), 18.0))
    with pytest.raises(tl.CallNotMadeError):
        tl.FeatureLayer(model, "layer@2:mul.0")(X)


def test_reading_in_the_middle_of_a_forward() -> None:
    """A record gives the value of the forward pass under way."""
    seen: list[Tensor] = []
    model = nn.Sequential(nn.Linear(4, 4), toys.Returns(lambda x: x), nn.Linear(4, 2))
    for keep in ("last", "all", 2):
        seen.clear()
        with tl.capture(model, "0", keep=keep) as record:  # type: ignore[arg-type]
            model[1].make = lambda x, record=record: (seen.append(record["0"]), x)[1]
            for scale in (1, 2, 3):
                model(X * scale)
        last = seen[-1] if keep == "last" else seen[-1][-1]
        assert torch.equal(last, model[0](X * 3))
        counts = {"last": None, "all": [1, 2, 3], 2: [1, 2, 2]}[keep]
        assert counts is None or [len(value) for value in seen] == counts


def test_gradients_of_each_place_of_a_tensor() -> None:
    """As PyTorch's own hooks give them, though the tensor is one."""

    class Shares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.three = toys.Returns(lambda a, b, c: 2 * a + 3 * b + 5 * c)
            self.two = toys.Returns(lambda t: (t, {"again": t}))

        def forward(self, x: Tensor) -> Tensor:
            shared = x * 1
            first, second = self.two(self.three(shared, shared, shared))
            return (first * 2 + second["again"] * 7).sum()

    model, x = Shares(), X.clone().requires_grad_()
    model(x).backward()
    right, x.grad = x.grad, None
    feats, output = tl.FeatureLayers(model, ["three:grad_input", "two:grad_output", "two:grad_output[0]"])(x)
    output.backward()
    assert [gradient.unique().item() for gradient in feats["three:grad_input"]] == [18, 27, 45]
    whole = feats["two:grad_output"]
    assert [whole[0].unique().item(), whole[1]["again"].unique().item()] == [2, 7]
    assert feats["two:grad_output[0]"].unique().item() == 2
    assert torch.equal(x.grad, right)


def test_places_of_one_tensor_go_on_sharing_it() -> None:
    """What the model writes to one place is seen at the other, with gradient ports and without."""

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = toys.Returns(lambda t: (t, t))

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.two(x * 1)
            first.mul_(3)
            return second.sum()

    model, x = Writes(), X.clone().requires_grad_()
    _, output = tl.FeatureLayers(model, ["two", "two:grad_output"])(x)
    output.backward()
    assert torch.equal(output, model(X))
    assert torch.equal(x.grad, torch.full((2, 4), 3.0))


def test_gradients_in_plain_objects() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4),
        toys.Returns(lambda x: torch.distributions.Normal(x, torch.ones(()))),
        toys.Returns(lambda normal: normal.log_prob(torch.zeros(()))),
    )
    feat, output = tl.FeatureLayer(model, "1:grad_output")(X)
    output.sum().backward()
    torch.testing.assert_close(feat.value.loc, -model[0](X).detach())


def test_last_hidden_state_beside_hidden_states() -> None:
    make = toys.Returns(lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x * 0, x)))
    model = nn.Sequential(nn.Linear(4, 4), make)
    feat, output = tl.FeatureLayer(model, ":grad_output")(X)
    (output.last_hidden_state * 2 + output.hidden_states[1] * 3).sum().backward()
    assert feat.value.last_hidden_state.unique().item() == 2
    assert feat.value.hidden_states[1].unique().item() == 3


@pytest.mark.parametrize(
    ("old", "new", "given"),
    [
        (lambda x: (x, None), lambda old: old[0], "a tensor of shape \\[2, 4\\]"),
        (lambda x: (x, x), lambda old: old[:1], "a tuple of 1"),
        (lambda x: (x, x), lambda old: {"0": old[0], "1": old[1]}, "a dict with the keys '0', '1'"),
        (lambda x: [x], lambda old: old[0], "a tensor"),
        (lambda x: {"a": x, "b": x}, lambda old: {"a": old["a"]}, "a dict with the keys 'a'"),
        (toys.Cache, lambda old: old.keys, "a tensor"),
        (lambda x: x, lambda old: [old], "a list of 1"),
        (lambda x: x, lambda old: (old, None), "a tuple of 2"),
        (lambda x: x, lambda _: 0.0, "a float"),
    ],
)
def test_a_function_that_returns_another_structure(old: Any, new: Any, given: str) -> None:
    """A tensor in the place of `(hidden, weights)` would make the model take its first item for all."""
    model = toys.Spoils(toys.Returns(old), lambda _: None)
    with tl.edit(model, {"layer": new}), pytest.raises(tl.EditError, match=f"returned {given}.*the same structure"):
        model(torch.randn(2, 4))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (lambda x: (x, None), lambda old: [old[0] * 2, None]),
        (lambda x: [x, x], lambda old: old[:1]),
        (lambda x: {"a": x}, lambda old: {**old, "b": 1}),
        (lambda x: toys.Pair(x, None), lambda old: toys.Pair(old.first * 2, None)),
        (lambda x: x.shape[0], lambda _: torch.tensor(3)),
    ],
)
def test_a_function_that_returns_the_same_structure(old: Any, new: Any) -> None:
    model = toys.Spoils(toys.Returns(old), lambda _: None)
    with tl.edit(model, {"layer": new}), tl.capture(model, "layer") as record:
        model(torch.randn(2, 4))
    assert isinstance(record["layer"], type(new(old(torch.ones(2, 4)))))


@pytest.mark.parametrize("value", [None, "0", [1.0], {"a": 1.0}, np.zeros(4), object()])
def test_values_that_are_none(value: Any) -> None:
    with pytest.raises(tl.EditError, match="a function, a tensor or a number, not a"), tl.edit(nn.ReLU(), {"": value}):
        pass


@pytest.mark.parametrize("value", [1j, 10**400])
def test_numbers_that_no_float_holds(value: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with tl.edit(model, {"0": value}), pytest.raises(tl.EditError, match="cannot be represented in float32"):
        model(torch.ones(1, 4))
