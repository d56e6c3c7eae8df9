"""Capture inside `torch.compile`: hooks that stay in the model, and a forward Dynamo can trace whole.

Dynamo cannot trace `register_forward_hook`, so the hooks are installed before
it traces, inert outside the traced forward, and removed on request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import FunctionType, MethodType
from typing import Any, TypeAlias

import torch
from torch import nn

from .._errors import CompileError
from ..address import Request
from .options import Options
from .places import Places
from .run import Run

Outcome: TypeAlias = tuple[list[tuple[int, list[Any]]], Any, bool]


class Traced:
    """Compiled forwards of one model that also return what was asked for.

    Args:
        model: The model; its hooks stay until `remove`.
        requests: What to capture; gradients cannot be.
        options: How to keep it. `"lazy"` becomes a clone, which the compiler fuses.
        compile_options: Passed to `torch.compile`.

    Raises:
        CompileError: A gradient or an operation is asked for.
    """

    def __init__(
        self, model: nn.Module, requests: Sequence[Request], options: Options, compile_options: dict[str, Any]
    ) -> None:
        for request in requests:
            if request.address.is_gradient:
                raise CompileError(f"{request.name!r}: gradients are captured in eager runs: do not compile this one.")
            if request.address.operation is not None:
                raise CompileError(f"{request.name!r}: operations are captured in eager runs: do not compile this one.")
        self.model, self.requests = model, requests
        self.options = replace(options, clone=options.clone is not False)
        self._places = Places(model, requests)
        self._forward: Callable[..., Outcome] = torch.compile(
            MethodType(_own_code(Traced._trace), self), **compile_options
        )
        with ExitStack() as stack:
            self._places.install(stack)
            self._hooks = stack.pop_all()

    def remove(self) -> None:
        """Takes the hooks out of the model."""
        self._hooks.close()

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, stop: bool, calls: Sequence[int | None] | None
    ) -> tuple[Run, Any]:
        """Runs the compiled forward; returns what `run_once` does."""
        kept, output, stopped = self._forward(args, kwargs, stop, calls)
        run = self._run(stop, calls)
        run.stopped = stopped
        for slot, (count, values) in zip(run.slots, kept, strict=True):
            slot.calls = count
            slot.kept.extend(values)
        return run, output

    def _run(self, stop: bool, calls: Sequence[int | None] | None) -> Run:
        return Run(self.requests, self.options, stop=stop, calls=calls)

    def _trace(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], stop: bool, calls: Sequence[int | None] | None
    ) -> Outcome:
        run = self._run(stop, calls)
        self._places.connect(run)
        try:
            output = run.forward(self.model, args, kwargs)
        finally:
            self._places.disconnect()
        return [(slot.calls, list(slot.kept)) for slot in run.slots], output, run.stopped


def _own_code(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Returns the function over a copy of its code.

    Dynamo counts recompilations by code object: sharing one, the ninth compiled layer of a process would fail.
    """
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
