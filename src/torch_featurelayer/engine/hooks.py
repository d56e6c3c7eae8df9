"""Hook points: where values of a model are recorded, on modules and on operations.

The order of hooks on one module, from the outside in. Before a forward: the start
of a forward pass, user hooks, edits, captures, operations. After it: operations,
user hooks registered before ours, edits, captures, the end of a forward pass. So a capture
sees what user hooks and edits made of a value: what the model goes on with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from torch import Tensor, nn

from .._pytree import substitute, tensors
from ..address import Port
from .arguments import Arguments, replace_arguments
from .captured import CapturedValue
from .temporary import register_hook, register_pre_hook


class Pass(Protocol):
    """A forward pass that values are recorded for.

    Attributes:
        ran_elsewhere: Whether hooks ran that do not belong to it, as those of layers in another thread.
    """

    ran_elsewhere: bool

    @property
    def values(self) -> Sequence[CapturedValue]:
        """The captured value of each request."""

    def is_current(self) -> bool:
        """Whether the running code belongs to it."""

    def filled(self, value: CapturedValue) -> None:
        """Counts a value that wants no more calls."""

    def note_checkpoint(self, value: CapturedValue) -> None:
        """Arranges that the hooks run again with the checkpointed region that runs now, if one does."""


class HookPoint:
    """One place of a model, and the values that are recorded there.

    Attributes:
        ports: The ports that are asked for.
    """

    def __init__(self) -> None:
        self.ports: set[Port] = set()
        self._pass: Pass | None = None
        self._before: list[CapturedValue] = []
        self._after: list[CapturedValue] = []
        self._substituted: dict[int, tuple[Tensor, Tensor, int]] = {}

    def connect(self, forward: Pass, value: CapturedValue) -> None:
        """Records the calls that follow in a value of a forward pass."""
        self._pass = forward
        is_input = value.request.address.port in ("input", "grad_input")
        (self._before if is_input else self._after).append(value)

    def disconnect(self) -> None:
        """Makes the hooks do nothing."""
        self._before, self._after, self._pass = [], [], None
        self._substituted.clear()

    def install(self, module: nn.Module, stack: ExitStack) -> None:
        """Registers the hooks that the ports of a module need; the stack removes them."""
        if self.ports & {"input", "grad_input"}:
            register_pre_hook(module, self.before, stack, with_kwargs=True)
        if "grad_input" in self.ports:
            register_hook(module, self.write_back, stack, with_kwargs=True)
        if self.ports & {"output", "grad_output"}:
            register_hook(module, self.after, stack)

    def before(
        self, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, number: int | None = None
    ) -> Arguments | None:
        """The forward pre-hook: records the arguments, and substitutes copies where their gradient is asked for.

        Args:
            called: The module, or the function of an operation.
            args: The positional arguments.
            kwargs: The keyword arguments; None in another thread, while our hook is half removed.
            number: The number of the call; None counts on.
        """
        if kwargs is None or not self._is_recorded():
            return None
        given: Arguments = (args, kwargs)
        for value in self._before:
            new = _recorded_arguments(value, called, given, number)
            if new is not given:
                self._substitute(given, new)
                given = new
            self._report(value)
        return given

    def write_back(self, _: Any, args: tuple[Any, ...], kwargs: Any, output: Any = None) -> Any:
        """A forward hook: repeats on the model's own tensors what the module did in place to their copies."""
        if not self._substituted or not self.is_ours():
            return None
        back: dict[int, Tensor] = {}
        for copy in tensors((args, kwargs)):
            found = self._substituted.pop(id(copy), None)
            if found is not None and copy._version != found[2]:
                back[id(copy)] = found[1].copy_(copy)
        return substitute(output, lambda tensor: back.get(id(tensor), tensor)) if back else None

    def after(self, _: Any, __: Any, output: Any, number: int | None = None) -> Any:
        """The forward hook: records the output, and returns it with copies where they must take its place."""
        if not self._is_recorded():
            return None
        for value in self._after:
            output = value.record(output, number)
            self._report(value)
        return output

    def is_ours(self) -> bool:
        """Whether a forward pass is recorded, and the running code belongs to it."""
        forward = self._pass
        return forward is not None and forward.is_current()

    def _is_recorded(self) -> bool:
        """As `is_ours`; a call that is not, is noted for the error of a layer that did not run."""
        forward = self._pass
        if forward is None:
            return False
        if forward.is_current():
            return True
        forward.ran_elsewhere = True
        return False

    def _report(self, value: CapturedValue) -> None:
        if self._pass is not None:
            self._pass.note_checkpoint(value)
            if value.is_just_filled:
                self._pass.filled(value)

    def _substitute(self, old: Arguments, new: Arguments) -> None:
        """Remembers which copies took the place of which arguments; views share the memory and need no writing back."""
        for tensor, copy in zip(tensors(old), tensors(new), strict=True):
            if copy is not tensor and copy._base is not tensor:
                self._substituted[id(copy)] = (copy, tensor, copy._version)


def _recorded_arguments(value: CapturedValue, called: Any, given: Arguments, number: int | None) -> Arguments:
    """Records the arguments of a call, or one of them, and returns those to call with."""
    index = value.request.address.index
    keep = value.record_part if index else value.record
    try:
        return _if_changed(given, replace_arguments(called, *given, index, lambda part: keep(part, number)))
    except LookupError as error:
        value.fail(str(error), number)
        return given


def _if_changed(old: Arguments, new: Arguments) -> Arguments:
    same = new[1] is old[1] or all(new[1][name] is old[1][name] for name in old[1])
    return old if same and all(map(_is, new[0], old[0])) else new


def _is(one: object, other: object) -> bool:
    return one is other


def disable_fast_path(modules: Iterable[nn.Module], stack: ExitStack) -> None:
    """Makes `nn.TransformerEncoder` and its layers call the modules inside them, as they do in train mode.

    The encoder's fast path converts its input to a nested tensor, which its layers then refuse because of our hooks.
    A layer's fast path is one fused kernel; before PyTorch 2.6 it is taken with hooks inside too, and they see nothing.
    """
    for module in modules:
        if isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False):
            _set(module, "use_nested_tensor", False, stack)
        if isinstance(module, nn.TransformerEncoderLayer) and module.activation_relu_or_gelu:
            _set(module, "activation_relu_or_gelu", 0, stack)


def _set(module: nn.Module, name: str, value: object, stack: ExitStack) -> None:
    stack.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, value)
