"""What `get_layer_candidates` lists."""

from __future__ import annotations

import pytest
from torch import nn
from torchvision.models import vgg11

import torch_featurelayer as tl


def test_vgg11_to_depth_2() -> None:
    """The list of the contract."""
    expected = ["features", *(f"features.{i}" for i in range(21)), "avgpool"]
    expected += ["classifier", *(f"classifier.{i}" for i in range(7))]
    assert [layer for layer in tl.get_layer_candidates(vgg11(weights=None), max_depth=2)] == expected  # noqa: C416


def test_depths(resnet18: nn.Module) -> None:
    every = tl.get_layer_candidates(resnet18, max_depth=None)
    assert every == [name for name, _ in resnet18.named_modules() if name]
    assert tl.get_layer_candidates(resnet18) == [name for name, _ in resnet18.named_children()]


def test_both_names_of_a_shared_module() -> None:
    shared = nn.Linear(2, 2)
    assert tl.get_layer_candidates(nn.ModuleDict({"a": shared, "b": shared})) == ["a", "b"]


@pytest.mark.parametrize("depth", [0, -1])
def test_depth_counts_from_one(resnet18: nn.Module, depth: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        tl.get_layer_candidates(resnet18, max_depth=depth)
