"""`profile_model`: the calls, durations and operations of all modules in one forward pass."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .._pytree import outline, tensors
from ._torch_private import has_compiled_code
from .dynamo import force_eager, run_outside_dynamo
from .operation_names import ATTRIBUTES, operation_name
from .operations import holds_tensor, running_module


@dataclass(slots=True)
class ModuleStats:
    """The statistics of one module in a forward pass.

    Attributes:
        calls: The number of calls.
        seconds: The duration of the calls in seconds, including the modules inside.
        own_seconds: The duration of the calls in seconds, without the modules inside.
        output: The structure of the output of the last call.
        dtypes: The dtypes of the tensors in that output.
        operations: The number of times that each operation ran directly inside, over all calls.
    """

    calls: int = 0
    seconds: float = 0.0
    own_seconds: float = 0.0
    output: str = ""
    dtypes: tuple[str, ...] = ()
    operations: Counter[str] = field(default_factory=Counter)


def profile_model(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int, ModuleStats]:
    """Runs a model once and returns the statistics of its modules, by their `id`."""
    seen = {id(module): ModuleStats() for module in model.modules()}
    modules = dict(model.named_modules())

    def run() -> None:
        with ExitStack() as stack:
            if has_compiled_code(modules.values()):
                stack.enter_context(force_eager())
            running: list[_Call] = []
            for module in model.modules():
                if not isinstance(module, torch.jit.ScriptModule):  # these take no Python hooks
                    _time(module, seen[id(module)], running, stack)
            stack.enter_context(_Counting(seen))
            model(*args, **kwargs)

    run_outside_dynamo(run)
    return seen


@dataclass(slots=True)
class _Call:
    """A call of a module that has not ended.

    Attributes:
        start: When it began.
        inside: The seconds of the modules inside so far.
    """

    start: float
    inside: float = 0.0


def _time(module: nn.Module, entry: ModuleStats, running: list[_Call], stack: ExitStack) -> None:
    thread = get_ident()
    returned: list[bool] = []

    def before(*_: Any) -> None:
        if get_ident() == thread:
            running.append(_Call(time.perf_counter()))

    def after(_: nn.Module, __: Any, output: Any) -> None:
        if get_ident() == thread and running:
            call = running.pop()
            seconds = time.perf_counter() - call.start
            entry.seconds += seconds
            entry.own_seconds += seconds - call.inside
            if running:
                running[-1].inside += seconds
            entry.calls += 1
            entry.output = outline(output)
            entry.dtypes = tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors(output)}))
            returned.append(True)

    def at_end(*_: Any) -> None:
        # Also called if the module raised an error, which the model may catch: then `after` was not.
        if get_ident() == thread and not (returned and returned.pop()) and running:
            running.pop()

    stack.callback(module.register_forward_pre_hook(before).remove)
    stack.callback(module.register_forward_hook(after).remove)
    stack.callback(module.register_forward_hook(at_end, always_call=True).remove)


class _Counting(TorchFunctionMode):
    """Counts the operations of each module."""

    def __init__(self, seen: dict[int, ModuleStats]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.compiler.is_dynamo_compiling():  # as inside flex attention, which compiles itself
            return func(*args, **(kwargs or {}))
        owner = None if func.__name__ in ATTRIBUTES else self._seen.get(id(running_module()))
        output = func(*args, **(kwargs or {}))
        if owner is not None and holds_tensor(output):
            owner.operations[operation_name(func)] += 1
        return output
