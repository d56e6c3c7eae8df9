"""Interventions: values replaced on their way, at the places that capture reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .._errors import (
    EditError,
    LayerNotRunError,
    StructureError,
)
from .._pytree import describe, replace_part, snapshot
from ..address import ATTENTION_WEIGHTS, Address, Request, located
from .arguments import as_value, positional_names
from .compiled import force_eager
from .copying import copier
from .forwards import Forwards
from .hints import check_operation, why_not_run
from .modes import unwound
from .operations import Operations
from .sites import Arguments, Site

Value: TypeAlias = Tensor | float | Callable[[Any], Any]


class Edit(Site):
    """One value that is replaced, each time it passes.

    Attributes:
        done: How often it was replaced.
    """

    def __init__(self, request: Request, value: Value) -> None:
        super().__init__()
        self.name, self.address, self.value = request.name, _editable(request), value
        self.calls = self.done = 0
        self.thread = get_ident()

    def is_ours(self) -> bool:
        """Whether this is the thread that edits."""
        return self.thread == get_ident()

    def install(self, module: nn.Module, stack: ExitStack) -> None:
        """Registers the hook of a module's port, before those of captures, so that they see the new value."""
        if self.address.port == "input":
            hook = module.register_forward_pre_hook(self.before, with_kwargs=True, prepend=True)
        else:
            hook = module.register_forward_hook(self.after, prepend=True)
        stack.callback(hook.remove)

    def before(self, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Arguments | None:
        """The forward pre-hook: replaces arguments."""
        if kwargs is None or self.address.port != "input" or not self._is_wanted():
            return None
        return self._with_arguments(called, args, kwargs)

    def take_back(self, *_: Any) -> None:
        """Nothing was lent."""

    def after(self, _: Any, __: Any, output: Any) -> Any:
        """The forward hook: replaces the output."""
        if self.address.port != "output" or not self._is_wanted():
            return None
        return self._replaced(output, self.address.index)

    def _is_wanted(self) -> bool:
        if not self.is_ours():
            return False
        number, call = self.calls, self.address.call
        self.calls += 1
        wanted = call in (None, "*", number)
        self.done += wanted
        return wanted

    def _with_arguments(self, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        index = self.address.index
        if index:
            first, *rest = index
            if first in kwargs:
                return args, {**kwargs, first: self._replaced(kwargs[first], tuple(rest))}
            place = first if isinstance(first, int) else _position(called, first)
            if place is None or not -len(args) <= place < len(args):
                raise StructureError(self.name, f"there is no argument {first!r}")
            new = self._replaced(args[place], tuple(rest))
            place %= len(args)
            return (*args[:place], new, *args[place + 1 :]), kwargs
        value = as_value(called, args, kwargs)
        new = self._replaced(value, ())
        if len(args) + len(kwargs) == 1:
            return ((new,), {}) if args else ((), dict.fromkeys(kwargs, new))
        if isinstance(value, tuple):
            return tuple(new), kwargs
        return tuple(list(new.values())[: len(args)]), {name: new[name] for name in kwargs}

    def _replaced(self, value: Any, index: Sequence[int | str]) -> Any:
        try:
            return replace_part(value, index, self._new)
        except LookupError as error:
            raise StructureError(self.name, str(error)) from None

    def _new(self, old: Any) -> Any:
        if callable(self.value):
            new = self.value(snapshot(old, copier("lazy")))
            if new is None and old is not None:
                raise EditError(self.name, "the function returned None: it must return the new value.")
            return new
        if not isinstance(old, Tensor):
            raise EditError(self.name, f"it is {describe(old)}. Name the part with [index], or give a function.")
        if not isinstance(self.value, Tensor):
            return torch.full_like(old, self.value)
        try:
            new = self.value.to(old.device, old.dtype).expand(old.shape)
            return new.clone(memory_format=torch.contiguous_format)  # the model may write to it
        except RuntimeError:
            shapes = f"{list(self.value.shape)} does not fit {list(old.shape)}"
            raise EditError(self.name, f"a tensor of shape {shapes}.") from None


def _editable(request: Request) -> Address:
    address = request.address
    if address.is_gradient:
        raise EditError(request.name, "gradients are captured, not edited.")
    if address.operation == ATTENTION_WEIGHTS:
        raise EditError(request.name, "these weights are computed beside the model; edit its fused operation.")
    if isinstance(address.call, int) and address.call < 0:
        raise EditError(request.name, "which call is the last is not known beforehand: count from the first, @0.")
    return address


def _position(called: Any, name: str) -> int | None:
    names = positional_names(called)
    return names.index(name) if name in names else None


class Edits:
    """Edits of one model, for the length of a context.

    Args:
        model: The model.
        changes: What is replaced by what.
    """

    def __init__(self, model: nn.Module, changes: Mapping[Request, Value]) -> None:
        self.model = model
        self.edits = [Edit(request, value) for request, value in changes.items()]
        self._requests = list(changes)
        self._modules = located(model, self._requests)
        self._operations = Operations()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Edits while inside: hooks go in all or none, and come off whatever is raised."""
        with force_eager(self._modules.values()), ExitStack() as stack, unwound():
            for edit in self.edits:
                self._install(edit, stack)
            self._operations.install(stack, first=True)
            forwards = Forwards(self._begin, lambda: None)
            forwards.install_begin(self.model, stack)
            forwards.install_end(self.model, stack)
            yield

    def _install(self, edit: Edit, stack: ExitStack) -> None:
        module = self._modules[edit.address.path]
        if edit.address.operation is None:
            edit.install(module, stack)
        else:
            self._operations.watch(module, edit.address.operation, edit.address.number, edit)

    def _begin(self) -> None:
        """A forward of the model begins: calls are counted from 0 again."""
        for edit in self.edits:
            edit.calls = 0

    def check_done(self) -> None:
        """Refuses an edit that changed nothing, or that does not say which operation it is of.

        Raises:
            LayerNotRunError, OperationNotFoundError, AmbiguousOperationError: What they say.
        """
        for request, edit in zip(self._requests, self.edits, strict=True):
            self._check_operation(request, edit)
        missing = [r for r, edit in zip(self._requests, self.edits, strict=True) if not edit.done]
        if missing:
            ran = [edit.name for edit in self.edits if edit.done]
            raise LayerNotRunError([request.name for request in missing], ran, why_not_run(self.model, missing))

    def _check_operation(self, request: Request, edit: Edit) -> None:
        watcher = self._operations.watchers.get(id(self._modules[edit.address.path]))
        if edit.address.operation is not None and watcher is not None and watcher.calls:
            check_operation(request, edit.done > 0, watcher.counts)
