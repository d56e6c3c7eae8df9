"""From a name to a model: `torchvision:vgg11`, `timm:vit_tiny_patch16_224`, `hf:FOLDER`, `package.module:callable`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike, fspath
from typing import Final, TypeAlias

import torch

from .._exceptions import ModelNotFoundError
from . import _bundled, _callable, _hf, _timm, _torchvision
from .loaded import LoadedModel
from .weights import DEFAULT, RANDOM, load_file

Source: TypeAlias = Callable[[str, str], LoadedModel]

_SOURCES: Final[Mapping[str, Source]] = {"torchvision": _torchvision.load, "timm": _timm.load, "hf": _hf.load}


def load(
    spec: str,
    *,
    weights: str | PathLike[str] = DEFAULT,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Loads a model with its own preprocessing, labels and stages.

    Args:
        spec: `"torchvision:NAME"`; `"timm:NAME"`; `"hf:FOLDER"` or `"hf:ID"` (a local folder, or what is
            cached or can be fetched); `"package.module:callable"`, which is **imported and called**; or
            `"efficientnet-lite0"`, the small ImageNet network of the extra `demo`.
        weights: `"default"`: those its library names, from its cache or fetched; for a callable what it
            returns. `"random"`: none. Else the file of a state dict, `.safetensors` or what `torch.load`
            reads with `weights_only=True`; it must fit exactly.
        device: Where the model goes.
        seed: Of random weights; the generators of the process are left as they are.

    Returns:
        The model in eval mode, and what belongs to it.

    Raises:
        ModelNotFoundError: No model has that name.
        WeightsNotFoundError: The weights are not here and could not be fetched. Random ones are never taken instead.
        WeightsMismatchError: The file holds another model's weights.
        MissingExtraError: The library is not installed.

    Examples:
        >>> vgg = load("torchvision:vgg11", weights="random")
        >>> vgg.stages
        ('features.1', 'features.4', 'features.9', 'features.14', 'features.19', 'features.20')
    """
    kind, _, name = spec.partition(":")
    choice = weights if weights in (DEFAULT, RANDOM) else RANDOM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = _source(spec)(name or kind, str(choice))
    if weights not in (DEFAULT, RANDOM):
        loaded = load_file(loaded, weights)
    loaded.model.eval().to(device)
    given = {"weights": (weights if weights in (DEFAULT, RANDOM) else fspath(weights), DEFAULT), "seed": (seed, 0)}
    return replace(loaded, arguments={name: value for name, (value, default) in given.items() if value != default})


def _source(spec: str) -> Source:
    kind, colon, name = spec.partition(":")
    if spec == _bundled.NAME:
        return _bundled.load
    if not colon or not name:
        raise ModelNotFoundError(spec, "it names no library", [_bundled.NAME, *(f"{kind}:" for kind in _SOURCES)])
    if kind in _SOURCES:
        return _SOURCES[kind]
    return lambda name, weights: _callable.load(kind, name, weights)
