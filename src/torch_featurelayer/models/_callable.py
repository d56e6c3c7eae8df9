"""Models that a function of the user returns."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from torch import nn

from .._exceptions import ModelNotFoundError
from .loaded_model import LoadedModel
from .preprocess import Preprocess


def load(module: str, name: str, _weights: str) -> LoadedModel:
    """Imports `module`, also from the working directory, and calls `name`."""
    spec = f"{module}:{name}"
    function = _found(spec, module, name)
    try:
        model = function()  # type: ignore[operator]
    except TypeError as error:
        raise ModelNotFoundError(spec, f"it must be callable without arguments ({error})") from error
    if isinstance(model, LoadedModel):
        return model
    if not isinstance(model, nn.Module):
        raise ModelNotFoundError(spec, f"it returned a {type(model).__name__}, not an nn.Module")
    return LoadedModel(spec, model, Preprocess(), f"those that {spec} returns")


def _found(spec: str, module: str, name: str) -> object:
    here = str(Path.cwd())
    # The command is run from the folder of the user's code, which `python -m` would find too.
    sys.path.insert(0, here)
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        raise ModelNotFoundError(spec, f"no module {error.name!r}", ["torchvision:", "timm:", "hf:"]) from error
    finally:
        sys.path.remove(here)
    if not hasattr(imported, name):
        raise ModelNotFoundError(spec, f"{module} has no {name!r}", [f"{module}:{known}" for known in dir(imported)])
    return getattr(imported, name)
