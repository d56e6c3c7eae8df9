"""The hooks of one module."""

from __future__ import annotations

from contextlib import ExitStack
from threading import get_ident
from typing import Any, TypeAlias

from torch import Tensor, nn

from .._pytree import substitute, tensors
from .arguments import as_parts, as_value
from .run import Run
from .slots import Slot

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


class Site:
    """A module that is captured from: hooks that show its calls to the slots of a run.

    The hooks do nothing outside that run, nor in other threads: `nn.Module`
    takes a copy of its hooks at each call, so another thread may hold ours
    while we come and go.

    Attributes:
        run: The run under way, None between runs.
    """

    def __init__(self, module: nn.Module, run: Run | None = None) -> None:
        self.module, self.run = module, run
        self.before_slots: list[Slot] = []
        self.after_slots: list[Slot] = []
        self._lent: dict[int, tuple[Tensor, Tensor, int]] = {}

    def add(self, slot: Slot) -> None:
        """Adds what a request keeps to the hook it needs."""
        is_input = slot.request.address.port in ("input", "grad_input")
        (self.before_slots if is_input else self.after_slots).append(slot)

    def install(self, stack: ExitStack) -> None:
        """Registers the hooks the slots need; the stack removes them."""
        if self.before_slots:
            stack.callback(self.module.register_forward_pre_hook(self.before, with_kwargs=True).remove)
        if any(slot.request.address.is_gradient for slot in self.before_slots):
            stack.callback(self.module.register_forward_hook(self.take_back, with_kwargs=True).remove)
        if self.after_slots:
            stack.callback(self.module.register_forward_hook(self.after).remove)

    def before(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Arguments | None:
        """The forward pre-hook: shows the arguments, and lends copies where their gradient is asked for."""
        if not self._is_ours() or kwargs is None:  # without kwargs: another thread, our hook half removed
            return None
        given: Arguments = (args, kwargs)
        for slot in self.before_slots:
            view = as_parts if slot.request.address.index else as_value
            through = slot.offer(view(self.module, *given))
            if through:
                given = self._lend(given, through)
            self._report(slot)
        return given

    def take_back(self, _: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any = None) -> Any:
        """A forward hook: repeats on the model's own tensors what the module did in place to the copies lent."""
        if not self._is_ours():
            return None
        back: dict[int, Tensor] = {}
        for copy in tensors((args, kwargs)):
            lent = self._lent.pop(id(copy), None)
            if lent is not None and copy._version != lent[2]:
                back[id(copy)] = lent[1].copy_(copy)
        return _replaced(output, back) if back else None

    def after(self, _: nn.Module, __: Any, output: Any) -> Any:
        """The forward hook: shows the output, and passes on the copies that take its place."""
        if not self._is_ours():
            return None
        for slot in self.after_slots:
            through = slot.offer(output)
            if through:
                output = _replaced(output, through)
            self._report(slot)
        return output

    def _is_ours(self) -> bool:
        run = self.run
        return run is not None and (run.thread is None or run.thread == get_ident())

    def _report(self, slot: Slot) -> None:
        if slot.is_just_filled and self.run is not None:
            self.run.filled()

    def _lend(self, given: Arguments, through: dict[int, Tensor]) -> Arguments:
        """Puts copies in the place of arguments, and remembers whose place they took."""

        def lend(tensor: Tensor) -> Tensor:
            copy = through.get(id(tensor))
            if copy is None:
                return tensor
            self._lent[id(copy)] = (copy, tensor, copy._version)
            return copy

        return substitute(given, lend)  # type: ignore[no-any-return]


def _replaced(value: Any, by_id: dict[int, Tensor]) -> Any:
    return substitute(value, lambda tensor: by_id.get(id(tensor), tensor))
