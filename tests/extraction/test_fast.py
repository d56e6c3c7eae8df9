"""The fastest way to run the model: the same features, in the same bytes however often it is interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from tests.extraction.images import CUT, make_images, network
from tests.store.digests import digests
from torch_featurelayer.extraction import fastest as measured
from torch_featurelayer.extraction.modes import EAGER, Mode
from torch_featurelayer.store import Store

MODES = [EAGER, *(Mode(name, part) for name in ("channels_last", "compiled") for part in (0, 1))]


def extracted(model: nn.Module, images: Path, out: Path, **options: Any) -> Store:
    fixed: dict[str, Any] = {"preprocess": CUT, "batch_size": 4, "shard_rows": 6, "dtype": None}
    return tl.extract(model, "features.6", images, out, **fixed, **options)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_mode_gives_the_features(mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small last batches and broken files among them; continued, the bytes are the same; the model is not changed."""
    monkeypatch.setattr(measured, "fastest", lambda _: mode)
    ids = make_images(tmp_path / "images", 15)
    (tmp_path / "images" / ids[7]).write_bytes(b"")
    model = network()
    strides = [value.stride() for value in model.parameters()]
    right = extracted(model, tmp_path / "images", tmp_path / "right")
    store = extracted(model, tmp_path / "images", tmp_path / "fast", fast=True)
    assert store.meta["mode"] == str(mode)
    assert store.ids == right.ids
    torch.testing.assert_close(store["features.6"][:], right["features.6"][:], rtol=1e-4, atol=1e-5)
    assert [value.stride() for value in model.parameters()] == strides
    assert not any(module._forward_hooks for module in model.modules())
    whole = digests(tmp_path / "fast")
    (tmp_path / "fast" / "shards" / "00000001.safetensors").unlink()
    monkeypatch.setattr(measured, "fastest", lambda _: pytest.fail("measured again"))
    extracted(model, tmp_path / "images", tmp_path / "fast", fast=True)
    assert digests(tmp_path / "fast") == whole


def test_the_mode_is_measured_and_said(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 5)
    store = extracted(network(), tmp_path / "images", tmp_path / "out", fast=True)
    assert Mode.parse(store.meta["mode"]) in MODES


def test_what_cannot_be_compiled_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a warning that says why; the rest is done."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(tl.FeatureLayers, "compile", broken)
    make_images(tmp_path / "images", 5)
    with pytest.warns(UserWarning, match="does not run compiled here: no C\\+\\+ compiler"):
        store = extracted(network(), tmp_path / "images", tmp_path / "out", fast=True)
    assert not store.meta["mode"].startswith("compiled")


def test_autocast_computes_in_bfloat16(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 5)
    model = network().eval()
    store = extracted(model, tmp_path / "images", tmp_path / "out", autocast=torch.bfloat16)
    assert store["features.6"].dtype is torch.bfloat16
    inputs = torch.cat([CUT(tmp_path / "images" / name) for name in store.ids[:4]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        right = tl.FeatureLayer(model, "features.6").features(inputs)
    assert torch.equal(store["features.6"][:4], right)
