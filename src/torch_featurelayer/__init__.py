"""See, keep and change what happens inside a PyTorch model.

Example:
    import torch_featurelayer as tl

    tl.get_layer_candidates(model, max_depth=2)
    feat, output = tl.FeatureLayer(model, "features.5")(image)
    feats, output = tl.FeatureLayers(model, ["features.0", "features.6"])(image)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _errors
from ._errors import *  # noqa: F403
from .address import get_layer_candidates
from .capture import Record, capture
from .edit import edit
from .features import FeatureLayer, FeatureLayers, Features
from .table import LayerRow, LayerTable, layers

if TYPE_CHECKING:
    from . import figures, images

__version__ = "0.2.0"

_LAZY = ("figures", "images")

__all__ = [
    *_errors.__all__,
    "FeatureLayer",
    "FeatureLayers",
    "Features",
    "LayerRow",
    "LayerTable",
    "Record",
    "capture",
    "edit",
    "figures",
    "get_layer_candidates",
    "images",
    "layers",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
