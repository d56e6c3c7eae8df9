"""Capture inside `torch.compile`: hooks that stay in the model, and a forward pass that Dynamo traces into one graph.

Dynamo cannot trace `register_forward_hook`. The hooks are therefore installed before it traces, do nothing outside the
traced forward pass, and are removed by `uncompile()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import FunctionType, MethodType
from typing import Any, Final, TypeAlias

import torch
from torch import nn

from .._exceptions import CompileError
from ..address import Request
from ._torch_private import TORCH_VERSION
from .call_selector import CallSelector, call_selectors
from .forward_pass import ForwardPass
from .hooks import HookSet
from .layouts import LayoutFinder
from .options import Options
from .scope import Scope

OLDEST_TRACING: Final = (2, 13)
"""The first PyTorch whose compiler traces our hooks into one graph (docs/benchmarks/versions.md)."""

Outcome: TypeAlias = tuple[list[tuple[int, list[tuple[int, Any]]]], Any, bool]


class CompiledForward:
    """A compiled forward of one model that also returns the captured values.

    Args:
        model: The model; the hooks stay in it until `remove`.
        requests: The requests. Gradients and operations cannot be captured.
        options: How values are kept. `clone="lazy"` becomes a clone, which the compiler fuses.
        compile_options: Passed to `torch.compile`.
        finders: The layouts that eager forward passes determined.

    Raises:
        CompileError: If a gradient or an operation is requested, or this PyTorch cannot trace hooks.
    """

    def __init__(
        self,
        model: nn.Module,
        requests: Sequence[Request],
        options: Options,
        compile_options: dict[str, Any],
        finders: Sequence[LayoutFinder | None],
    ) -> None:
        for request in requests:
            if request.address.is_gradient:
                raise CompileError(f"{request.name!r}: gradients are captured in eager forward passes only")
            if request.address.operation is not None:
                raise CompileError(f"{request.name!r}: operations are captured in eager forward passes only")
        if options.tokens is not None:
            raise CompileError("tokens= is for eager forward passes only: the number of tokens differs between items")
        if TORCH_VERSION < OLDEST_TRACING:
            oldest = ".".join(map(str, OLDEST_TRACING))
            raise CompileError(
                f"capture inside torch.compile needs PyTorch {oldest} or newer, and this is {torch.__version__}, "
                "whose compiler cannot trace hooks. Capture in eager calls, without .compile()"
            )
        self.model, self.requests = model, requests
        # The compiler fuses a clone, and cannot trace the private lazy clone.
        self.options = replace(options, clone=options.clone is not False)
        self._hook_set = HookSet(model, requests)
        self._scope, self._finders = Scope(any_thread=True), list(finders)
        self._forward: Callable[..., Outcome] = torch.compile(
            MethodType(_own_code(CompiledForward._trace), self), **compile_options
        )
        with ExitStack() as stack:
            self._hook_set.install(stack)
            # The hooks stay registered until `remove`.
            self._hooks = stack.pop_all()

    def remove(self) -> None:
        """Removes the hooks from the model."""
        self._hooks.close()

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, stop: bool, selectors: Sequence[CallSelector]
    ) -> tuple[ForwardPass, Any]:
        """Runs the compiled forward; returns what `run_with_capture` returns."""
        expected = [selector.expected for selector in selectors]
        kept, output, stopped = self._forward(args, kwargs, stop, expected)
        forward = self._pass(stop, expected, args, kwargs)
        forward.stopped = stopped
        for value, (count, values) in zip(forward.values, kept, strict=True):
            value.load(count, values)
        return forward, output

    def _pass(
        self, stop: bool, expected: Sequence[int | None], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ForwardPass:
        return ForwardPass(
            self.model,
            self.requests,
            self.options,
            self._scope,
            args,
            kwargs,
            selectors=call_selectors(self.requests, expected),
            stop=stop,
            finders=self._finders,
        )

    # Numbers of calls rather than selectors: Dynamo guards on the values of its arguments.
    def _trace(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], stop: bool, expected: Sequence[int | None]
    ) -> Outcome:
        forward = self._pass(stop, expected, args, kwargs)
        self._hook_set.connect(forward)
        try:
            output = forward.run(args, kwargs)
        # Outside the compiled forward the hooks must do nothing, whatever the model raised.
        finally:
            self._hook_set.disconnect()
        return [(value.calls, value.kept) for value in forward.values], output, forward.stopped


def _own_code(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Returns the function over a copy of its code.

    Dynamo limits recompilations for each code object: with shared code, the ninth compiled layer of a process would
    fail.
    """
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
