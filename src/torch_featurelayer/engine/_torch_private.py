"""All private names of PyTorch and CPython that the engine uses, each probed at import.

If a release of PyTorch renames or removes a name, the import and plain captures must still work: each name has a
fallback here, or the feature that needs it raises `UnsupportedTorchError`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import CodeType, FrameType
from typing import Any, Final

import torch
from torch import Tensor, nn, overrides
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint

TORCH_VERSION: Final = tuple(int(part) for part in torch.__version__.partition("+")[0].split(".")[:2])
"""The major and minor version of PyTorch."""


def _lookup(root: object, path: str) -> Any:
    """Returns an attribute by its dotted path, None if any part of it does not exist."""
    for name in path.split("."):
        root = getattr(root, name, None)
    return root


def _code(root: object, path: str) -> CodeType | None:
    """Returns the code of a Python function by its dotted path, None if there is none."""
    return getattr(_lookup(root, path), "__code__", None)


def _lazy_clone_works() -> bool:
    """Whether copy-on-write exists and works in both directions."""
    try:
        source = torch.zeros(2, device="cpu")
        first, second = torch._lazy_clone(source), torch._lazy_clone(source)
        source.add_(1)
        second.add_(2)
        return (source.tolist(), first.tolist(), second.tolist()) == ([1, 1], [0, 0], [2, 2])
    except Exception:  # noqa: BLE001 (a private function may change in any way)
        return False


HAS_COPY_ON_WRITE: Final = _lazy_clone_works()
"""Whether `lazy_clone` may be called; otherwise features are cloned at once."""


# Functions of C are used as they are, without a Python function around them: they run in every capture.
lazy_clone: Final[Callable[[Tensor], Tensor]] = _lookup(torch, "_lazy_clone") or torch.clone
"""Copies a tensor on write."""


# Module calls, as they appear on the stack: how a forward pass and the owner of an operation are recognised.
CALL_IMPL: Final = _code(nn.Module, "_call_impl") or _code(nn.Module, "__call__")

# PyTorch's Python functions between an operation and the code that calls it.
HANDLE_TORCH_FUNCTION: Final = _code(overrides, "handle_torch_function")
BOOLEAN_DISPATCH: Final = _code(functional, "max_pool2d")

_push_mode = _lookup(overrides, "_push_mode")
_pop_mode = _lookup(overrides, "_pop_mode")
_mode_stack = _lookup(overrides, "_get_current_function_mode_stack")

HAS_FUNCTION_MODES: Final = None not in (CALL_IMPL, _push_mode, _pop_mode, _mode_stack)
"""Whether operations can be captured: a function mode can be pushed and popped from hooks."""


push_function_mode: Final[Callable[[TorchFunctionMode], None]] = _push_mode
"""Puts a function mode on top of the stack."""


def remove_function_mode(mode: TorchFunctionMode) -> None:
    """Removes a function mode from the stack, at any position."""
    above = []
    while (top := _pop_mode()) is not mode:
        above.append(top)
    for other in reversed(above):
        _push_mode(other)


def function_modes() -> list[TorchFunctionMode]:
    """Returns the stack of function modes, the innermost last; empty if PyTorch does not provide it."""
    return list(_mode_stack()) if _mode_stack is not None else []


@contextmanager
def without_function_modes(modes: Sequence[TorchFunctionMode]) -> Iterator[None]:
    """Takes function modes from the stack while the context is open, and puts them back in their places."""
    before = function_modes()
    for mode in modes:
        remove_function_mode(mode)
    try:
        yield
    finally:
        if modes:
            now = function_modes()
            order = [mode for mode in before if _holds(now, mode) or _holds(modes, mode)]
            order += [mode for mode in now if not _holds(before, mode)]
            for _ in now:
                _pop_mode()
            for mode in order:
                _push_mode(mode)


def _holds(modes: Sequence[TorchFunctionMode], mode: TorchFunctionMode) -> bool:
    return any(each is mode for each in modes)


def _no() -> bool:
    return False


def _none() -> None:
    return None


in_function_transform: Final[Callable[[], bool]] = _lookup(torch, "_C._are_functorch_transforms_active") or _no
"""Whether `torch.func` transforms the running code."""

_level = _lookup(torch, "_C._functorch.maybe_get_level")
_current_level = _lookup(torch, "_C._functorch.maybe_current_level")


def transform_level(tensor: Tensor | None = None) -> int:
    """Returns the level of the `torch.func` transform of a tensor, or of the running code; 0 for none."""
    if tensor is None:
        return (_current_level() or 0) if _current_level is not None else 0
    return max(_level(tensor), 0) if _level is not None else 0


tracing_state: Final[Callable[[], object | None]] = _lookup(torch, "_C._get_tracing_state") or _none
"""The graph that `torch.jit.trace` or the older ONNX exporter records; None outside them."""

_eval_frame_callback = _lookup(torch, "_C._dynamo.eval_frame.get_eval_frame_callback")


def dynamo_watches() -> bool:
    """Whether Dynamo compiles the frames of this thread; True if Dynamo is loaded and PyTorch does not tell."""
    if "torch._dynamo" not in sys.modules:
        return False
    return _eval_frame_callback is None or _eval_frame_callback() is not None


def has_compiled_code(modules: Iterable[nn.Module]) -> bool:
    """Whether any of the modules runs compiled code."""
    return "torch._dynamo" in sys.modules and any(map(compiled_attribute, modules))


def compiled_attribute(module: nn.Module) -> str:
    """Returns the name of a module's attribute that runs compiled code; empty if there is none.

    There is one after `torch.compile(module)`, `module.compile()`, and if its forward was compiled.
    """
    if getattr(module, "_compiled_call_impl", None) is not None:
        return "_compiled_call_impl"
    is_forward = "_orig_mod" in module._modules or hasattr(module.forward, "_torchdynamo_orig_callable")
    return "forward" if is_forward else ""


_saved_tensor_hooks = _lookup(torch, "_C._autograd._top_saved_tensors_default_hooks")
_CHECKPOINT_FILE: Final = checkpoint.__file__


def may_be_checkpointed() -> bool:
    """Whether the running code may be inside `torch.utils.checkpoint`. It is cheap, and never False inside.

    The reentrant variant runs without gradients, the other one under hooks on saved tensors.
    """
    if not torch.is_grad_enabled() or _saved_tensor_hooks is None:
        return True
    return _saved_tensor_hooks(False) is not None


def checkpointed_functions(frame: FrameType | None) -> Iterator[tuple[Any, str]]:
    """Yields the functions that `torch.utils.checkpoint` will recompute, from the innermost region outwards.

    Args:
        frame: The frame to start from.

    Yields:
        Pairs of an object and the name of the attribute that holds the function.
    """
    while frame is not None:
        if frame.f_code.co_filename == _CHECKPOINT_FILE:
            names = frame.f_locals
            region = getattr(getattr(names.get("gen"), "gi_frame", None), "f_locals", {}).get("new_frame")
            if hasattr(region, "recompute_fn"):
                yield region, "recompute_fn"
            elif hasattr(names.get("ctx"), "run_function"):
                yield names["ctx"], "run_function"
        frame = frame.f_back


def index_with_tensors() -> AbstractContextManager[object]:
    """Returns a context in which `torch.vmap` can index a tensor by tensors of one element, as flex attention does."""
    module = sys.modules.get("torch._dynamo._trace_wrapped_higher_order_op")  # flex attention has imported it
    mode = getattr(module, "TransformGetItemToIndex", nullcontext)
    context: AbstractContextManager[object] = mode()
    return context


def calling_frame(frame: FrameType | None = None) -> FrameType | None:
    """Returns the frame of the innermost module call; None outside module calls, or if PyTorch does not provide it."""
    frame = frame or sys._getframe(1)
    while frame is not None and frame.f_code is not CALL_IMPL:
        frame = frame.f_back
    return frame
