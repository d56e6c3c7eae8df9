"""The outputs of all layers in one forward pass, in the order of execution, in memory or in a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from .._exceptions import StoreCorruptError, TransformError
from .._feature_layer import FeatureLayers
from .._optional import need
from .._pytree import substitute, tensors
from ..address import Selector, has_forward, locate, plain_paths, resolve
from ..engine import (
    Scope,
    force_eager,
    has_compiled_code,
    in_function_transform,
    is_transformed,
    lazy_copy,
    register,
)

EVERYTHING: Final = "**"
_SEED: Final = 0
_FORMAT: Final = "torch_featurelayer run 1"


@dataclass(eq=False)
class LayerCall:
    """One call of a layer.

    Attributes:
        name: The path of the layer; `""` for the model.
        call: The zero-based number of the call.
        type: The name of its class.
        is_leaf: Whether it has no layers inside, or parameters of its own.
        outputs: The tensors in its output, detached copies; none after `release`.
    """

    name: str
    call: int
    type: str
    is_leaf: bool
    outputs: tuple[Tensor, ...]

    def release(self) -> None:
        """Frees the memory of the outputs."""
        self.outputs = ()


Visit: TypeAlias = Callable[[LayerCall], None]


@dataclass
class Run:
    """A forward pass.

    Attributes:
        calls: The calls of layers in the order in which they ended.
        inputs: The arguments: positional ones under `"0"`, `"1"`, ..., and keyword arguments by name.
        notes: What a reader of a comparison must know.
        is_training: Whether the model was in training mode.
    """

    calls: list[LayerCall] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_training: bool = False


def run_layers(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    visit: Visit | None = None,
) -> Run:
    """Runs a model once, with fixed seeds and without gradients, and returns the outputs of its layers.

    The generators of random numbers and the buffers of the model are restored afterwards.

    Args:
        model: The model.
        layers: The modules.
        args: The positional arguments of the model.
        kwargs: The keyword arguments of the model.
        visit: A function that is called with each call of a layer when it ends. Default: None. It is not called for a
            compiled model.
    """
    run = Run(inputs={**{str(place): value for place, value in enumerate(args)}, **kwargs}, is_training=model.training)
    args, kwargs = _for_model(model, run, args, kwargs)
    with torch.no_grad(), _restored(model):
        if "_orig_mod" in model._modules:
            run.notes.append("a compiled model was compiled again, with default options, to return its layers")
            run.calls = _compiled_calls(model.get_submodule("_orig_mod"), layers, args, kwargs, run.notes)
        else:
            run.calls = _calls(model, layers, args, kwargs, run.notes, visit)
    return run


def _calls(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    notes: list[str],
    visit: Visit | None = None,
) -> list[LayerCall]:
    found: list[LayerCall] = []
    counts: Counter[str] = Counter()
    scope = Scope()
    modules = _modules(model, layers)

    def keep(name: str, module: nn.Module, output: Any) -> None:
        if not scope.is_current():
            return
        if in_function_transform() and is_transformed(output, scope.level):
            if layers != EVERYTHING:
                raise TransformError(name)
            notes.append(f"{name!r} was left out: it runs in torch.func.vmap, grad or another transform")
        elif kept := _copies(output):
            call = LayerCall(name, counts[name], type(module).__name__, _is_leaf(module), kept)
            counts[name] += 1
            found.append(call)
            if visit is not None:
                visit(call)

    with scope.enter(), ExitStack() as stack:
        if has_compiled_code(modules.values()):
            stack.enter_context(force_eager("compared"))
        for name, module in modules.items():
            register(
                module.register_forward_hook, lambda module, _, output, name=name: keep(name, module, output), stack
            )
        model(*args, **kwargs)
    return found


def _compiled_calls(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    notes: list[str],
) -> list[LayerCall]:
    """Returns the last call of each layer of compiled code, in the order of an eager forward pass."""
    eager = [call for call in _calls(model, layers, args, kwargs, notes) if call.name]
    last = {call.name: call for call in eager}
    wrapper = FeatureLayers(model, list(last))
    wrapper.compile()
    feats, output = wrapper(*args, **kwargs)
    calls = [
        LayerCall(call.name, call.call, call.type, call.is_leaf, _copies(feats[call.name]))
        for call in eager
        if call is last[call.name]
    ]
    whole = LayerCall("", 0, type(model).__name__, False, _copies(output))
    return [*calls, whole] if layers == EVERYTHING and whole.outputs else calls


def _modules(model: nn.Module, layers: Selector | Iterable[Selector]) -> dict[str, nn.Module]:
    """Returns the modules to compare by their path without wrappers; the model itself is the last.

    Raises:
        ValueError: If a request names something other than the output of a module.
    """
    is_everything = layers == EVERYTHING
    requests = resolve(model, layers) if any(map(has_forward, model.children())) or not is_everything else ()
    for request in requests:
        address = request.address
        if address.operation or address.port != "output" or address.index or address.call is not None:
            raise ValueError(
                f"{request.name!r}: outputs of modules are compared; name a module, such as {address.path!r}"
            )
    located, names = locate(model, requests), plain_paths(model)
    paths = [each.address.path for each in requests]
    found = {names.get(path, path): located[path] for path in paths}
    return {**found, "": model} if is_everything else found


def _is_leaf(module: nn.Module) -> bool:
    return not module._modules or any(each is not None for each in module._parameters.values())


def _copies(output: Any) -> tuple[Tensor, ...]:
    return tuple(lazy_copy(each.detach()) for each in tensors(output))


def _for_model(
    model: nn.Module, run: Run, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copies arguments, because a model may write to them, to the device and the dtype of the model."""
    own = next((each for each in model.parameters() if each.is_floating_point()), None)

    def convert(tensor: Tensor) -> Tensor:
        copy = tensor.detach().clone()
        if own is None:
            return copy
        if copy.is_floating_point() and copy.dtype != own.dtype:
            run.notes.append(f"an argument of {_short(copy.dtype)} was converted to {_short(own.dtype)}")
            copy = copy.to(own.dtype)
        return copy.to(own.device)

    return substitute((args, dict(kwargs)), convert)  # type: ignore[no-any-return]


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Fixes the seeds, and restores the generators of random numbers and, in training mode, the buffers."""
    devices = sorted({each.device.index or 0 for each in model.parameters() if each.is_cuda})
    before = (
        [(each, each.clone()) for each in model.buffers()] if any(each.training for each in model.modules()) else []
    )
    with torch.random.fork_rng(devices):
        torch.manual_seed(_SEED)
        try:
            yield
        finally:
            for buffer, value in before:
                buffer.copy_(value)


def save_run(path: str | PathLike[str], run: Run) -> None:
    """Writes a run and its tensor arguments to a safetensors file."""
    content = {
        f"{number}.{part}": output for number, call in enumerate(run.calls) for part, output in enumerate(call.outputs)
    }
    content |= {f"@{name}": value for name, value in run.inputs.items() if isinstance(value, Tensor)}
    plain = {
        key: (value.dequantize() if value.is_quantized else value).cpu().contiguous().clone()
        for key, value in content.items()
    }
    rows = [[call.name, call.call, call.type, call.is_leaf, len(call.outputs)] for call in run.calls]
    about = {"rows": rows, "is_training": run.is_training, "notes": run.notes}
    torch_files = need("safetensors.torch", "store")
    torch_files.save_file(plain, fspath(path), {"format": _FORMAT, "run": json.dumps(about)})


def load_run(path: str | PathLike[str]) -> Run:
    """Reads a run that `save_run` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        StoreCorruptError: If the file is not a run.
    """
    errors = need("safetensors", "store").SafetensorError
    try:
        with need("safetensors", "store").safe_open(fspath(path), "pt") as file:
            about = file.metadata() or {}
            if about.get("format") != _FORMAT:
                raise StoreCorruptError(fspath(path), "it is not a run that tl.record_run wrote")
            content = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        return _to_run(json.loads(about["run"]), content)
    except (errors, KeyError, ValueError, TypeError) as error:
        raise StoreCorruptError(fspath(path), f"it is not a run that tl.record_run wrote ({error})") from error


def _to_run(about: Mapping[str, Any], content: Mapping[str, Tensor]) -> Run:
    calls = [
        LayerCall(name, call, kind, is_leaf, tuple(content[f"{number}.{part}"] for part in range(parts)))
        for number, (name, call, kind, is_leaf, parts) in enumerate(about["rows"])
    ]
    inputs = {key[1:]: value for key, value in content.items() if key.startswith("@")}
    return Run(calls, inputs, list(about["notes"]), bool(about["is_training"]))


def split_inputs(inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the positional and the keyword arguments of a run."""
    positional = tuple(inputs[str(place)] for place in range(len(inputs)) if str(place) in inputs)
    return positional, {name: value for name, value in inputs.items() if not name.isdigit()}


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
