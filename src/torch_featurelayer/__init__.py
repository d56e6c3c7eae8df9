"""See, keep and change what happens inside a PyTorch model.

Example:
    import torch_featurelayer as tl

    tl.get_layer_candidates(model, max_depth=2)
    feat, output = tl.FeatureLayer(model, "features.5")(image)
    feats, output = tl.FeatureLayers(model, ["features.0", "features.6"])(image)
"""

import importlib as _importlib
import typing as _typing

from . import _exceptions
from ._exceptions import *  # noqa: F403
from ._version import __version__ as __version__

if _typing.TYPE_CHECKING:
    from . import analysis, figures, images, models, similarity
    from ._capture import Record, capture
    from ._edit import edit
    from ._feature_layer import FeatureLayer, FeatureLayers
    from ._features import Features
    from ._layers import LayerRow, LayerTable, layers
    from ._layouts import find_layouts
    from ._reduce import Reduction
    from .address import Selector, get_layer_candidates
    from .detection import Objects, objects
    from .diagnosis import (
        DiffRow,
        DiffTable,
        LayerStatistics,
        Statistics,
        diff,
        guard,
        open_statistics,
        record_run,
        statistics,
    )
    from .engine import GradientHandle
    from .extraction import Plan, PlanRow, extract, extract_like, named, plan
    from .generation import Generation, generate
    from .probing import Head, ProbeRow, ProbeTable, head, probe
    from .store import open_store

# Imported on first use, so that the help of the command needs neither torch nor an extra.
_MODULES = ("analysis", "figures", "images", "models", "similarity")
_HOMES = {
    "DiffRow": "diagnosis",
    "DiffTable": "diagnosis",
    "FeatureLayer": "_feature_layer",
    "FeatureLayers": "_feature_layer",
    "Features": "_features",
    "Generation": "generation",
    "GradientHandle": "engine",
    "Head": "probing",
    "LayerRow": "_layers",
    "LayerStatistics": "diagnosis",
    "LayerTable": "_layers",
    "Objects": "detection",
    "Plan": "extraction",
    "PlanRow": "extraction",
    "ProbeRow": "probing",
    "ProbeTable": "probing",
    "Record": "_capture",
    "Reduction": "_reduce",
    "Selector": "address",
    "Statistics": "diagnosis",
    "capture": "_capture",
    "diff": "diagnosis",
    "edit": "_edit",
    "extract": "extraction",
    "extract_like": "extraction",
    "find_layouts": "_layouts",
    "generate": "generation",
    "get_layer_candidates": "address",
    "guard": "diagnosis",
    "head": "probing",
    "layers": "_layers",
    "named": "extraction",
    "objects": "detection",
    "open_statistics": "diagnosis",
    "open_store": "store",
    "plan": "extraction",
    "probe": "probing",
    "record_run": "diagnosis",
    "statistics": "diagnosis",
}

__all__ = [
    *_exceptions.__all__,
    "DiffRow",
    "DiffTable",
    "FeatureLayer",
    "FeatureLayers",
    "Features",
    "Generation",
    "GradientHandle",
    "Head",
    "LayerRow",
    "LayerStatistics",
    "LayerTable",
    "Objects",
    "Plan",
    "PlanRow",
    "ProbeRow",
    "ProbeTable",
    "Record",
    "Reduction",
    "Selector",
    "Statistics",
    "analysis",
    "capture",
    "diff",
    "edit",
    "extract",
    "extract_like",
    "figures",
    "find_layouts",
    "generate",
    "get_layer_candidates",
    "guard",
    "head",
    "images",
    "layers",
    "models",
    "named",
    "objects",
    "open_statistics",
    "open_store",
    "plan",
    "probe",
    "record_run",
    "similarity",
    "statistics",
]


def __getattr__(name: str) -> _typing.Any:
    if name in _MODULES:
        return _importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
