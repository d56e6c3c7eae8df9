"""Paths without the names that wrappers insert: `module.layer1` of a `DataParallel` is also `layer1`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import nn

# By the name of the class, so that none of their modules is imported for it.
_WRAPPERS: Final = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
    "ActivationWrapper": "_checkpoint_wrapped_module",
    "PeftModel": "base_model",
    "BaseTuner": "model",
}
_NAMES: Final = frozenset(_WRAPPERS.values()) - {"model"}


def aliases(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Returns the paths that contain a name of a wrapper, by the path without it."""
    found: dict[str, str] = {}
    # Parents come before children in `named_modules`, so the plain path of a parent is known.
    plain = {"": ""}
    for path, module in modules.items():
        if path:
            parent, _, name = path.rpartition(".")
            if parent not in plain:  # a name with a dot in it
                parent, name = "", path
            above = plain[parent]
            plain[path] = above if _is_wrapped(modules[parent], name) else f"{above}.{name}".removeprefix(".")
        if plain[path] != path and plain[path] and not _is_wrapper(module):
            found[plain[path]] = path
    return found


def plain_paths(model: nn.Module) -> dict[str, str]:
    """Returns the path of each module without the names of wrappers, by its path."""
    modules = dict(model.named_modules())
    return {**{path: path for path in modules}, **{path: plain for plain, path in aliases(modules).items()}}


def without_wrappers(path: str) -> str:
    """Returns a path without the names that wrappers insert."""
    return ".".join(name for name in path.split(".") if name not in _NAMES)


def _is_wrapped(parent: nn.Module, name: str) -> bool:
    return any(_WRAPPERS.get(kind.__name__) == name for kind in type(parent).__mro__)


def _is_wrapper(module: nn.Module) -> bool:
    return any(
        _WRAPPERS.get(kind.__name__) in module._modules for kind in type(module).__mro__ if kind is not nn.Module
    )
