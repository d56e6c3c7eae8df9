"""Models of torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._exceptions import ModelNotFoundError, WeightsNotFoundError
from .._optional import need
from .loaded_model import LoadedModel
from .preprocess import Preprocess
from .weights import RANDOM


def load(name: str, weights: str) -> LoadedModel:
    """Builds `torchvision:NAME`."""
    models, spec = need("torchvision.models", "images"), f"torchvision:{name}"
    if name not in models.list_models():
        known = [f"torchvision:{known}" for known in models.list_models()]
        raise ModelNotFoundError(spec, "torchvision has no such model", known)
    pretrained = models.get_model_weights(name).DEFAULT
    model = _random(models, name) if weights == RANDOM else _load_pretrained(models, name, pretrained)
    origin = "random" if weights == RANDOM else f"torchvision's {pretrained}"
    return LoadedModel(spec, model, _preprocess(pretrained), origin, tuple(pretrained.meta.get("categories", ())))


def _random(models: Any, name: str) -> nn.Module:
    module = models.get_model_builder(name).__module__
    backbone = {"weights_backbone": None} if "detection" in module or "segmentation" in module else {}
    slow = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, **backbone, **slow)  # type: ignore[no-any-return]


def _load_pretrained(models: Any, name: str, pretrained: Any) -> nn.Module:
    try:
        return models.get_model(name, weights=pretrained)  # type: ignore[no-any-return]
    except (OSError, RuntimeError) as error:  # no network, no disk space, a broken file
        file = Path(torch.hub.get_dir()) / "checkpoints" / pretrained.url.rpartition("/")[2]
        raise WeightsNotFoundError(
            f"torchvision:{name}", f"they could not be downloaded ({error})", str(file)
        ) from error


def _preprocess(pretrained: Any) -> Preprocess:
    preset = pretrained.transforms()
    if not hasattr(preset, "crop_size"):  # detection and optical flow: the model preprocesses images itself
        return Preprocess(resize=None, crop=None, mean=(0, 0, 0), std=(1, 1, 1))
    if not hasattr(preset, "resize_size"):
        return Preprocess()
    resize, crop = preset.resize_size, preset.crop_size
    return Preprocess(resize[0], crop[0], tuple(preset.mean), tuple(preset.std), preset.interpolation.value)
