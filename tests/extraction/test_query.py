"""A new sample gets the features that it would have in the store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage.data import chelsea

import torch_featurelayer as tl
from torch_featurelayer.extraction import extract_like


def test_a_stored_image_gets_its_own_features(tmp_path: Path) -> None:
    """Of all layers, in the store's dtype; another model, or other preprocessing, is refused by name."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(chelsea()).save(tmp_path / "photos" / "cat.png")
    loaded = tl.models.load("efficientnet-lite0")
    layers = ["_blocks.4", "_conv_head"]
    store = tl.extract(loaded, layers, tmp_path / "photos", tmp_path / "out", reduce="mean")
    found = extract_like(store, loaded, tmp_path / "photos" / "cat.png")
    assert list(found) == layers
    for layer in layers:
        assert torch.equal(found[layer], store[layer][0])
    other = tl.models.load("efficientnet-lite0", weights="random")
    with pytest.raises(tl.StoreMismatchError, match="weights is"):
        extract_like(store, other, tmp_path / "photos" / "cat.png")
