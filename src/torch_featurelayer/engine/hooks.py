"""Hook points: the places of a model where values are recorded, on modules and on operations.

The order in which hooks of one module run:

1. before the forward: the start of a forward pass (`ForwardTracker`), edits, user pre-hooks, captures, operations;
2. the forward itself;
3. after the forward: operations, edits, user hooks, captures, the end of a forward pass.

A capture therefore records what edits and user hooks made of a value, which is what the model computes with. The order
follows from registration: PyTorch runs hooks in the order in which they were registered, and `prepend=True` puts one in
front of all others. Edits are prepended; captures are not, so they run after the user's hooks, except after those that
are registered while the capture is open.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._pytree import substitute, tensors
from ..address import ATTENTION_WEIGHTS, EXPERT_PARTS, Request, ancestors, locate
from .arguments import Arguments, replace_arguments
from .captured import CapturedValue
from .dynamo import force_eager
from .experts import ExpertHook
from .layouts import LayoutFinder
from .operations import OperationMode
from .scope import Scope

# Stands for a hook in a copy of its module: it accepts any arguments, returns None, and unpickles without this package.
_DO_NOTHING = nullcontext().__exit__


class TemporaryHook(partial):  # type: ignore[type-arg]
    """A hook that copies and pickles of its module do not get.

    A copy holds a function that does nothing in its place, until the hook is removed. A `functools.partial` rather than
    a class with `__call__`, because calling it adds no Python frame.
    """

    handle: RemovableHandle
    copies: tuple[weakref.ref[Any], ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # The copied dict of hooks is needed to remove the stand-in later; `memo` holds it by the id of the original.
        copied = memo.get(id(self.handle.hooks_dict_ref()))
        if copied is not None:
            self.copies += (weakref.ref(copied),)
        return _DO_NOTHING

    def __reduce__(self) -> Any:
        return getattr, (nullcontext(), "__exit__")

    def remove(self) -> None:
        """Removes the hook, and its stand-ins in deep copies of the module."""
        self.handle.remove()
        for reference in self.copies:
            hooks = reference()
            if hooks is not None:
                hooks.pop(self.handle.id, None)


def register(
    register_with: Callable[..., RemovableHandle], hook: Callable[..., Any], stack: ExitStack, **options: bool
) -> None:
    """Registers a temporary hook; the stack removes it.

    Args:
        register_with: The method of a module that registers it, such as `module.register_forward_hook`.
        hook: The hook.
        stack: The stack.
        **options: Passed to the method, such as `prepend=True`.
    """
    temporary = TemporaryHook(hook)
    temporary.handle = register_with(temporary, **options)
    stack.callback(temporary.remove)


def register_operations(mode: OperationMode, stack: ExitStack, *, before_captures: bool = False) -> None:
    """Registers the hooks with which a mode follows the running modules; the stack removes them.

    Args:
        mode: The mode.
        stack: The stack.
        before_captures: Whether the mode listens before captures of the same modules do, as edits need. Default: False.
    """
    for module, begin, end, is_watched in mode.hooks():
        # The innermost hooks run last before a forward and first after it. A watched module is followed from inside
        # the hooks of its captures; a module that pauses the mode is paused before any of its own hooks run.
        innermost = is_watched is not before_captures
        register(module.register_forward_pre_hook, begin, stack, prepend=not innermost)
        register(module.register_forward_hook, end, stack, prepend=innermost, always_call=True)
    stack.callback(mode.close)


class Pass(Protocol):
    """A forward pass that values are recorded for.

    Attributes:
        scope: The calls that belong to it.
        ran_elsewhere: Whether hooks ran for calls outside its scope, such as layers in another thread.
    """

    scope: Scope
    ran_elsewhere: bool

    @property
    def values(self) -> Sequence[CapturedValue]:
        """The captured value of each request."""

    def on_record(self, value: CapturedValue) -> None:
        """Takes note of a value that has just been recorded."""


class HookPoint:
    """The place that one request names, and the value that is recorded there.

    Args:
        request: The request.

    Attributes:
        connected: The forward pass that is recorded, and its value for the request; None while the hooks do nothing.
        substituted: The copies that replaced arguments: by their id, the copy, the argument, and the copy's version.
    """

    def __init__(self, request: Request) -> None:
        self.connected: tuple[Pass, CapturedValue] | None = None
        self.substituted: dict[int, tuple[Tensor, Tensor, int]] = {}
        self._port, self._index = request.address.port, request.address.index
        self._is_input = self._port in ("input", "grad_input")

    def install(self, module: nn.Module, stack: ExitStack) -> None:
        """Registers the hooks that the port of a module needs; the stack removes them."""
        if not self._is_input:
            register(module.register_forward_hook, self.after, stack)
            return
        register(module.register_forward_pre_hook, self.before, stack, with_kwargs=True)
        if self._port == "grad_input":
            register(module.register_forward_hook, self.write_back, stack, with_kwargs=True)

    def before(
        self, called: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, number: int | None = None
    ) -> Arguments | None:
        """Records the arguments: the forward pre-hook.

        Args:
            called: The module, or the function of an operation.
            args: The positional arguments.
            kwargs: The keyword arguments. PyTorch passes none to a hook that another thread is removing.
            number: The number of the call. Default: None, the next one.

        Returns:
            The arguments to call with: copies replace those whose gradient is requested. None if nothing is recorded.
        """
        if kwargs is None or not self._is_input or (current := self.current()) is None:
            return None
        forward, value = current
        given: Arguments = (args, kwargs)
        new = self._record_arguments(value, called, given, number)
        if new is not given:
            self._note_substitutes(given, new)
        forward.on_record(value)
        return new

    def after(self, _: Any, __: Any, output: Any, number: int | None = None) -> Any:
        """Records the output: the forward hook.

        Args:
            _: The module, or the function of an operation.
            __: The positional arguments.
            output: The output.
            number: The number of the call. Default: None, the next one.

        Returns:
            The output that the model continues with, in which copies may replace tensors; None if nothing is recorded.
        """
        if self._is_input or (current := self.current()) is None:
            return None
        forward, value = current
        output = value.record(output, number)
        forward.on_record(value)
        return output

    def write_back(self, _: Any, args: tuple[Any, ...], kwargs: Any, output: Any = None) -> Any:
        """Repeats on the model's own tensors what the module did in place to their copies: a forward hook."""
        if not self.substituted or not self.is_ours():
            return None
        written: dict[int, Tensor] = {}
        # A module that changes its arguments in place changed the copies, so the model's own tensors must follow.
        for copy in tensors((args, kwargs)):
            found = self.substituted.pop(id(copy), None)
            if found is not None and copy._version != found[2]:
                written[id(copy)] = found[1].copy_(copy)
        return substitute(output, lambda tensor: written.get(id(tensor), tensor)) if written else None

    def is_ours(self) -> bool:
        """Whether a forward pass is recorded and the running code belongs to it."""
        return self.connected is not None and self.connected[0].scope.is_current()

    def current(self) -> tuple[Pass, CapturedValue] | None:
        """Returns the forward pass and its value; None for a call that does not belong to the forward pass."""
        if self.connected is None:
            return None
        forward = self.connected[0]
        if forward.scope.is_current():
            return self.connected
        forward.ran_elsewhere = True  # for the error message, if the layer then seems not to have run
        return None

    def _record_arguments(self, value: CapturedValue, called: Any, given: Arguments, number: int | None) -> Arguments:
        """Records the arguments of a call, or one of them, and returns the arguments to call with."""
        try:
            new = replace_arguments(called, *given, self._index, lambda part: value.record(part, number, is_part=True))
        except LookupError as error:
            value.fail(str(error), number)
            return given
        return given if _are_same(given, new) else new

    def _note_substitutes(self, old: Arguments, new: Arguments) -> None:
        """Remembers which copies replace which arguments; views share memory and need no writing back."""
        for tensor, copy in zip(tensors(old), tensors(new), strict=True):
            if copy is not tensor and copy._base is not tensor:
                self.substituted[id(copy)] = (copy, tensor, copy._version)


def _are_same(old: Arguments, new: Arguments) -> bool:
    positional = all(one is other for one, other in zip(old[0], new[0], strict=True))
    return positional and (new[1] is old[1] or all(new[1][name] is old[1][name] for name in old[1]))


class HookSet:
    """The hook points of all requests, installed and removed together.

    Args:
        model: The model.
        requests: The requests.
        finders: Finds the layout of each request's tensors. Default: empty, no layouts are needed.

    Attributes:
        modules: The modules that requests name and the modules around those, by path.
        operations: Records operations; None if no request names one.

    Raises:
        LayerNotFoundError: If a layer has been removed from the model since the request was resolved.
    """

    def __init__(
        self, model: nn.Module, requests: Sequence[Request], finders: Sequence[LayoutFinder | None] = ()
    ) -> None:
        self._model, self._has_flex = model, False
        self.modules = locate(model, requests)
        self.operations: OperationMode | None = None
        self._points: list[tuple[nn.Module, Request, HookPoint]] = []
        for request in requests:
            module, point = self.modules[request.address.path], HookPoint(request)
            self._points.append((module, request, point))
            operation = request.address.operation
            if operation == ATTENTION_WEIGHTS:
                self._has_flex |= _is_flex(module)
            if operation is not None and operation not in EXPERT_PARTS:
                # Without a requested operation, no function mode is built.
                self.operations = self.operations or OperationMode()  # built only if a request needs it
                self.operations.watch(module, operation, request.address.number, point)
        # `finders` is empty if no reduction depends on the layout.
        for (module, _, _), finder in zip(self._points, finders, strict=False):
            if finder is not None:
                finder.module = module

    def followed(self) -> list[nn.Module]:
        """Returns the modules whose own code calls requested layers or runs requested operations."""
        operating = [module for module, request, _ in self._points if request.address.operation is not None]
        return [*modules_around(self.modules, [request for _, request, _ in self._points]), *operating]

    def connect(self, forward: Pass) -> None:
        """Records from now on in the values of this forward pass, and in those of no other."""
        if self.operations is not None:
            self.operations.restart()
        for (module, request, point), value in zip(self._points, forward.values, strict=True):
            point.connected = (forward, value)
            point.substituted.clear()
            operation = request.address.operation
            if self.operations is not None and operation is not None and operation not in EXPERT_PARTS:
                value.operations = self.operations.watchers[id(module)]

    def disconnect(self) -> None:
        """Makes every hook do nothing."""
        for _, _, point in self._points:
            point.connected = None
            point.substituted.clear()

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Keeps the hooks of all points in the model, or of none, and removes them whatever is raised."""
        with ExitStack() as stack:
            self.install(stack)
            yield

    def install(self, stack: ExitStack) -> None:
        """Registers the hooks; the stack removes them."""
        disable_fast_path(self.modules.values(), stack)
        if self._has_flex:
            # Its kernel is compiled, and the weights are those of its arguments.
            stack.enter_context(force_eager(None))
        for module, request, point in self._points:
            if request.address.operation is None:
                point.install(module, stack)
            elif request.address.operation in EXPERT_PARTS:
                register_with, hook, options = ExpertHook(point, request, self._model).find(module)
                register(register_with, hook, stack, **options)
        if self.operations is not None:
            register_operations(self.operations, stack)


def modules_around(modules: dict[str, nn.Module], requests: Iterable[Request]) -> list[nn.Module]:
    """Returns the model and the modules around requested layers, without duplicates: their calls are forward passes."""
    paths = {"", *(outer for request in requests for outer in ancestors(request.address.path))}
    return list({id(modules[path]): modules[path] for path in paths if path in modules}.values())


def _is_flex(module: nn.Module) -> bool:
    """Whether a module of transformers runs flex attention, which compiles itself."""
    return getattr(getattr(module, "config", None), "_attn_implementation", None) == "flex_attention"


def disable_fast_path(modules: Iterable[nn.Module], stack: ExitStack) -> None:
    """Makes `nn.TransformerEncoder` and its layers call the modules inside them, as they do in train mode.

    The encoder's fast path converts its input to a nested tensor, which its layers refuse while they have hooks. The
    fast path of a layer is one fused kernel; before PyTorch 2.6 it is taken even if modules inside have hooks, which
    then never run.
    """
    for module in modules:
        if isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False):
            _set(module, "use_nested_tensor", False, stack)
        if isinstance(module, nn.TransformerEncoderLayer) and module.activation_relu_or_gelu:
            _set(module, "activation_relu_or_gelu", 0, stack)


def _set(module: nn.Module, name: str, value: object, stack: ExitStack) -> None:
    # Restored by the stack even if a later hook cannot be registered.
    stack.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, value)
