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
from ..address import Request, located
from .options import Options
from .run import Run
from .session import sites
from .slots import Slot

Outcome: TypeAlias = tuple[list[tuple[int, list[Any]]], Any, bool]


class Traced:
    """Compiled forwards of one model that also return what was asked for.

    Args:
        model: The model; its hooks stay until `remove`.
        requests: What to capture; gradients cannot be.
        options: How to keep it. `"lazy"` becomes a clone, which the compiler fuses.
        compile_options: Passed to `torch.compile`.

    Raises:
        CompileError: A gradient is asked for.
    """

    def __init__(
        self, model: nn.Module, requests: Sequence[Request], options: Options, compile_options: dict[str, Any]
    ) -> None:
        for request in requests:
            if request.address.is_gradient:
                raise CompileError(f"{request.name!r}: gradients are captured in eager runs: do not compile this one.")
        self.model, self.requests = model, requests
        self.options = replace(options, clone=options.clone is not False)
        self.sites = sites(self._run(False, None), located(model, requests))
        self._forward: Callable[..., Outcome] = torch.compile(
            MethodType(_own_code(Traced._trace), self), **compile_options
        )
        with ExitStack() as stack:
            for site in self.sites:
                site.install(stack)
            self._hooks = stack.pop_all()
        self._layout = [(_names(site.before_slots), _names(site.after_slots)) for site in self.sites]
        self._disconnect()

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
        self._connect(run)
        try:
            output = run.forward(self.model, args, kwargs)
        finally:
            self._disconnect()
        return [(slot.calls, list(slot.kept)) for slot in run.slots], output, run.stopped

    def _connect(self, run: Run) -> None:
        slots = {slot.request.name: slot for slot in run.slots}
        for site, (before, after) in zip(self.sites, self._layout, strict=True):
            site.before_slots = [slots[name] for name in before]
            site.after_slots = [slots[name] for name in after]
            site.run = run

    def _disconnect(self) -> None:
        for site in self.sites:
            site.before_slots, site.after_slots, site.run = [], [], None


def _names(slots: list[Slot]) -> list[str]:
    return [slot.request.name for slot in slots]


def _own_code(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Returns the function over a copy of its code.

    Dynamo counts recompilations by code object: sharing one, the ninth compiled layer of a process would fail.
    """
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
