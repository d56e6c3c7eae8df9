"""The values that one request keeps, over the calls of its module."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .._errors import (
    AmbiguousCallError,
    CallNotMadeError,
    FeatureLayerError,
    GradientError,
    LayoutError,
    StructureError,
    TransformError,
    UncopyableValueError,
)
from .._pytree import UncopyableError, replace_part, select, snapshot, substitute, tensors
from ..address import Request
from ._torch_private import in_function_transform, transform_level
from .call_selector import CallSelector
from .copy_on_write import Copy, copier
from .diagnostics import check_operation
from .layouts import LayoutFinder
from .options import Options


class OperationCounts(Protocol):
    """How often a module and the operations directly inside it ran in one forward pass."""

    @property
    def calls(self) -> int:
        """How often the module was called."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each operation ran in one call, at most."""


@dataclass(slots=True, eq=False)
class GradientHandle:
    """A gradient that `backward()` brings.

    Attributes:
        name: The address of the request.
    """

    name: str
    _gradients: Gradients

    @property
    def value(self) -> Any:
        """The gradient, in the structure of the value: detached, with memory of its own.

        A second backward through the same forward replaces it.

        Raises:
            GradientError: If backward has not reached the layer.
        """
        return self._gradients.get(self.name)


class CapturedValue:
    """Keeps the values of the calls that one request wants.

    Args:
        request: The request.
        options: How values are kept.
        copy: How tensors are copied in this forward pass.
        selector: Which calls are wanted.
        layouts: Finds the layout of tensors, for reductions that need it.
        level: The level of the `torch.func` transform that the capture was opened in, 0 for none; None: not checked.
        is_traced: Whether `torch.jit.trace` records the forward pass.

    Attributes:
        calls: The number of calls seen so far; of an operation, the calls of its module up to the last that ran it.
        operations: The operations of the module, for a request of one.
        gradients: The gradients of each call, for a request of them.
        may_be_recomputed: Whether a checkpointed region ran, which gets its gradients when it is computed again.
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
        self.calls = 0
        self.operations: OperationCounts | None = None
        self.gradients: dict[int, Gradients] = {}
        self.may_be_recomputed = False
        self._copy, self._layouts, self._level, self._is_traced = copy, layouts, level, is_traced
        self._last = selector.last
        self._wants_all = self._last is None and (selector.call is None or selector.keeps_all)
        self._kept: deque[tuple[int, Any]] = deque(maxlen=None if selector.keeps_all else selector.from_end)

    def restart(self) -> None:
        """Forgets the kept values: the next call is the first again."""
        self.calls = 0
        self.gradients = {}
        self._kept.clear()

    @property
    def is_just_filled(self) -> bool:
        """Whether the call just recorded was the last one wanted."""
        return self._last is not None and self.calls == self._last + 1

    @property
    def kept(self) -> list[tuple[int, Any]]:
        """The kept values with the numbers of their calls, as `load` takes them back."""
        return list(self._kept)

    def load(self, calls: int, kept: list[tuple[int, Any]]) -> None:
        """Takes over the values that another forward pass kept, as a compiled one returns them."""
        self.calls = calls
        self._kept.extend(kept)

    def record(self, value: Any, number: int | None = None) -> Any:
        """Keeps the value of the next call, or the part of it that the request's index names, if the call is wanted.

        Args:
            value: The value of the port.
            number: The number of the call; None counts on.

        Returns:
            The value to go on into the model: the same object, or one in which copies replace tensors.
        """
        return self._recorded(value, number, self.request.address.index)

    def record_part(self, part: Any, number: int | None = None) -> Any:
        """Keeps the part of a value that the request's index names, as `record` does."""
        return self._recorded(part, number, ())

    def fail(self, problem: str, number: int | None = None) -> None:
        """Keeps, in place of a value, the error that the request's index does not fit."""
        if (wanted := self._next(number)) is not None:
            self._kept.append((wanted, StructureError(self.request.name, problem)))

    def _next(self, number: int | None) -> int | None:
        """Counts a call; returns its number if it is wanted."""
        number = self.calls if number is None else number
        self.calls = number + 1
        return number if self._wants_all or self.selector.wants(number) else None

    def _recorded(self, value: Any, number: int | None, index: Sequence[int | str]) -> Any:
        wanted = self._next(number)
        if wanted is None:
            return value
        try:
            return self._keep(value, wanted, index)
        except LayoutError as error:
            problem: FeatureLayerError = error.of(self.request.name)
        except FeatureLayerError as error:
            problem = error
        except UncopyableError as error:
            problem = UncopyableValueError(self.request.name, error.kind, error.problem)
        self._kept.append((wanted, problem))  # raised when it is read: the model may catch exceptions
        return value

    def _keep(self, value: Any, number: int, index: Sequence[int | str]) -> Any:
        part = value
        try:
            for step in index:
                part = select(part, step)
        except LookupError as error:
            raise StructureError(self.request.name, str(error)) from None
        if self._level is not None and in_function_transform():
            self._check_level(part)
        if self.request.address.is_gradient:
            gradients = self.gradients.setdefault(number, Gradients(self.options, self._layouts))
            live = gradients.watch(part)
            self._kept.append((number, gradients))
            return value if live is part else replace_part(value, index, lambda _: live)
        through: dict[int, Tensor] = {}
        feature = self._feature(part, through)
        self._kept.append((number, self.options.finish(feature, self._layouts)))
        return substitute(value, lambda tensor: through.get(id(tensor), tensor)) if through else value

    def _feature(self, part: Any, through: dict[int, Tensor]) -> Any:
        """Copies the tensors of a value.

        An output that carries gradient gets two copies in a row: the feature,
        and one of the feature that goes on into the model. So the feature is on
        the path to the model's output, and nothing else can write to it.
        """
        copy, options = self._copy, self.options
        # A traced graph has no gradients, and tracing twice must give the same graph.
        on_path = self.request.address.port == "output" and options.clone is not False and not self._is_traced

        def keep(tensor: Tensor) -> Tensor:
            kept = copy(tensor.detach() if options.detach else tensor)
            if on_path and kept.requires_grad:
                through[id(tensor)] = copy(kept)
            return kept

        return keep(part) if isinstance(part, Tensor) else snapshot(part, keep)

    def _check_level(self, part: Any) -> None:
        """Refuses tensors of a `torch.func` transform that ends before the feature is read."""
        if any(transform_level(tensor) > (self._level or 0) for tensor in tensors(part)):
            raise TransformError(self.request.name)

    def result(self) -> Any:
        """Returns the feature: a value, a `GradientHandle`, or for `@*` a list of them.

        Raises:
            CallNotMadeError: If the module ran less often than the address says.
            GradientError: If nothing in the value carries gradient.
            OperationNotFoundError, AmbiguousOperationError: If the operation did not run, or ran several times.
        """
        self.check_operation()
        if self.selector.keeps_all:
            return [self._finished(value) for _, value in self._kept]
        for number, value in reversed(self._kept):
            if self._is_wanted(number):
                return self._finished(value)
        raise CallNotMadeError(self.request.name, self._module_calls)

    def _is_wanted(self, number: int) -> bool:
        """Whether a call is the wanted one, now that the module does not run again."""
        call = self.selector.call
        if self.selector.is_done(self.calls):
            return number == self._last or call is None
        return call is None or call == number or call == number - self._module_calls

    @property
    def _module_calls(self) -> int:
        return self.calls if self.operations is None else self.operations.calls

    def _finished(self, value: Any) -> Any:
        if isinstance(value, FeatureLayerError):
            raise value
        if not isinstance(value, Gradients):
            return value
        if not value.possible and not self.may_be_recomputed:
            raise GradientError(
                self.request.name,
                "nothing here requires grad, so no gradient will come. Run without torch.no_grad() "
                "and inference_mode, with parameters, or an input (image.requires_grad_()), that require grad.",
            )
        return GradientHandle(self.request.name, value)

    def check_operation(self) -> None:
        """Refuses an operation that did not run in the module, or whose number is needed and missing.

        Raises:
            OperationNotFoundError: If no such operation ran directly inside the module.
            AmbiguousOperationError: If several ran and the address does not number them.
        """
        if self.operations is not None:
            check_operation(self.request, self.calls > 0, self.operations.counts)

    def check_unambiguous(self) -> None:
        """Refuses an early stop where the address does not say which call to stop after.

        Raises:
            AmbiguousCallError: If an unmarked module ran more than once, or a
                module ran more often than when its calls were counted.
        """
        call, expected = self.selector.call, self.selector.expected
        if expected == 0 and self.calls:
            raise AmbiguousCallError(self.request.name, self.calls, expected)
        if call is None and self.calls > 1:
            raise AmbiguousCallError(self.request.name, self.calls)
        is_counted = call == "*" or (call is not None and call < 0)
        if is_counted and expected is not None and self.calls > expected:
            raise AmbiguousCallError(self.request.name, self.calls, expected)


class Gradients:
    """The gradients of one captured value, filled by `backward()`.

    They come by tensor hooks on copies that go on into the model.
    `nn.Module.register_full_backward_hook` raises on every module whose output is
    later changed in place ("Output 0 of BackwardHookFunction is a view and is being
    modified inplace"). A tensor hook on a copy has no such limit: it receives the
    gradient with respect to the value before any change.

    Args:
        options: How a gradient is kept.
        layouts: Finds the layout of tensors, for reductions that need it.

    Attributes:
        possible: Whether any tensor of the value carries gradient.
    """

    def __init__(self, options: Options, layouts: LayoutFinder | None = None) -> None:
        self.possible = False
        self._options, self._layouts = options, layouts
        self._copy = copier(options.clone or "lazy")
        self._structure: Any = None
        self._received: dict[int, Any] = {}

    def watch(self, value: Any) -> Any:
        """Hooks the tensors of a value; each place of a tensor has a gradient of its own.

        Watching again, as a checkpointed region is computed again, adds hooks for the same gradients.

        Returns:
            The value that goes on into the model.
        """
        counts = Counter(id(tensor) for tensor in tensors(value))
        copies: dict[int, Tensor] = {}

        def separate(tensor: Tensor) -> Tensor:
            if not tensor.requires_grad:
                return tensor
            # Places that share one tensor must go on sharing its memory, so they get views.
            copy = tensor.view_as(tensor) if counts[id(tensor)] > 1 else self._copy(tensor)
            copies[id(copy)] = copy
            return copy

        live = substitute(value, separate)
        numbers: list[int] = []
        self._structure = snapshot(live, lambda tensor: self._hooked(tensor, numbers))
        return live

    def _hooked(self, tensor: Tensor, numbers: list[int]) -> Tensor:
        """Hooks the tensor at the next place, and returns a tensor that stands for the place."""
        number = len(numbers)
        numbers.append(number)
        if tensor.requires_grad:
            self.possible = True
            tensor.register_hook(self._receiver(number, tensor))  # type: ignore[no-untyped-call]
        return torch.empty(number, device="meta")

    def _receiver(self, number: int, tensor: Tensor) -> Callable[[Tensor], None]:
        options, copy, received = self._options, self._copy, self._received
        layout = self._layouts.find(tensor) if self._layouts is not None else None

        def receive(gradient: Tensor) -> None:
            received[number] = options.finish_tensor(copy(gradient.detach()), layout)

        return receive

    def get(self, name: str) -> Any:
        """Returns the gradients in the structure of the value, None where no gradient came.

        Raises:
            GradientError: If backward has not reached the value.
        """
        if not self._received:
            raise GradientError(
                name,
                "no gradient has arrived: call backward() on something that the model computes "
                "from this very value, then read it.",
            )
        return snapshot(self._structure, lambda place: self._received.get(len(place)))
