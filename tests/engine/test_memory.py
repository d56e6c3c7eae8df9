"""Features are freed by counting references: the garbage collector is not needed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import torch_featurelayer as tl
from tests import toys


@pytest.fixture
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def structured() -> nn.Module:
    make = lambda x: {"a": (x, [x + 1]), "b": toys.Cache(x + 2)}  # noqa: E731
    return nn.Sequential(nn.Linear(4, 4), toys.Returns(make), toys.Returns(lambda value: value["a"][0].sum()))


def run(model: nn.Module, x: Tensor) -> Any:
    return tl.FeatureLayers(model, ["0", "1", "1:input"])(x)[0]


def captured(model: nn.Module, x: Tensor) -> Any:
    with tl.capture(model, ["0", "1"], keep="all") as record:
        model(x).backward()
    return list(record)


def reduced(model: nn.Module, x: Tensor) -> Any:
    return tl.FeatureLayers(model, ["0", "1"], reduce=lambda feat: feat * 2)(x)[0]


def stopped(model: nn.Module, x: Tensor) -> Any:
    layers = tl.FeatureLayers(model, ["0", "1"])
    layers.features(x)
    return layers.features(x)


def edited(model: nn.Module, x: Tensor) -> Any:
    with tl.edit(model, {"0": lambda feat: feat + 1}), tl.capture(model, "0") as record:
        model(x)
    return record["0"]


def gradients(model: nn.Module, x: Tensor) -> Any:
    feats, output = tl.FeatureLayers(model, ["0:grad_output", "1:grad_output[a]"])(x)
    output.backward()
    return list(feats)


def operations(model: nn.Module, x: Tensor) -> Any:
    return tl.FeatureLayer(model, "1:add.0")(x)[0]


@pytest.mark.usefixtures("_without_collector")
@pytest.mark.parametrize("make", [run, captured, reduced, stopped, edited, gradients, operations])
def test_freed_at_once(make: Callable[[nn.Module, Tensor], Any]) -> None:
    model, x = structured(), torch.randn(2, 4)
    value = make(model, x)
    found = list(tree_leaves(list(value) if isinstance(value, tl.Features) else value))
    watched = [weakref.ref(leaf) for leaf in found if isinstance(leaf, Tensor)]
    assert watched
    del value, found
    assert [ref() for ref in watched] == [None] * len(watched)
