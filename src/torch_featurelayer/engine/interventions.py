"""Interventions: values that are replaced where captures record them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from numbers import Number
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .._exceptions import (
    EditError,
    LayerNotRunError,
    StructureError,
)
from .._pytree import UncopyableError, describe, replace_part, snapshot, substitute, tensors
from ..address import ATTENTION_WEIGHTS, Address, Request, locate
from ._torch_private import has_compiled_code, may_be_checkpointed
from .arguments import Arguments, replace_arguments
from .captured import check_operation
from .checkpointing import Replay, may_be_recomputed, wrap_checkpoints
from .copy_on_write import copier
from .diagnostics import explain_missing_call
from .dynamo import force_eager
from .forward_pass import required_requests
from .hooks import disable_fast_path, modules_around, register, register_operations
from .operations import OperationMode, unwound
from .recorder import ForwardTracker
from .scope import Scope

EditValue: TypeAlias = Tensor | float | Callable[[Any], Any]


class Intervention:
    """One value that is replaced each time it is computed.

    Attributes:
        name: The address as text.
        address: The address.
        calls: The number of calls of the module in this forward pass.
        done: The number of times that the value was replaced.
    """

    def __init__(self, request: Request, value: EditValue, owner: InterventionSet) -> None:
        self.name, self.address = request.name, _editable(request)
        if not _is_value(value):
            raise EditError(self.name, f"a value is a function, a tensor or a number, not {describe(value)}.")
        self.calls = self.done = 0
        self._value, self._owner = value, owner
        self._is_computing = False

    def is_ours(self) -> bool:
        """Whether the running code is edited."""
        return self._owner.scope.is_current()

    def install(self, module: nn.Module, stack: ExitStack) -> None:
        """Registers the hook of a port in front of those of captures, which then record the new value."""
        if self.address.port == "input":
            # In front of captures and of the user's hooks, which then receive the new value.
            register(module.register_forward_pre_hook, self.before, stack, prepend=True, with_kwargs=True)
        else:
            register(module.register_forward_hook, self.after, stack, prepend=True)

    def before(
        self, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, number: int | None = None
    ) -> Arguments | None:
        """Replaces arguments: the forward pre-hook."""
        if kwargs is None or self.address.port != "input" or not self._is_wanted(number):
            return None
        try:
            return replace_arguments(called, args, kwargs, self.address.index, self._new)
        except LookupError as error:
            raise StructureError(self.name, str(error)) from None
        except TypeError as error:
            raise EditError(self.name, f"{error}.") from error

    def write_back(self, *_: Any) -> None:
        """Does nothing: edits do not substitute copies."""

    def after(self, _: Any, __: Any, output: Any, number: int | None = None) -> Any:
        """Replaces the output: the forward hook."""
        if self.address.port != "output" or not self._is_wanted(number):
            return None
        try:
            return replace_part(output, self.address.index, self._new_part)
        except LookupError as error:
            raise StructureError(self.name, str(error)) from None
        except UncopyableError as error:
            raise EditError(self.name, f"{error}: edit the whole value with a function.") from None

    def _is_wanted(self, number: int | None) -> bool:
        # While its own function runs the model again, the model runs unedited there.
        if self._is_computing or not self.is_ours():
            return False
        number = self.calls if number is None else number
        self._owner.note_checkpoint()
        self.calls = number + 1
        # An unmarked address edits every call, unlike a capture, which keeps the last.
        wanted = self.address.call in (None, "*", number)
        self.done += wanted
        return wanted

    def _new(self, old: Any) -> Any:
        if callable(self._value):
            return self._compute(self._value, old)
        if not isinstance(old, Tensor):
            raise EditError(
                self.name, f"the value is {describe(old)}. Name a part of it with [index], or pass a function."
            )
        if not isinstance(self._value, Tensor):
            return self._fill(self._value, old)
        return self._expand(self._value, old)

    def _new_part(self, old: Any) -> Any:
        """Returns the new value of an output or a part of it, whose structure the model expects."""
        new = self._new(old)
        if not _has_structure(new, old):
            raise EditError(
                self.name,
                f"the function returned {describe(new)}, and the value is {describe(old)}. Return the same structure, "
                "or name the part to change with [index].",
            )
        return new

    def _compute(self, function: Callable[[Any], Any], old: Any) -> Any:
        self._is_computing = True
        try:
            # The function gets a copy, because it may change its argument in place.
            new = function(snapshot(old, copier("lazy")))
        finally:
            self._is_computing = False
        if new is None and old is not None:
            raise EditError(self.name, "the function returned None: it must return the new value.")
        return substitute(new, copier("lazy"))  # the function may keep what it returned, and the model write to it

    def _fill(self, number: float, old: Tensor) -> Tensor:
        try:
            new = torch.full_like(old, number)
        except (RuntimeError, OverflowError):  # a complex number, or one that is too large
            raise EditError(self.name, f"{number} cannot be represented in {_dtype(old)}.") from None
        # `full_like` truncates a number that an integer dtype cannot represent.
        is_exact = old.is_floating_point() or old.is_complex()
        if not is_exact and old.numel() and new.flatten()[0].item() != number:
            raise EditError(self.name, f"{number} cannot be represented in {_dtype(old)}.")
        return new

    def _expand(self, given: Tensor, old: Tensor) -> Tensor:
        if not _can_hold(old.dtype, given):
            raise EditError(self.name, f"values of {_dtype(given)} cannot be represented in {_dtype(old)}.")
        try:
            new = given.to(old.device, old.dtype).expand(old.shape)
        except RuntimeError:
            shapes = f"{list(given.shape)} cannot be broadcast to {list(old.shape)}"
            raise EditError(self.name, f"the shape {shapes}.") from None
        return new.clone(memory_format=torch.contiguous_format)  # the model may write to it


def _is_value(value: object) -> bool:
    return callable(value) or isinstance(value, (Tensor, Number))


def _has_structure(new: Any, old: Any) -> bool:
    """Whether a new value can take the place of an old one: a tensor of a tensor, a tuple of one as long, ..."""
    if isinstance(old, Tensor):
        return isinstance(new, Tensor)
    if isinstance(old, Mapping):
        return isinstance(new, Mapping) and new.keys() >= old.keys()
    if isinstance(old, (tuple, list)):
        return isinstance(new, (tuple, list)) and (isinstance(old, list) or len(new) == len(old))
    return not isinstance(new, Tensor) or not any(True for _ in tensors(old))


def _can_hold(dtype: torch.dtype, given: Tensor) -> bool:
    """Whether a dtype can represent the values of a tensor, up to the rounding of floating-point numbers."""
    if torch.can_cast(given.dtype, dtype):
        return True
    return not given.is_complex() and torch.equal(given, given.to(dtype).to(given.dtype))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _editable(request: Request) -> Address:
    address = request.address
    if address.is_gradient:
        raise EditError(request.name, "gradients can be captured, but not edited.")
    if address.operation == ATTENTION_WEIGHTS:
        raise EditError(request.name, "the model does not compute these weights itself. Edit its fused operation.")
    if address.is_expert_part:
        raise EditError(request.name, "this part is computed beside the model. Edit the input of the experts.")
    if isinstance(address.call, int) and address.call < 0:
        raise EditError(request.name, "the last call is not known in advance. Count from the first call, @0.")
    return address


class InterventionSet:
    """Interventions in one model, for the duration of a context.

    Args:
        model: The model.
        changes: The new value of each request.

    Attributes:
        scope: The calls that are edited.
    """

    def __init__(self, model: nn.Module, changes: Mapping[Request, EditValue]) -> None:
        self.scope = Scope()
        self._model, self._changes = model, changes
        self._requests = list(changes)
        self._edits = [Intervention(request, value, self) for request, value in changes.items()]
        self._modules = locate(model, self._requests)
        self._operations: OperationMode | None = None
        self._may_recompute = True

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Keeps the hooks of all interventions in the model, or of none, and removes them whatever is raised."""
        with self.scope.enter(), self._register_hooks():
            yield

    @contextmanager
    def _register_hooks(self, calls: Sequence[int] | None = None) -> Iterator[None]:
        """Keeps the hooks in the model; in a recomputed region, calls are counted from those at its beginning."""
        with ExitStack() as stack:
            if has_compiled_code(self._modules.values()):
                stack.enter_context(force_eager())
            disable_fast_path(self._modules.values(), stack)
            if any(edit.address.operation is not None for edit in self._edits):
                self._operations = OperationMode()
                stack.enter_context(unwound())
            for edit in self._edits:
                self._install(edit, stack)
            if self._operations is not None:
                register_operations(self._operations, stack, before_captures=True)
            self._count(calls, stack)
            yield

    def _install(self, edit: Intervention, stack: ExitStack) -> None:
        module = self._modules[edit.address.path]
        if edit.address.operation is None:
            edit.install(module, stack)
        elif self._operations is not None:
            self._operations.watch(module, edit.address.operation, edit.address.number, edit)

    def _count(self, calls: Sequence[int] | None, stack: ExitStack) -> None:
        """Resets the counts of calls in each forward pass; in a recomputed region, sets those at its beginning."""
        if calls is not None:
            for edit, count in zip(self._edits, calls, strict=True):
                edit.calls = count
            return
        around = modules_around(self._modules, self._requests)
        # Calls are counted in each forward pass, so `@0` is the first call of each.
        forwards = ForwardTracker(self.scope, self._begin, lambda: None)
        forwards.install_begin(around, stack)
        forwards.install_end(around, stack)

    def _begin(self, *_: Any) -> None:
        """Resets the counts of calls at the beginning of a forward pass."""
        self._may_recompute = may_be_recomputed()
        for edit in self._edits:
            edit.calls = 0
        if self._operations is not None:
            self._operations.restart()

    def note_checkpoint(self) -> None:
        """Arranges that the edits are applied again when the checkpointed region that runs now is recomputed."""
        if self._may_recompute and may_be_checkpointed():
            wrap_checkpoints(self.scope, self._replay)

    def _replay(self) -> Replay:
        """Returns the function that edits a region again, from the calls at its beginning."""
        model, changes, scope = self._model, self._changes, self.scope
        calls = [edit.calls for edit in self._edits]

        @contextmanager
        def replay() -> Iterator[None]:
            # The open edit must not see the calls of the recomputation, or they would be edited twice.
            with scope.pause(), InterventionSet(model, changes)._register_hooks(calls):
                yield

        return replay

    def check_done(self) -> None:
        """Checks that every edit was applied.

        Raises:
            LayerNotRunError: If a layer did not run.
            OperationNotFoundError: If an operation did not run in its layer.
            AmbiguousOperationError: If several such operations ran and the address does not number them.
        """
        for request, edit in zip(self._requests, self._edits, strict=True):
            self._check_operation(request, edit)
        pairs = list(zip(self._requests, self._edits, strict=True))
        ran = [request for request, edit in pairs if edit.done]
        missing = required_requests([request for request, edit in pairs if not edit.done], ran)
        if missing:
            hint = explain_missing_call(self._model, missing)
            raise LayerNotRunError([request.name for request in missing], [request.name for request in ran], hint)

    def _check_operation(self, request: Request, edit: Intervention) -> None:
        if edit.address.operation is None or self._operations is None:
            return
        watcher = self._operations.watchers.get(id(self._modules[edit.address.path]))
        if watcher is not None and watcher.calls:
            check_operation(request, edit.done > 0, watcher.counts)
