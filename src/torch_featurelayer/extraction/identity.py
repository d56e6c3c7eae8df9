"""Digests that identify models, functions and samples.

Code of the user is identified by its bytecode, its defaults and the values that it refers to. Code of installed
packages is identified by its name and by the version of the package, which the metadata of a store record.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import hashlib
import json
import re
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import chain
from operator import itemgetter
from pathlib import PurePath
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_modules

from .._sharded import original_type, whole_tensor
from .code import (
    class_members,
    code_parts,
    graph_parts,
    is_installed,
    references,
    replaced_functions,
    script_function_parts,
    script_parts,
    wrapped_functions,
)

_PLAIN: Final = (type(None), type(...), bool, int, float, complex, str)
_PRINTED: Final = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, PurePath, slice, range)
# Of transformers, which leaves hooks at the first call with `output_hidden_states=True`: they change no feature.
_CAPTURING: Final = "transformers.utils.output_capturing"
_CAPTURES: Final = "_output_capturing_hooks_installed"
_OWN_STATE: Final = frozenset([*vars(nn.Module()), _CAPTURES])  # of any module: parameters, hooks, its mode
# Where accelerate keeps weights, the forward that loads them, and methods that refuse to move the model: they do not
# change the features.
_OF_ACCELERATE: Final = frozenset(
    ["_hf_hook", "_old_forward", "forward", "hf_device_map", "to", "cuda", "npu", "xpu", "mlu", "musa", "sdaa"]
)
# Marks of FSDP and of tensor parallelism, in PyTorch and in transformers.
_OF_SHARDING: Final = frozenset(
    [
        *("_fsdp_use_orig_params", "_is_fsdp_managed_module", "_distribute_module_applied"),
        *("_fsdp_size", "_tp_size", "_is_hooked", "_is_distributed_loading_by_transformers"),
    ]
)
_DISTRIBUTED: Final = (
    *("torch.distributed.", "torch._C._distributed"),
    *("transformers.distributed.", "transformers.integrations.tensor_parallel"),
)
# Attributes that a module computes in its first call.
_COMPUTED: Final = {"MultiScaleRoIAlign": frozenset(["scales", "map_levels"])}
# Of objects of transformers: a hash, since hashes of strings differ between processes, and how weights are sharded.
_NOT_COMPUTING: Final = frozenset(["_original_object_hash", "distributed_config"])


class UnidentifiedError(TypeError):
    """A value that has no digest, such as an open file."""


class NamedFunction:
    """A function that is identified by a name, not by its code.

    Args:
        name: The name.
        function: The function.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"named({self.name!r})"


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Names a function, so that a store identifies it by the name.

    `extract` identifies a function by its code, its defaults and the values it refers to. A function that refers to
    values without a digest, such as an open file, needs a name; so does a function that changes those values. Change
    the name whenever the function computes other values.

    Args:
        name: The name that the store records, such as `"crop-224"`.
        function: The function, for `preprocess` or `reduce`.

    Returns:
        A function that calls `function`.

    Examples:
        >>> reduce = named("mean of squares", lambda feat: feat.square().flatten(1).mean(1))
        >>> reduce(torch.tensor([[1.0, 3.0]])), reduce
        (tensor([5.]), named('mean of squares'))
    """
    return NamedFunction(name, function)


def digest(*values: Any, packages: set[str] | None = None, strict: bool = True) -> str:
    """Returns the digest of values: 32 hexadecimal digits.

    Args:
        values: The values.
        packages: A set to which the names of the packages are added whose code the values use. Default: None.
        strict: Whether a value without a digest is an error; otherwise its type identifies it. Default: True.

    Raises:
        UnidentifiedError: If `strict` is set and a value has no digest.
    """
    walk = _Walk(set() if packages is None else packages, strict)
    walk.add(list(values))
    return walk.hash.hexdigest()


def model_digests(model: nn.Module, packages: set[str], *, strict: bool = False) -> dict[str, str]:
    """Returns the digests of a model: of its weights, its code, and its other attributes.

    Args:
        model: The model.
        packages: A set to which the names of the packages are added whose code the model uses.
        strict: Whether a value without a digest is an error, as in `digest`. Default: False.

    Raises:
        UnidentifiedError: If `strict` is set and a value has no digest.
    """
    modules = list(model.named_modules(remove_duplicate=False))
    code: list[Any] = [(name, original_type(module), _hooks(module)) for name, module in modules]
    code += [*global_modules._global_forward_pre_hooks.values(), *global_modules._global_forward_hooks.values()]
    attributes = [(name, _attributes(module)) for name, module in modules]
    return {
        "weights": hash_weights(model, strict=strict),
        "code": digest(*code, packages=packages, strict=strict),
        "attributes": digest(*attributes, packages=packages, strict=strict),
    }


def hash_weights(model: nn.Module, *, strict: bool = False) -> str:
    """Returns the digest of the parameters and buffers of a model, with their names; `strict` as in `digest`."""
    # Buffers that are not saved compute too.
    buffers = dict(model.named_buffers(remove_duplicate=False))
    found: dict[str, Any] = {**buffers, **model.state_dict()}
    offloaded = _offloaded(model)
    # Sorted, because the order of registration is not part of the identity; one by one, since offloaded weights are
    # more than the memory holds.
    weights = ((name, offloaded[name]() if name in offloaded else found[name]) for name in found)
    digests = ((name, digest(_whole(value), strict=strict)) for name, value in weights)
    return digest(*sorted(digests))


def _whole(value: Any) -> Any:
    return whole_tensor(value) if isinstance(value, Tensor) else value


def _offloaded(model: nn.Module) -> dict[str, Callable[[], Tensor]]:
    """Returns functions that load the weights which accelerate keeps on the CPU or on the disk, by name."""
    found: dict[str, Callable[[], Tensor]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        hook = getattr(module, "_hf_hook", None)
        for each in getattr(hook, "hooks", [hook]):
            weights: Any = getattr(each, "weights_map", None)
            for name, tensor in {**module._parameters, **module._buffers}.items():
                if weights is not None and tensor is not None and tensor.is_meta:
                    found[f"{path}.{name}".removeprefix(".")] = functools.partial(weights.__getitem__, name)
    return found


def _hooks(module: nn.Module) -> list[Any]:
    """Returns the hooks of the user on the forward of a module."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    own = [hook for hook in hooks if getattr(hook, "__module__", None) != _CAPTURING]
    return [hook for hook in own if not _is_distributed(getattr(hook, "__self__", hook))]


def _attributes(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, torch.jit.ScriptModule):
        return {"script": script_parts(module)}
    if isinstance(module, torch.fx.GraphModule):
        return {"graph": graph_parts(module)}
    skipped = _OWN_STATE | _OF_ACCELERATE if hasattr(module, "_hf_hook") else _OWN_STATE
    skipped |= _OF_SHARDING | _COMPUTED.get(type(module).__name__, frozenset())
    found = sorted((pair for pair in vars(module).items() if pair[0] not in skipped), key=itemgetter(0))
    return {name: value for name, value in found if not _is_distributed(value)}


def _is_distributed(value: Any) -> bool:
    """Whether an object belongs to the sharding of weights, with which a model computes the same."""
    parts = value.values() if isinstance(value, dict) and value else [value]
    kinds = (part if isinstance(part, (type, types.FunctionType)) else type(part) for part in parts)
    return all(str(kind.__module__).startswith(_DISTRIBUTED) for kind in kinds)


def _tokenizer(tokenizer: Any) -> Iterable[Any]:
    """Returns what the tokens of a tokenizer of transformers depend on, without the state that its calls leave."""
    names = ("model_max_length", "padding_side", "truncation_side", "special_tokens_map")
    options = [str(getattr(tokenizer, name, None)) for name in names]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return type(tokenizer).__name__, options, sorted(tokenizer.get_vocab().items())
    rules = json.loads(backend.to_str())
    kept = {name: rule for name, rule in rules.items() if name not in ("padding", "truncation")}
    return type(tokenizer).__name__, options, json.dumps(kept, sort_keys=True)


class _Lenient(NamedTuple):
    """A value of which parts without a digest are identified by their types."""

    value: Any


class _Walk:
    """Hashes values and the values they consist of.

    Args:
        packages: A set to which the names of packages are added.
        strict: Whether a value without a digest is an error.

    Attributes:
        hash: The hash so far.
    """

    def __init__(self, packages: set[str], strict: bool) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        self._packages, self._strict = packages, strict
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # an `id` is that of another value once its value is freed

    def add(self, value: Any) -> None:
        """Hashes a value."""
        # Not by recursion: functions that refer to each other form longer chains than Python allows calls.
        open_parts = [iter([value])]
        while open_parts:
            for part in open_parts[-1]:
                open_parts.append(iter(self._enter(part)))
                break
            else:
                open_parts.pop()

    def _enter(self, value: Any) -> Iterable[Any]:
        """Hashes a value without its parts, and returns the parts."""
        if isinstance(value, bytes):
            self._write(b"bytes", value)
        elif type(value) in _PLAIN:
            self._write(type(value).__name__.encode(), repr(value).encode())
        elif isinstance(value, _Lenient):
            return self._leniently(value.value)
        elif id(value) in self._numbers:  # a value that contains itself, or that occurs twice
            self._write(b"again", str(self._numbers[id(value)]).encode())
        else:
            self._numbers[id(value)] = len(self._numbers)
            self._alive.append(value)
            parts = list(self._parts(value))
            self._write(b"parts", f"{type(value).__name__} {len(parts)}".encode())
            return parts
        return ()

    def _leniently(self, value: Any) -> Iterator[Any]:
        before, self._strict = self._strict, False
        yield value
        self._strict = before  # once its parts are hashed

    def _write(self, kind: bytes, content: bytes) -> None:
        # With its length, so that no two sequences of values give the same bytes.
        self.hash.update(b"%s %d " % (kind, len(content)) + content)

    def _parts(self, value: Any) -> Iterable[Any]:
        """Returns the values that a value consists of."""
        if isinstance(value, NamedFunction):
            return (value.name,)
        if isinstance(value, Tensor):
            has_values = not (value.is_meta or hasattr(value, "fake_mode"))
            return tensor_parts(value) if has_values or self._strict else (str(value.dtype), str(value.shape))
        if isinstance(value, (*_PRINTED, enum.Enum)):
            return (str(value),)
        if isinstance(value, (list, tuple)) and type(value).__module__ == "builtins":
            return value
        if isinstance(value, (dict, types.MappingProxyType)) and type(value).__module__ in ("builtins", "collections"):
            default = [value.default_factory] if isinstance(value, defaultdict) else []
            return [*default, *chain.from_iterable(value.items())]
        if isinstance(value, memoryview):
            return value.format, value.shape, value.tobytes()
        if isinstance(value, Set):
            return sorted(digest(part, strict=self._strict) for part in value)
        if isinstance(value, re.Pattern):
            return value.pattern, value.flags
        if isinstance(value, types.ModuleType):
            return self._module(value)
        return self._code_parts(value)

    def _code_parts(self, value: Any) -> Iterable[Any]:
        if isinstance(value, types.CodeType):
            return code_parts(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, torch.jit.ScriptFunction):
            return script_function_parts(value)
        if isinstance(value, types.MethodType):
            return value.__func__, value.__self__
        if isinstance(value, functools.partial):
            return value.func, value.args, value.keywords
        if isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)):
            return value.__qualname__, getattr(value, "__module__", None), getattr(value, "__self__", None)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, (property, classmethod, staticmethod, functools.cached_property)):
            return wrapped_functions(value)
        if hasattr(value, "all_special_ids") and hasattr(value, "model_max_length"):
            return _tokenizer(value)
        if isinstance(value, nn.Module):
            return type(value), value.state_dict(), _attributes(value), list(value.named_children()), _hooks(value)
        return self._object(value)

    def _module(self, module: types.ModuleType) -> Iterable[Any]:
        if is_installed(module.__name__):
            return (self._use(module.__name__),)
        members = sorted(pair for pair in vars(module).items() if not pair[0].startswith("__"))
        return module.__name__, _Lenient(members)

    def _function(self, function: types.FunctionType) -> Iterable[Any]:
        module = function.__module__ or ""
        name = f"{module}.{function.__qualname__}"
        if is_installed(module) and "<" not in name:
            return name, self._use(module)
        return function.__code__, function.__defaults__, function.__kwdefaults__, references(function)

    def _class(self, kind: type) -> Iterable[Any]:
        module = str(kind.__module__)  # of some types of C code, it is that of their instances
        name = f"{module}.{kind.__qualname__}"
        if is_installed(module):
            replaced = replaced_functions(kind)
            return (name, self._use(module), *([_Lenient(replaced)] if replaced else []))
        code, others = class_members(kind)
        return name, type(kind), kind.__bases__, code, _Lenient(others)

    def _object(self, value: Any) -> Iterable[Any]:
        """Returns the parts of an object as `pickle` sees them."""
        if type(value).__module__.partition(".")[0] == "PIL":
            return type(value).__name__, value.mode, value.size, value.tobytes(), value.getpalette()
        try:
            # As pickle does, which knows some types of C code better than they do, such as functions of NumPy.
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:  # an object may refuse in any way
            if self._strict:
                raise UnidentifiedError(f"a {type(value).__name__} has no digest ({error})") from error
            return (type(value),)
        if isinstance(reduced, str):  # the name of a global value, which may be a function with a cache
            return reduced, type(value), getattr(value, "__wrapped__", None)
        return [type(value), *map(_with_digest, reduced)]

    def _use(self, module: str) -> str:
        """Notes that code of a module is used, and returns the name of its package."""
        package = module.partition(".")[0]
        if package not in sys.stdlib_module_names and is_installed(module):
            self._packages.add(package)
        return package


def tensor_parts(tensor: Tensor) -> tuple[Any, ...]:
    """Returns the dtype, the shape and the values of a tensor, of any kind.

    Raises:
        UnidentifiedError: If the tensor has no values: on the device `meta`, or in a graph.
    """
    tensor = whole_tensor(tensor)
    if hasattr(tensor, "__tensor_flatten__"):  # a subclass that consists of other tensors, such as those of torchao
        names, context = tensor.__tensor_flatten__()
        return type(tensor).__qualname__, context, [(name, getattr(tensor, name)) for name in names]
    tensor = tensor.detach()
    if tensor.is_meta or hasattr(tensor, "fake_mode"):
        raise UnidentifiedError("a tensor on the device 'meta', or of a traced graph, has no values")
    about = str(tensor.dtype), tuple(tensor.shape)
    if tensor.is_quantized:
        return *about, *_quantization(tensor), tensor.int_repr()
    if tensor.layout is not torch.strided:
        return *about, str(tensor.layout), tensor.to_dense()
    values = tensor.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return *about, values.view(torch.uint8).numpy().tobytes()


def _with_digest(part: Any) -> Any:
    """Returns a part of a pickled object as a value with a digest."""
    if isinstance(part, dict) and not _NOT_COMPUTING.isdisjoint(part):
        return {name: value for name, value in part.items() if name not in _NOT_COMPUTING}
    return list(part) if isinstance(part, Iterator) else part


def _quantization(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return tensor.q_scale(), tensor.q_zero_point()
    return tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points(), tensor.q_per_channel_axis()


def strip_addresses(text: str) -> str:
    """Returns a text without memory addresses, which differ between processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def sample_digest(sample: Any) -> str:
    """Returns the digest of a sample: of the values of tensors, arrays and images, and of texts."""
    if isinstance(sample, str):
        return _hash(b"text", sample.encode(errors="surrogatepass"))
    if type(sample) is Tensor and _is_plain(sample):
        return row_digests(sample.unsqueeze(0))[0]
    return digest(sample, strict=False)[:16]


def row_digests(rows: Tensor) -> list[str]:
    """Returns the digests of the samples in a tensor `[N, ...]`, as `sample_digest` returns them one by one."""
    kind = f"{rows.dtype} {tuple(rows.shape[1:])}".encode()
    flat = rows.detach().cpu().contiguous().reshape(len(rows), -1).view(torch.uint8).numpy()
    return [_hash(kind, row.data) for row in flat]


def _is_plain(tensor: Tensor) -> bool:
    """Whether the values of a tensor are its bytes."""
    is_strided = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type != "meta"
    return is_strided and not (tensor.is_conj() or tensor.is_neg()) and tensor.numel() > 0


def _hash(kind: bytes, content: Any) -> str:
    found = hashlib.blake2b(kind, digest_size=8)
    found.update(content)
    return found.hexdigest()


def describe_function(function: Any, packages: set[str]) -> Mapping[str, Any] | str | None:
    """Returns the identity of a preprocessing or a reduction, as JSON values; without a digest if it has none."""
    if function is None or isinstance(function, str):
        return function
    if isinstance(function, NamedFunction):
        return {"named": function.name}
    name = strip_addresses(repr(function))
    try:
        return {"name": name, "digest": digest(function, packages=packages)}
    except UnidentifiedError as error:
        return {"name": name, "digest": None, "problem": str(error)}


def describe_options(options: Mapping[str, Any] | None, packages: set[str]) -> dict[str, Any] | None:
    """Returns the identity of keyword arguments, as JSON values; None for None."""
    if options is None:
        return None
    return {
        name: value if isinstance(value, (bool, int, float, str, type(None))) else describe_function(value, packages)
        for name, value in options.items()
    }
