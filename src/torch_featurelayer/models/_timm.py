"""Models of timm."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from .._exceptions import ModelNotFoundError, WeightsNotFoundError
from .._optional import need
from .loaded_model import LoadedModel
from .preprocess import Preprocess
from .weights import RANDOM


def load(name: str, weights: str) -> LoadedModel:
    """Builds `timm:NAME`."""
    timm, spec = need("timm", "models"), f"timm:{name}"
    if not timm.is_model(name):
        raise ModelNotFoundError(spec, "timm has no such model", [f"timm:{known}" for known in timm.list_models()])
    model = timm.create_model(name, pretrained=False) if weights == RANDOM else _load_pretrained(timm, name)
    tag = timm.get_pretrained_cfg(name).tag or "default"
    origin = "random" if weights == RANDOM else f"timm's {tag}"
    return LoadedModel(spec, model, _preprocess(model), origin, _labels(model), _stages(model))


def _load_pretrained(timm: Any, name: str) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True)  # type: ignore[no-any-return]
    except (OSError, RuntimeError, ValueError) as error:  # no network, no published weights, a broken file
        repository = timm.get_pretrained_cfg(name).hf_hub_id
        where = f" from {repository}" if repository else ""
        reason = str(error).splitlines()[0]
        raise WeightsNotFoundError(f"timm:{name}", f"they could not be downloaded{where} ({reason})") from error


def _preprocess(model: nn.Module) -> Preprocess:
    """Returns the preprocessing of timm's evaluation for square images."""
    config = need("timm.data", "models").resolve_model_data_config(model)
    side = config["input_size"][-1]
    resize = math.floor(side / config["crop_pct"])
    return Preprocess(resize, side, tuple(config["mean"]), tuple(config["std"]), config["interpolation"])


def _labels(model: nn.Module) -> tuple[str, ...]:
    data = need("timm.data", "models")
    subset = data.infer_imagenet_subset(model)
    if subset is None:
        return ()
    info = data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index).split(",")[0] for index in range(info.num_classes()))


def _stages(model: nn.Module) -> tuple[str, ...]:
    """Returns timm's names of the stages, if each of them is a layer."""
    named, modules = getattr(model, "feature_info", []), dict(model.named_modules())
    paths = [info["module"] for info in named] if isinstance(named, list) else []
    return tuple(paths) if 2 < len(paths) <= 6 and all(path in modules for path in paths) else ()
