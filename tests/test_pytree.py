"""Structured outputs keep their structure, and every tensor in them is private."""

from __future__ import annotations

import dataclasses
import functools
import threading
import weakref
from collections import OrderedDict, deque
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence
from transformers.modeling_outputs import BaseModelOutput

import torch_featurelayer as tl
from tests import toys


def spoil(value: Any) -> None:
    """Writes to every tensor of a value, and to its containers."""
    if isinstance(value, Tensor):
        value.detach().fill_(-7)
    elif isinstance(value, dict):
        for part in list(value.values()):
            spoil(part)
        value.clear() if type(value) in (dict, OrderedDict) else None
    elif isinstance(value, (list, tuple)):
        for part in value:
            spoil(part)
        value.clear() if isinstance(value, list) else None
    elif hasattr(value, "__dict__"):
        for part in vars(value).values():
            spoil(part)


STRUCTURES = {
    "tuple": lambda x: (x, None, 3),
    "list": lambda x: [x, [x + 1]],
    "dict": lambda x: {"a": x, 1: (x + 1,)},
    "ordered": lambda x: OrderedDict(b=x, a=x + 1),
    "named tuple": lambda x: toys.Pair(x, None),
    "dataclass": lambda x: toys.Answer(x, (x + 1, x + 2)),
    "model output": lambda x: BaseModelOutput(last_hidden_state=x, hidden_states=(x + 1, x + 2)),
    "packed": lambda x: pack_sequence([x[0, :2], x[0, :1]]),
    "torch.max": lambda x: torch.max(x, 0),
    "object": lambda x: toys.Cache(x),
    "one tensor twice": lambda x: (x, x),
    "none": lambda x: None,  # noqa: ARG005
    "text": lambda x: "text",  # noqa: ARG005
}


def test_an_object_that_is_filled_later() -> None:
    """A cache without tensors yet, as transformers hands from layer to layer, stays as empty as it was."""
    model = toys.Spoils(toys.Returns(lambda _: toys.Cache(None)), lambda cache: setattr(cache, "keys", torch.ones(1)))
    feat, _ = tl.FeatureLayer(model, "layer")(torch.ones(1))
    assert feat.keys is None


def test_what_holds_no_tensor_is_kept(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        feat, _ = tl.FeatureLayer(toys.Returns(lambda x: (x, file)), "")(torch.ones(1))
    assert feat[1] is file


def leaves(value: Any) -> list[Any]:
    if isinstance(value, (Tensor, str, int, type(None))):
        return [value]
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in leaves(part)]
    return [leaf for part in vars(value).values() for leaf in leaves(part)]


@pytest.mark.parametrize("kind", STRUCTURES)
@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no grad"])
@pytest.mark.parametrize("clone", ["lazy", True])
def test_structure_is_kept_and_private(kind: str, grad: bool, clone: Any) -> None:
    """The feature has the type and the parts the layer returned, whatever the model does to them next."""
    make = STRUCTURES[kind]
    model = toys.Spoils(nn.Sequential(nn.Linear(4, 4), toys.Returns(make)), spoil)
    x = torch.randn(2, 4)
    with torch.set_grad_enabled(grad):
        right = make(model.layer[0](x))
        feat, _ = tl.FeatureLayer(model, "layer.1", clone=clone)(x)
    assert type(feat) is type(right)
    assert len(leaves(feat)) == len(leaves(right))
    for ours, theirs in zip(leaves(feat), leaves(right), strict=True):
        assert torch.equal(ours, theirs) if isinstance(theirs, Tensor) else ours == theirs


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "named tuple", "dataclass", "model output", "packed"])
def test_gradient_flows_through_structures(kind: str) -> None:
    """Replacing the tensors of an output leaves the model's structure and gradients as they are."""
    make = STRUCTURES[kind]
    model = nn.Sequential(nn.Linear(4, 4), toys.Returns(make), toys.Returns(lambda value: leaves(value)[0].sum()))
    x = torch.randn(2, 4)
    model(x).backward()
    right = model[0].weight.grad.clone()
    model.zero_grad()
    feats, output = tl.FeatureLayers(model, ["1", "1:grad_output"])(x)
    output.backward()
    assert torch.equal(model[0].weight.grad, right)
    gradient = leaves(feats["1:grad_output"])[0]
    assert torch.equal(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize(
    ("kind", "index", "pick"),
    [
        ("tuple", "[0]", lambda v: v[0]),
        ("tuple", "[-3]", lambda v: v[-3]),
        ("list", "[1][0]", lambda v: v[1][0]),
        ("dict", "['a']", lambda v: v["a"]),
        ("dict", "[1][0]", lambda v: v[1][0]),
        ("named tuple", "[first]", lambda v: v.first),
        ("dataclass", "[hidden][1]", lambda v: v.hidden[1]),
        ("model output", "[0]", lambda v: v[0]),
        ("model output", "[hidden_states][1]", lambda v: v.hidden_states[1]),
        ("object", "[keys]", lambda v: v.keys),
    ],
)
def test_index(kind: str, index: str, pick: Any) -> None:
    """`[index]` goes by position, key or attribute, step by step."""
    make = STRUCTURES[kind]
    x = torch.randn(2, 4)
    feat, _ = tl.FeatureLayer(toys.Returns(make), f":output{index}")(x)
    assert torch.equal(feat, pick(make(x)))


@pytest.mark.parametrize(
    ("kind", "index", "says"),
    [
        ("tuple", "[3]", "a tuple of 3 has no part 3"),
        ("dict", "['b']", "a dict with the keys 'a', 1 has no part 'b'"),
        ("list", "[0][0]", r"a tensor of shape \[2, 4\] has no parts"),
        ("none", "[0]", "a NoneType has no part 0"),
    ],
)
def test_index_that_does_not_fit(kind: str, index: str, says: str) -> None:
    with pytest.raises(tl.StructureError, match=says) as caught:
        tl.FeatureLayer(toys.Returns(STRUCTURES[kind]), f":output{index}")(torch.randn(2, 4))
    assert isinstance(caught.value, LookupError)
    assert caught.value.name == f":output{index}"


def test_a_value_that_holds_itself() -> None:
    loop: list[Any] = [torch.ones(1)]
    loop.append(loop)
    feat, _ = tl.FeatureLayer(toys.Returns(lambda: loop), "")()
    assert torch.equal(feat[0], torch.ones(1))


class Slots:
    """Attributes without a dict."""

    __slots__ = ("kept", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.kept = tensor, [tensor + 1]


class Named(list[Any]):
    """A list with an attribute."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__([tensor])
        self.extra = tensor + 1


class Validated:
    """Keeps its tensor under another name, and is made by its class only."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    @property
    def tensor(self) -> Tensor:
        return self._tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    tensor: Tensor
    more: dict[str, Tensor]


ODD = {
    "mapping proxy": (lambda x: MappingProxyType({"a": x, "b": [x + 1]}), lambda v: [v["a"], v["b"][0]]),
    "set": (lambda x: {x}, list),
    "frozen set": (lambda x: frozenset([x]), list),
    "slots": (Slots, lambda v: [v.tensor, v.kept[0]]),
    "list with an attribute": (Named, lambda v: [v[0], v.extra]),
    "deque": (lambda x: deque([x, x + 1], maxlen=3), list),
    "property": (Validated, lambda v: [v.tensor]),
    "frozen dataclass with slots": (lambda x: Frozen(x, {"a": x + 1}), lambda v: [v.tensor, v.more["a"]]),
    "namespace": (lambda x: SimpleNamespace(a=x), lambda v: [v.a]),
    "distribution": (lambda x: torch.distributions.Normal(x, x.exp()), lambda v: [v.loc, v.scale]),
    "parameters": (lambda x: nn.ParameterList([nn.Parameter(x)]), lambda v: [v[0]]),
    "partial": (lambda x: functools.partial(torch.add, x), lambda v: [v.args[0]]),
    "counter of tensors": (lambda x: OrderedDict(a=deque([{"b": x}])), lambda v: [v["a"][0]["b"]]),
    "array": (lambda x: x.detach().numpy(), lambda v: [torch.from_numpy(v)]),
    "attrs": (lambda x: Attrs(x), lambda v: [v.tensor]),
}


@attrs.define
class Attrs:
    tensor: Tensor


@pytest.mark.parametrize("kind", ODD)
def test_containers_of_any_kind_are_private(kind: str) -> None:
    """Of its own type, with the values at the layer, whatever is done to the tensors next."""
    make, leaves_of = ODD[kind]
    kept: list[Tensor] = []

    def layer(x: Tensor) -> Any:
        value = make(x * 2)
        kept.extend(leaves_of(value))
        return value

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = toys.Returns(layer)

        def forward(self, x: Tensor) -> Tensor:
            self.layer(x)
            for tensor in kept:
                tensor.detach().fill_(-7)
            return x

    x = torch.randn(2, 3)
    with torch.no_grad():
        feat, _ = tl.FeatureLayer(Model(), "layer")(x)
    right = make(x * 2)
    assert type(feat) is type(right)
    assert len(leaves_of(feat)) == len(leaves_of(right))
    assert all(map(torch.equal, leaves_of(feat), leaves_of(right)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda x: (x + n for n in range(2)), "a generator, which can be read only once"),
        (lambda x: (x, lambda: x), "a function, which refers to tensors"),
        (lambda x: {"bound": Validated(x).__init__}, "a method, which refers to tensors"),
        (lambda x: Unpicklable(x), "a Unpicklable, which cannot be rebuilt"),
        (lambda x: memoryview(x.numpy()), "a memoryview, which cannot be rebuilt"),
        (lambda x: [{"array": x.numpy()}.values()], "a dict_values, which cannot be rebuilt"),
        (lambda x: (x, weakref.ref(x)), "a ReferenceType, which cannot be rebuilt"),
        (lambda x: future_of(x), "a Future, which cannot be rebuilt"),
        (lambda x: torch.utils.dlpack.to_dlpack(x), "a PyCapsule, which cannot be rebuilt"),
    ],
)
def test_what_cannot_be_rebuilt_is_an_error(make: Any, says: str) -> None:
    """As it is read: the model itself runs as without us, and generators come to it unread."""
    model = nn.Sequential(
        toys.Returns(make), toys.Returns(lambda value: list(value) if hasattr(value, "send") else value)
    )
    x = torch.ones(2)
    with tl.capture(model, ["0"]) as record:
        output = model(x)
    assert output is not None
    with pytest.raises(tl.UncopyableValueError, match=says) as caught:
        _ = record["0"]
    assert caught.value.name == "0"
    with pytest.raises(tl.UncopyableValueError, match=says):
        tl.FeatureLayer(model, "0")(x)


def future_of(tensor: Tensor) -> Any:
    future: Any = torch.futures.Future()
    future.set_result(tensor)
    return future


class Unpicklable:
    """Holds a tensor, and refuses the protocol that copies it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("not me")


def test_functions_and_locks_without_tensors_are_kept() -> None:
    lock = threading.Lock()
    feat, _ = tl.FeatureLayer(toys.Returns(lambda x: (x, torch.relu, len, lock, toys.Returns)), "")(torch.ones(1))
    assert feat[1:] == (torch.relu, len, lock, toys.Returns)
