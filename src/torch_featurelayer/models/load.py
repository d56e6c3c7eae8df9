"""`load`: from a name such as `torchvision:vgg11` or `timm:vit_tiny_patch16_224` to a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from os import PathLike, fspath
from typing import Any, Final, TypeAlias

import torch
from torch import nn

from .._exceptions import DeviceError, MissingExtraError, ModelNotFoundError
from .._optional import need
from . import _bundled, _callable, _hf, _timm, _torchvision
from .loaded_model import LoadedModel
from .quantize import Quantization, is_of_transformers, quantize
from .weights import DEFAULT, RANDOM, load_file

Source: TypeAlias = Callable[..., LoadedModel]
DeviceMap: TypeAlias = str | Mapping[str, int | str | torch.device]

_SOURCES: Final[Mapping[str, Source]] = {"torchvision": _torchvision.load, "timm": _timm.load, "hf": _hf.load}


def load(
    spec: str,
    *,
    weights: str | PathLike[str] = DEFAULT,
    device: torch.device | str | None = None,
    device_map: DeviceMap | None = None,
    dtype: torch.dtype | None = None,
    quantization: Quantization | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Loads a model with its preprocessing, labels and stages.

    Note:
        `"package.module:callable"` imports the module and calls the function: use it only with code that you trust.

    Args:
        spec: The name of the model: `"torchvision:NAME"`; `"timm:NAME"`; `"hf:FOLDER"` or `"hf:ID"` (a local folder, or
            an id that is cached or can be downloaded); `"package.module:callable"`; or `"efficientnet-lite0"`, the
            small ImageNet network of the extra `demo`.
        weights: `"default"` (default) for the weights that the library of the model provides, from its cache or
            downloaded; `"random"` for random weights; or the path of a state dict, a `.safetensors` file or a file that
            `torch.load` reads with `weights_only=True`. A state dict must fit the model exactly.
        device: The device of the model. Default: None, the CPU.
        device_map: The devices of parts of a model of transformers, as `from_pretrained` takes them: `"auto"`, or a
            dict from the name of a module to a device, `"cpu"` or `"disk"`. Weights that are offloaded are loaded for
            each call. Default: None, one device.
        dtype: The dtype of the weights. Default: None, that of the checkpoint or float32.
        quantization: The quantization of the linear layers: `"int8"` or `"int4"` or a configuration of torchao, which
            keep weights as integers; or a configuration of transformers, for `hf:` models. Default: None, that of the
            checkpoint.
        seed: The seed of random weights. The random generators of the process are not changed. Default: 0.

    Returns:
        The model in eval mode, with its preprocessing, labels and stages.

    Raises:
        ModelNotFoundError: If no model has this name.
        WeightsNotFoundError: If the weights are not on this machine and cannot be downloaded. Random weights are never
            used instead.
        WeightsMismatchError: If the state dict does not fit the model.
        MissingExtraError: If the library of the model is not installed.
        DeviceError: If the device is not available.
        ValueError: If `device_map` is given for a model of another library than transformers, or `quantization` is not
            one of the values above.

    Examples:
        >>> vgg = load("torchvision:vgg11", weights="random")
        >>> vgg.stages
        ('features.1', 'features.4', 'features.9', 'features.14', 'features.19', 'features.20')
    """
    kind, _, name = spec.partition(":")
    # For weights from a file, the model is built without downloading others.
    choice = str(weights) if weights in (DEFAULT, RANDOM) else RANDOM
    options = _hf_options(spec, device_map, dtype, quantization)
    # Building a model draws random weights; the generators of the process must not change.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loaded = _source(spec)(name or kind, choice, **options)
    if weights not in (DEFAULT, RANDOM):
        loaded = load_file(loaded, weights)
    loaded.model.eval()
    if dtype is not None:
        loaded.model.to(dtype)
    if quantization is not None and "quantization_config" not in options:
        quantize(loaded.model, quantization)
    if device is not None:
        _move(loaded.model, device)
    given = {
        "weights": (choice if weights in (DEFAULT, RANDOM) else fspath(weights), DEFAULT),
        "device_map": (device_map, None),
        "dtype": (dtype, None),
        "quantization": (quantization, None),
        "seed": (seed, 0),
    }
    return replace(loaded, arguments={name: value for name, (value, default) in given.items() if value != default})


def _hf_options(
    spec: str, device_map: DeviceMap | None, dtype: torch.dtype | None, quantization: Quantization | None
) -> dict[str, Any]:
    """Returns the options of `from_pretrained`; none for models of other libraries.

    Raises:
        ValueError: If an option is for models of transformers and the model is none.
    """
    options = {"device_map": device_map, "dtype": dtype} if spec.startswith("hf:") else {}
    if device_map is not None and not options:
        raise ValueError(f"device_map= is for models of transformers (hf:...), not for {spec!r}: use device=")
    if is_of_transformers(quantization):
        if not options:
            raise ValueError(f"this configuration is for models of transformers (hf:...), not for {spec!r}")
        options["quantization_config"] = quantization
    return {name: value for name, value in options.items() if value is not None}


def _move(model: nn.Module, device: torch.device | str | None) -> None:
    """Moves a model to a device, with an error of one line if the device is not available."""
    try:
        model.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(str(device), str(error).splitlines()[0]) from error


def _qualified_names(name: str) -> list[str]:
    """Returns the names, with their library, of models of this name; the prefixes if there are none."""
    with suppress(MissingExtraError):
        if name in need("torchvision.models", "images").list_models():
            return [f"torchvision:{name}"]
    with suppress(MissingExtraError):
        if need("timm", "models").is_model(name):
            return [f"timm:{name}"]
    return [_bundled.NAME, *(f"{library}:" for library in _SOURCES)]


def _source(spec: str) -> Source:
    kind, colon, name = spec.partition(":")
    if spec == _bundled.NAME:
        return _bundled.load
    if not colon or not name:
        raise ModelNotFoundError(spec, "the name has no library", _qualified_names(spec))
    if kind in _SOURCES:
        return _SOURCES[kind]
    return lambda name, weights: _callable.load(kind, name, weights)
