"""The hook points of all requests, installed and removed together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn

from ..address import EXPERT_PARTS, Request, locate
from .experts import ExpertPoint
from .hook_points import HookPoint, Pass, register
from .layouts import LayoutFinder
from .operations import OperationMode


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
        self.modules = locate(model, requests)
        self.operations: OperationMode | None = None
        self._points: list[tuple[nn.Module, Request, HookPoint]] = []
        for request in requests:
            module, operation = self.modules[request.address.path], request.address.operation
            point = ExpertPoint(request, model) if operation in EXPERT_PARTS else HookPoint(request)
            self._points.append((module, request, point))
            if operation is not None and operation not in EXPERT_PARTS:
                # Without a requested operation, no function mode is built.
                self.operations = self.operations or OperationMode()  # built only if a request needs it
                self.operations.watch(module, operation, request.address.number, point)
        # `finders` is empty if no reduction depends on the layout.
        for (module, _, _), finder in zip(self._points, finders, strict=False):
            if finder is not None:
                finder.module = module

    def connect(self, forward: Pass) -> None:
        """Records from now on in the values of this forward pass, and in those of no other."""
        if self.operations is not None:
            self.operations.restart()
        for (module, request, point), value in zip(self._points, forward.values, strict=True):
            point.connected = (forward, value)
            point.substituted.clear()
            if self.operations is not None and request.address.operation is not None and type(point) is HookPoint:
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
        for module, request, point in self._points:
            if request.address.operation is None or isinstance(point, ExpertPoint):
                point.install(module, stack)
        if self.operations is not None:
            register_operations(self.operations, stack)


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
