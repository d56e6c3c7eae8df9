"""Where values are shown to the slots of a run: a module, or an operation inside one."""

from __future__ import annotations

from contextlib import ExitStack
from threading import get_ident
from typing import Any, TypeAlias

from torch import Tensor, nn

from .._pytree import substitute, tensors
from ..address import Port
from .arguments import as_parts, as_value
from .run import Run
from .slots import Slot

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


class Site:
    """One place of a model that is captured from: it shows each call there to the slots of a run.

    It does nothing outside that run, nor in other threads: `nn.Module` takes
    a copy of its hooks at each call, so another thread may hold ours while we
    come and go.

    Attributes:
        ports: What is asked for there.
        run: The run under way, None between runs.
    """

    def __init__(self) -> None:
        self.ports: set[Port] = set()
        self.run: Run | None = None
        self._before: list[Slot] = []
        self._after: list[Slot] = []
        self._lent: dict[int, tuple[Tensor, Tensor, int]] = {}

    def connect(self, run: Run, slot: Slot) -> None:
        """Shows the calls that follow to a slot of a run."""
        self.run = run
        is_input = slot.request.address.port in ("input", "grad_input")
        (self._before if is_input else self._after).append(slot)

    def disconnect(self) -> None:
        """Ends what `connect` began."""
        self._before, self._after, self.run = [], [], None

    def install(self, module: nn.Module, stack: ExitStack) -> None:
        """Registers the hooks that the ports of a module need; the stack removes them."""
        if self.ports & {"input", "grad_input"}:
            stack.callback(module.register_forward_pre_hook(self.before, with_kwargs=True).remove)
        if "grad_input" in self.ports:
            stack.callback(module.register_forward_hook(self.take_back, with_kwargs=True).remove)
        if self.ports & {"output", "grad_output"}:
            stack.callback(module.register_forward_hook(self.after).remove)

    def before(self, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Arguments | None:
        """The forward pre-hook: shows the arguments, and lends copies where their gradient is asked for.

        Args:
            called: The module, or the function of an operation.
            args: What it is called with.
            kwargs: What it is called with.
        """
        if not self.is_ours() or kwargs is None:  # without kwargs: another thread, our hook half removed
            return None
        given: Arguments = (args, kwargs)
        for slot in self._before:
            view = as_parts if slot.request.address.index else as_value
            through = slot.offer(view(called, *given))
            if through:
                given = self._lend(given, through)
            self._report(slot)
        return given

    def take_back(self, _: Any, args: tuple[Any, ...], kwargs: Any, output: Any = None) -> Any:
        """A forward hook: repeats on the model's own tensors what the module did in place to the copies lent."""
        if not self._lent or not self.is_ours():
            return None
        back: dict[int, Tensor] = {}
        for copy in tensors((args, kwargs)):
            lent = self._lent.pop(id(copy), None)
            if lent is not None and copy._version != lent[2]:
                back[id(copy)] = lent[1].copy_(copy)
        return _replaced(output, back) if back else None

    def after(self, _: Any, __: Any, output: Any) -> Any:
        """The forward hook: shows the output, and passes on the copies that take its place."""
        if not self.is_ours():
            return None
        for slot in self._after:
            through = slot.offer(output)
            if through:
                output = _replaced(output, through)
            self._report(slot)
        return output

    def is_ours(self) -> bool:
        """Whether a run is under way, in this thread."""
        run = self.run
        return run is not None and (run.thread is None or run.thread == get_ident())

    def _report(self, slot: Slot) -> None:
        if slot.is_just_filled and self.run is not None:
            self.run.filled(slot)

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
