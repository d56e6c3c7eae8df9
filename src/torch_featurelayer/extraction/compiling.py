"""Captures of a copy of the model that run faster: with channels last, or compiled."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from .._feature_layer import FeatureLayers
from . import cache
from .batches import as_arguments
from .modes import is_on_cpu
from .spec import Capture, FeatureSpec, as_function

# Weights are constants: normalisations are folded into convolutions, and weights are laid out for the processor.
_CONSTANT_WEIGHTS: Final = {"freezing": True}


def make_capture(spec: FeatureSpec, inputs: Any) -> Capture:
    """Makes the capture of a mode in which a copy of the model runs; the model itself is not changed.

    Args:
        spec: The specification, with the mode.
        inputs: Inputs of the only shape that the capture is for.

    Raises:
        RuntimeError: If the features of compiled code differ from those of the model by more than rounding.
        Exception: Any other exception, of the model or of the compiler.
    """
    if spec.mode.name == "aot_inductor":
        return _load(spec, inputs) or _compile_ahead(spec, inputs)
    # A copy, because channels last would change the strides of the user's parameters.
    layers = spec.capture(copy.deepcopy(spec.model).to(memory_format=torch.channels_last))
    capture = as_function(layers)
    if spec.mode.name == "compiled":
        layers.compile(dynamic=False, options=_CONSTANT_WEIGHTS if is_on_cpu(spec.model) else None)
        _run(spec, capture, inputs)  # counts calls, and compiles nothing yet
        _compare(spec, capture, inputs)
    return capture


def _load(spec: FeatureSpec, inputs: Any) -> Capture | None:
    """Returns the capture that an earlier process has compiled ahead of time; None if there is none."""
    package = cache.find_package(spec, inputs)
    if package is None:
        return None
    with suppress(Exception):  # the file may be broken in any way; it is then written again
        return _open(package, inputs)
    return None


def _compile_ahead(spec: FeatureSpec, inputs: Any) -> Capture:
    """Compiles a capture to a file, and keeps the file for later processes.

    Raises:
        RuntimeError: If the model has hooks of the user, or the compiled features differ.
    """
    from torch._inductor import aoti_compile_and_package

    if any(module._forward_hooks or module._forward_pre_hooks for module in spec.model.modules()):
        raise RuntimeError("hooks of the model would run once, while it is compiled, and not with each batch")
    args, kwargs = as_arguments(inputs)
    model = copy.deepcopy(spec.model).to(memory_format=torch.channels_last)
    # The compiler fuses a clone, and cannot trace a lazy one. The first run finds layouts and counts calls.
    module = _Features(spec.capture(model, clone=True))
    _run(spec, module, inputs)
    with tempfile.TemporaryDirectory() as folder, spec.computing():
        program = torch.export.export(module, args, kwargs, strict=False)
        path = Path(folder, "capture.pt2")
        aoti_compile_and_package(program, package_path=str(path), inductor_configs=_CONSTANT_WEIGHTS)
        capture = _open(path, inputs)
        _compare(spec, capture, inputs)
        cache.keep_package(path, spec, inputs)
    return capture


def _open(package: Path, inputs: Any) -> Capture:
    """Loads a compiled capture."""
    from torch._inductor import aoti_load_package

    loaded = aoti_load_package(str(package))
    positional, named = as_arguments(inputs)

    # Compiled code reads memory as it was laid out in the example, and does not check.
    def capture(*args: Any, **kwargs: Any) -> Mapping[str, Any]:
        given = map(_like, args, positional)
        return loaded(*given, **{name: _like(value, named[name]) for name, value in kwargs.items()})  # type: ignore[no-any-return]

    return capture


class _Features(nn.Module):
    """A capture as a module, for `torch.export`."""

    def __init__(self, layers: FeatureLayers) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Returns the features by layer."""
        return self.layers.features(*args, **kwargs).to_dict()


def _like(value: Any, example: Any) -> Any:
    """Returns an input with the strides of an example; what is not a tensor as it is.

    Raises:
        ValueError: If the input is not that of the example in shape and dtype.
    """
    if not isinstance(value, Tensor):
        return value
    if value.shape != example.shape or value.dtype != example.dtype:
        expected, given = ((list(part.shape), part.dtype) for part in (example, value))
        raise ValueError(f"the model was compiled for an input of {expected}, not {given}")
    if value.stride() == example.stride():
        return value
    return torch.empty_strided(example.shape, example.stride(), dtype=example.dtype).copy_(value)


def _run(spec: FeatureSpec, capture: Capture, inputs: Any) -> Mapping[str, Any]:
    args, kwargs = as_arguments(inputs)
    with spec.computing():
        return capture(*args, **kwargs)


def _compare(spec: FeatureSpec, capture: Capture, inputs: Any) -> None:
    """Compares the features of compiled code with those of the model.

    Raises:
        RuntimeError: If they differ by more than rounding.
    """
    found = _run(spec, capture, inputs)
    for name, expected in _run(spec, as_function(spec.capture(spec.model)), inputs).items():
        error, most = relative_error(found[name], expected), _rounding(expected)
        if not error <= most:
            raise RuntimeError(f"the compiled feature {name!r} differs from the model's: relative error {error:.1e}")


def _rounding(feature: Tensor) -> float:
    """Returns the relative error that rounding explains: .001 for float32, .3 for bfloat16."""
    dtype = feature.dtype if feature.is_floating_point() else torch.float32
    return float(3 * torch.finfo(dtype).eps ** 0.5)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Returns the norm of the difference by the norm; infinity if other values are not finite."""
    one, other = (value.double().nan_to_num(0.0, 0.0, 0.0) for value in (found, expected))
    if not torch.equal(found.isfinite(), expected.isfinite()):
        return float("inf")
    return float((one - other).norm() / other.norm().clamp_min(1e-300))
