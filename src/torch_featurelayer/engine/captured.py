"""Captured values: what one request keeps over the calls of its module, and gradients that arrive later."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from .._exceptions import (
    AmbiguousCallError,
    AmbiguousOperationError,
    CallNotMadeError,
    FeatureLayerError,
    GradientError,
    LayoutError,
    OperationNotFoundError,
    StructureError,
    TransformError,
    UncopyableValueError,
)
from .._pytree import UncopyableError, describe, replace_part, select, snapshot, substitute, tensors
from ..address import GRADIENT_PORTS, Request
from ._torch_private import in_function_transform
from .call_selector import CallSelector
from .copy_on_write import Copy, copier
from .layouts import LayoutFinder
from .options import Options
from .scope import is_transformed


class OperationCounts(Protocol):
    """Counts of the calls of a module and of the operations directly inside it, in one forward pass."""

    @property
    def calls(self) -> int:
        """The number of calls of the module."""

    @property
    def counts(self) -> Mapping[str, int]:
        """The largest number of times that each operation ran in one call, by name."""


@dataclass(slots=True, eq=False)
class GradientHandle:
    """A gradient that becomes available when `backward()` has run.

    `Features` reads it when it is indexed, so a handle is met only as an element of `@*` lists and in other containers
    that hold features.

    Attributes:
        name: The address of the request.
    """

    name: str
    _gradients: Gradients

    @property
    def value(self) -> Any:
        """The gradient, in the structure of the value: a detached copy.

        A second backward pass through the same forward pass replaces it.

        Raises:
            GradientError: If no backward pass has reached the value.
        """
        return self._gradients.get(self.name)


class CapturedValue:
    """Keeps the values of the calls that one request selects.

    Args:
        request: The request.
        options: How values are kept.
        copy: The function that copies tensors in this forward pass.
        selector: Which calls are wanted.
        layouts: Finds the layout of tensors, for reductions that depend on it. Default: None.
        level: The level of the `torch.func` transform in which the capture was opened: 0 for none (default), None to
            skip the check.
        is_traced: Whether `torch.jit.trace` records the forward pass. Default: False.

    Attributes:
        calls: The number of calls so far; for an operation, of the calls of its module up to the last that ran it.
        last: The number of the last call that is wanted; None if it is not known.
        operations: The operations of the module, for a request of an operation.
        gradients: The gradients of each call, for a request of a gradient.
        may_be_recomputed: Whether a checkpointed region ran, whose gradients arrive when it is recomputed.
    """

    def __init__(
        self,
        request: Request,
        options: Options,
        copy: Copy,
        selector: CallSelector,
        layouts: LayoutFinder | None = None,
        level: int | None = 0,
        is_traced: bool = False,
    ) -> None:
        self.request, self.options, self.selector = request, options, selector
        self.calls, self.last = 0, selector.last
        self.operations: OperationCounts | None = None
        self.gradients: dict[int, Gradients] = {}
        self.may_be_recomputed = False
        self._copy, self._layouts, self._level = copy, layouts, level
        self._is_gradient = request.address.port in GRADIENT_PORTS
        # A traced graph has no gradients, and tracing twice must give the same graph.
        self._is_on_path = request.address.port == "output" and options.clone is not False and not is_traced
        # From the end, only the latest calls can be wanted: older values are freed.
        self._kept: deque[tuple[int, Any]] = deque(maxlen=None if selector.keeps_all else selector.from_end)

    def select_anew(self, selector: CallSelector) -> None:
        """Selects calls of which the last is not known; the calls so far were kept in any case."""
        self.selector, self.last = selector, selector.last

    def restart(self) -> None:
        """Discards the kept values: the next call is the first again."""
        self.calls = 0
        self.gradients = {}
        self._kept.clear()

    @property
    def kept(self) -> list[tuple[int, Any]]:
        """The kept values with the numbers of their calls, as `load` accepts them."""
        return list(self._kept)

    def load(self, calls: int, kept: list[tuple[int, Any]]) -> None:
        """Takes over the values that another forward pass kept, such as a compiled one."""
        self.calls = calls
        self._kept.extend(kept)

    def record(self, value: Any, number: int | None = None, *, is_part: bool = False) -> Any:
        """Keeps the value of a call, or the part that the request's index names, if the call is wanted.

        Args:
            value: The value of the port.
            number: The number of the call. Default: None, the next one.
            is_part: Whether `value` is already the part that the index names. Default: False.

        Returns:
            The value that the model continues with: the same object, or one in which copies replace tensors.
        """
        number = self.calls if number is None else number
        self.calls = number + 1
        if not (self.last is None or self.selector.wants(number)):  # if the last is not known, any call is wanted
            return value
        index = () if is_part else self.request.address.index
        try:
            return self._keep(value, number, index)
        except LayoutError as error:
            hint = self._hint_at_part(self._select(value, index))
            problem: FeatureLayerError = error.of(self.request.name, hint)
        except FeatureLayerError as error:
            problem = error
        except UncopyableError as error:
            problem = UncopyableValueError(self.request.name, error.kind, error.problem)
        # Raised when the feature is read, not here: the model may catch exceptions that hooks raise.
        self._kept.append((number, problem))
        return value

    def fail(self, problem: str, number: int | None = None) -> None:
        """Keeps, in place of a value, the error that the request's index does not fit the call.

        Args:
            problem: What is there instead.
            number: The number of the call. Default: None, the next one.
        """
        number = self.calls if number is None else number
        self.calls = number + 1
        if self.selector.wants(number):
            self._kept.append((number, StructureError(self.request.name, problem)))

    def _keep(self, value: Any, number: int, index: Sequence[int | str]) -> Any:
        """Keeps the part of a value, and returns the value that the model continues with.

        An output that requires grad is copied twice: the feature is the copy, and the model continues with a copy of
        the feature. The feature is then on the path to the model's output, and the model cannot write to it.
        """
        part = self._select(value, index) if index else value
        # Its value ends with the transform, before the feature is read.
        if self._level is not None and in_function_transform() and is_transformed(part, self._level):
            raise TransformError(self.request.name)
        if self._is_gradient:
            return self._watch(value, part, number, index)
        copy, detach, on_path = self._copy, self.options.detach, self._is_on_path
        onward: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            # Detached before it is copied, so that the copy is not recorded in the graph.
            kept = copy(tensor.detach() if detach else tensor)
            if on_path and kept.requires_grad:
                # The second copy: the feature itself must not be writable by the model.
                onward[id(tensor)] = copy(kept)
            return kept

        feature = keep(part) if isinstance(part, Tensor) else snapshot(part, keep)
        if self.options.changes_features:
            feature = self.options.finish(feature, self._layouts)
        self._kept.append((number, feature))
        if not onward:
            return value
        if isinstance(value, Tensor):
            return onward[id(value)]
        return substitute(value, lambda tensor: onward.get(id(tensor), tensor))

    def _hint_at_part(self, feature: Any) -> str:
        """Returns how to name one of several tensors, for which no layout may fit all; empty for a single one."""
        if sum(1 for _ in tensors(feature)) < 2:
            return ""
        address = self.request.address
        step = next(iter(feature)) if isinstance(feature, Mapping) else 0
        part = replace(address, index=(*address.index, step))
        return f"It is one of several tensors in {describe(feature)}: name the one you need, such as {str(part)!r}."

    def _select(self, value: Any, index: Sequence[int | str]) -> Any:
        try:
            for step in index:
                value = select(value, step)
        except LookupError as error:
            raise StructureError(self.request.name, str(error)) from None
        return value

    def _watch(self, value: Any, part: Any, number: int, index: Sequence[int | str]) -> Any:
        """Registers for the gradients of a part, and returns the value that the model continues with."""
        gradients = self.gradients.setdefault(number, Gradients(self.options, self._layouts))
        watched = gradients.watch(part)
        self._kept.append((number, gradients))
        return value if watched is part else replace_part(value, index, lambda _: watched)

    def result(self) -> Any:
        """Returns the feature: a value, a `GradientHandle`, or for `@*` a list of them.

        Raises:
            CallNotMadeError: If the module ran fewer times than the address says.
            GradientError: If a gradient is requested and no tensor of the value requires grad.
            OperationNotFoundError: If the operation did not run in the module.
            AmbiguousOperationError: If several such operations ran and the address does not number them.
        """
        if self.operations is not None:
            check_operation(self.request, self.calls > 0, self.operations.counts)
        if self.selector.keeps_all:
            return [self._resolve(value) for _, value in self._kept]
        calls = self.calls if self.operations is None else self.operations.calls
        # The latest kept call first: for `@-1` and an unmarked address it is the wanted one.
        for number, value in reversed(self._kept):
            if self.selector.call is None or self.selector.selects(number, self.calls, calls):
                return value if isinstance(value, Tensor) else self._resolve(value)
        raise CallNotMadeError(self.request.name, calls)

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, FeatureLayerError):
            raise value
        if not isinstance(value, Gradients):
            return value
        if not value.possible and not self.may_be_recomputed:
            raise GradientError(
                self.request.name,
                "no tensor here requires grad, so there is no gradient. Run the model without torch.no_grad() and "
                "torch.inference_mode(), with parameters or an input (image.requires_grad_()) that require grad.",
            )
        return GradientHandle(self.request.name, value)

    def check_unambiguous(self) -> None:
        """Checks that an early stop knows after which call to stop.

        Raises:
            AmbiguousCallError: If the module ran several times and the address has no `@call`, or if it ran more often
                than in the forward pass that counted its calls.
        """
        call, expected = self.selector.call, self.selector.expected
        # Counted in a forward pass that did not call the layer at all.
        if expected == 0 and self.calls:
            raise AmbiguousCallError(self.request.name, self.calls, expected)
        if call is None and self.calls > 1:
            raise AmbiguousCallError(self.request.name, self.calls)
        is_counted = call == "*" or (call is not None and call < 0)
        if is_counted and expected is not None and self.calls > expected:
            raise AmbiguousCallError(self.request.name, self.calls, expected)


def check_operation(request: Request, ran: bool, counts: Mapping[str, int]) -> None:
    """Checks that an operation ran in its module, and that its number is given where it is needed.

    Args:
        request: The request of the operation.
        ran: Whether its value was recorded.
        counts: The number of times that each operation ran in one call of the module.

    Raises:
        OperationNotFoundError: If no such operation ran directly inside the module.
        AmbiguousOperationError: If several ran and the address does not number them.
    """
    operation, number = request.address.operation or "", request.address.number
    count = counts.get(operation, 0)
    if not ran and count <= (number or 0):
        raise OperationNotFoundError(request.name, operation, counts)
    if number is None and count > 1:
        raise AmbiguousOperationError(request.name, operation, count)


class Gradients:
    """The gradients of one captured value, which `backward()` fills in.

    They are received by tensor hooks on copies that the model continues with. Module backward hooks are not used:
    `nn.Module.register_full_backward_hook` raises for every module whose output is later changed in place ("Output 0 of
    BackwardHookFunction is a view and is being modified inplace"). A tensor hook on a copy has no such limit, and
    receives the gradient with respect to the value before any change.

    Args:
        options: How gradients are kept.
        layouts: Finds the layout of tensors, for reductions that depend on it. Default: None.

    Attributes:
        possible: Whether any tensor of the value requires grad.
    """

    def __init__(self, options: Options, layouts: LayoutFinder | None = None) -> None:
        self.possible = False
        self._options, self._layouts = options, layouts
        self._copy = copier(options.clone or "lazy")
        self._structure: Any = None
        self._received: dict[int, Any] = {}

    def watch(self, value: Any) -> Any:
        """Registers tensor hooks on a value; a tensor that occurs twice has a gradient for each occurrence.

        Watching again, when a checkpointed region is recomputed, adds hooks for the same gradients.

        Returns:
            The value that the model continues with.
        """
        # `module(x, x)` has two gradients for one tensor.
        counts = Counter(id(tensor) for tensor in tensors(value))
        copies: dict[int, Tensor] = {}

        def separate(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            # Occurrences of one tensor must keep sharing its memory, so they get views.
            copy = tensor.view_as(tensor) if counts[id(tensor)] > 1 else self._copy(tensor)
            copies[id(copy)] = copy
            return copy

        live = substitute(value, separate)
        numbers: list[int] = []
        # Only the structure is kept: the tensors themselves would hold the graph.
        self._structure = snapshot(live, lambda tensor: self._register_hook(tensor, numbers))
        return live

    def _register_hook(self, tensor: Tensor, numbers: list[int]) -> Tensor:
        """Registers a hook on the next tensor, and returns an empty tensor that encodes its number in its length."""
        number = len(numbers)
        numbers.append(number)
        if tensor.requires_grad:
            self.possible = True
            tensor.register_hook(self._receiver(number, tensor))  # type: ignore[no-untyped-call]
        return torch.empty(number, device="meta")

    def _receiver(self, number: int, tensor: Tensor) -> Callable[[Tensor], None]:
        options, copy, received = self._options, self._copy, self._received
        # Found now, because the tracker of the forward pass has ended when the gradient arrives.
        layout = self._layouts.find(tensor) if self._layouts is not None else None

        def receive(gradient: Tensor) -> None:
            received[number] = options.finish_tensor(copy(gradient.detach()), layout)

        return receive

    def get(self, name: str) -> Any:
        """Returns the gradients in the structure of the value, with None where no gradient arrived.

        Raises:
            GradientError: If no backward pass has reached the value.
        """
        if not self._received:
            raise GradientError(
                name,
                "no gradient has arrived. Call backward() on a tensor that the model computed from this value, then "
                "read the gradient.",
            )
        return snapshot(self._structure, lambda place: self._received.get(len(place)))
