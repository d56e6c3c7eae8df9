"""Weights from a file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from .._exceptions import WeightsMismatchError, WeightsNotFoundError
from .._optional import need
from .loaded_model import LoadedModel

DEFAULT: Final = "default"
RANDOM: Final = "random"

_INSIDE: Final = ("state_dict", "model", "model_state_dict")  # keys under which training scripts save it


def load_file(loaded: LoadedModel, file: str | PathLike[str]) -> LoadedModel:
    """Loads a state dict into a model: every parameter and buffer, and nothing else.

    Raises:
        WeightsNotFoundError: If the file does not exist or is not a state dict.
        WeightsMismatchError: If the state dict does not fit the model.
    """
    state = _read(loaded.name, Path(fspath(file)))
    own = loaded.model.state_dict()
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    missing, unexpected = [name for name in own if name not in state], [name for name in state if name not in own]
    if missing or unexpected or shapes:
        raise WeightsMismatchError(fspath(file), missing, unexpected, shapes)
    loaded.model.load_state_dict(state)
    return replace(loaded, weights=f"from {fspath(file)}")


def _read(spec: str, file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise WeightsNotFoundError(spec, f"the file {str(file)!r} does not exist")
    try:
        read = _safetensors(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsNotFoundError(spec, f"{str(file)!r} is not a state dict: {reason}") from error
    for name in _INSIDE:
        if isinstance(read, Mapping) and isinstance(read.get(name), Mapping):
            read = read[name]
    if not isinstance(read, Mapping) or not all(isinstance(value, Tensor) for value in read.values()):
        raise WeightsNotFoundError(spec, f"{str(file)!r} is not a state dict but a {type(read).__name__}")
    # Checkpoints of DataParallel have this prefix.
    return {name.removeprefix("module."): value for name, value in read.items()}


def _safetensors(file: Path) -> Any:
    library = need("safetensors.torch", "models")
    error = need("safetensors", "models").SafetensorError
    try:
        return library.load_file(file)
    except error as problem:
        raise ValueError(str(problem)) from problem
