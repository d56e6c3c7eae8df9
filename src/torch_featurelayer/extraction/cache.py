"""The cache folder: modes that were measured on this machine, and captures that were compiled on it."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from .._version import __version__
from ..store.folder import replacing
from .batches import count_rows, signature
from .code import package_versions
from .identity import UnidentifiedError, digest, model_digests
from .modes import Mode
from .spec import FeatureSpec

_MOST_MODES: Final = 200
_MOST_BYTES: Final = 2 * 2**30  # of compiled captures, which contain the weights


def find_mode(spec: FeatureSpec) -> Mode | None:
    """Returns the mode that was the fastest on this machine for a model and inputs of these shapes; None if unknown."""
    known = _modes().get(_mode_key(spec))
    return None if known is None else Mode.parse(known)


def keep_mode(spec: FeatureSpec, mode: Mode) -> None:
    """Remembers a mode; where no file can be written, it is measured again."""
    kept = {**_modes(), _mode_key(spec): str(mode)}
    latest = dict(list(kept.items())[-_MOST_MODES:])
    with suppress(OSError, RuntimeError), replacing(_modes_file()) as file:
        file.write_text(json.dumps(latest))


def find_package(spec: FeatureSpec, inputs: Any) -> Path | None:
    """Returns the file of the capture that was compiled for a model and inputs; None if there is none."""
    with suppress(OSError, RuntimeError, UnidentifiedError):
        file = _package_file(spec, inputs)
        os.utime(file)  # the time of its last use
        return file
    return None


def keep_package(path: Path, spec: FeatureSpec, inputs: Any) -> None:
    """Keeps a compiled capture, unless something in the model has no digest; then it is compiled again each time.

    The files that were used least recently are removed once all of them are too large.
    """
    with suppress(OSError, RuntimeError, UnidentifiedError):
        kept = _package_file(spec, inputs)
        with replacing(kept) as file:
            shutil.copyfile(path, file)
        _remove_oldest(kept.parent)


def _mode_key(spec: FeatureSpec) -> str:
    """Returns a key of what the times of modes depend on: the machine, PyTorch, and the shapes of the model."""
    shapes = [(name, tuple(value.shape), str(value.dtype)) for name, value in spec.model.state_dict().items()]
    classes = [(name, type(module).__qualname__) for name, module in spec.model.named_modules()]
    request = (
        spec.layers,
        str(spec.precision),
        str(spec.autocast),
        count_rows(spec.example),
        str(signature(spec.example)),
    )
    return digest(_machine(spec), shapes, classes, request)


def _package_file(spec: FeatureSpec, inputs: Any) -> Path:
    """Returns the file for what a compiled capture depends on, the weights and the code of the model among it.

    Raises:
        UnidentifiedError: If something in the model or in a reduction has no digest.
    """
    packages: set[str] = set()
    model = model_digests(spec.model, packages, strict=True)
    reduce = digest(spec.reduce, packages=packages)
    named = {"": inputs} if isinstance(inputs, Tensor) else inputs
    layouts = [(name, *_layout(value)) for name, value in named.items()]
    versions = package_versions(packages), __version__, platform.python_version()
    request = spec.layers, reduce, spec.layout, str(spec.precision), str(spec.autocast), layouts
    key = digest(_machine(spec), versions, model, request)
    return _folder() / "compiled" / f"{key}.pt2"


def _layout(value: Any) -> tuple[Any, ...]:
    return (value.shape, value.stride(), value.dtype) if isinstance(value, Tensor) else (value,)


def _machine(spec: FeatureSpec) -> tuple[Any, ...]:
    """Returns what identifies the machine to compiled code."""
    processor = platform.node(), platform.machine(), torch.backends.cpu.get_cpu_capability(), os.cpu_count()
    return *processor, str(spec.device), torch.get_num_threads(), torch.__version__


def _remove_oldest(folder: Path) -> None:
    """Removes the files that were used least recently, until the others are small enough together."""
    total = 0
    for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True):
        total += file.stat().st_size
        if total > _MOST_BYTES:
            file.unlink()


def _folder() -> Path:
    """Returns `FEATURELAYER_CACHE`, or the folder of this package in the cache folder of the user."""
    folder = os.environ.get("FEATURELAYER_CACHE")
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder or Path(root, "torch_featurelayer"))


def _modes_file() -> Path:
    return _folder() / "modes.json"


def _modes() -> Mapping[str, str]:
    """Returns the modes that were measured on this machine by key; none if they cannot be read."""
    with suppress(OSError, ValueError, RuntimeError):
        found = json.loads(_modes_file().read_text())
        return found if isinstance(found, dict) else {}
    return {}
