"""What one request keeps, over the calls of its module."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .._errors import (
    AmbiguousCallError,
    CallNotMadeError,
    GradientError,
    StructureError,
)
from .._pytree import select, snapshot
from ..address import Request
from .copying import Copy
from .gradients import Gradients
from .hints import check_operation
from .options import Options


@dataclass(slots=True, eq=False)
class Gradient:
    """A gradient that `backward()` brings.

    Attributes:
        name: The address it was asked for by.
    """

    name: str
    _gradients: Gradients

    @property
    def value(self) -> Any:
        """The gradient, in the structure of the value: detached, with memory of its own.

        A second backward through the same forward replaces it.

        Raises:
            GradientError: Backward has not reached the layer.
        """
        return self._gradients.get(self.name)


class Slot:
    """Keeps the values of the calls one request wants.

    Args:
        request: What is wanted.
        options: How it is kept.
        copy: How tensors are copied in this run.
        calls: How often the module runs, where that was learnt: the run may
            then stop once the request is filled.

    Attributes:
        operations: What ran directly inside the module, for a request of an operation; None where it did not run.
    """

    def __init__(self, request: Request, options: Options, copy: Copy, calls: int | None) -> None:
        self.request, self.options, self.copy = request, options, copy
        self.calls, self.counted = 0, calls
        call = request.address.call
        self.every, self.call = call == "*", call if isinstance(call, int) else None
        self.kept: deque[Any] = deque(maxlen=None if self.every else self._from_end)
        self.due = self._due(calls)
        self.operations: Mapping[str, int] | None = None

    @property
    def _from_end(self) -> int:
        """How many calls before the last one, itself included, the wanted one lies, where counted from the end."""
        return -self.call if self.call is not None and self.call < 0 else 1

    def _due(self, calls: int | None) -> int | None:
        """Returns the call after which nothing more is wanted, where that is known."""
        if self.call is not None and self.call >= 0:
            return self.call
        return None if calls is None else max(calls - self._from_end, 0) if self.call is not None else calls - 1

    def restart(self) -> None:
        """Forgets what was kept: the next call is the first again."""
        self.calls = 0
        self.kept.clear()

    @property
    def is_just_filled(self) -> bool:
        """Whether the call just offered was the last one wanted."""
        return self.due is not None and self.calls == self.due + 1

    def offer(self, value: Any) -> dict[int, Tensor]:
        """Shows the slot the value of the next call.

        Returns:
            The copies that must go on into the model, by the `id` of the tensor whose place they take.
        """
        number = self.calls
        self.calls += 1
        through: dict[int, Tensor] = {}
        is_before = self.call is not None and number < self.call
        if is_before or (self.due is not None and number > self.due):
            return through
        part = self._part(value)
        if self.request.address.is_gradient:
            self.kept.append(Gradients(part, through, self.options))
        else:
            self.kept.append(self.options.finish(self._feature(part, through)))
        return through

    def _feature(self, part: Any, through: dict[int, Tensor]) -> Any:
        """Copies the tensors of a value.

        An output that carries gradient gets two copies in a row: the feature,
        and one of the feature that goes on into the model. So the feature is
        on the path to the model's output, and nobody else can write to it.
        """
        copy, options = self.copy, self.options
        on_path = self.request.address.port == "output" and options.clone is not False

        def keep(tensor: Tensor) -> Tensor:
            kept = copy(tensor.detach() if options.detach else tensor)
            if on_path and kept.requires_grad:
                through[id(tensor)] = copy(kept)
            return kept

        return snapshot(part, keep)

    def _part(self, value: Any) -> Any:
        try:
            for step in self.request.address.index:
                value = select(value, step)
        except LookupError as error:
            raise StructureError(self.request.name, str(error)) from None
        return value

    def result(self) -> Any:
        """Returns the feature: a value, a `Gradient`, or for `@*` a list of them.

        Raises:
            CallNotMadeError: The module ran less often than the address says.
            GradientError: Nothing in the value carries gradient.
            OperationNotFoundError, AmbiguousOperationError: What they say.
        """
        self.check_operation()
        if self.every:
            return [self._finished(value) for value in self.kept]
        is_filled = self.due is not None and self.calls > self.due
        if len(self.kept) < self._from_end and not is_filled:
            raise CallNotMadeError(self.request.name, self.calls)
        return self._finished(self.kept[-1 if is_filled else 0])

    def _finished(self, value: Any) -> Any:
        if not isinstance(value, Gradients):
            return value
        if not value.possible:
            raise GradientError(
                self.request.name,
                "nothing here requires grad, so no gradient will come. Run without torch.no_grad() "
                "and inference_mode, with parameters, or an input (image.requires_grad_()), that require grad.",
            )
        return Gradient(self.request.name, value)

    def check_operation(self) -> None:
        """Refuses an operation that did not run in the module, or whose number is not said though several ran.

        Raises:
            OperationNotFoundError, AmbiguousOperationError: What they say.
        """
        if self.operations is not None:
            check_operation(self.request, self.calls > 0, self.operations)

    def check_unambiguous(self) -> None:
        """Refuses an early stop where the address does not say which call to stop after.

        Raises:
            AmbiguousCallError: An unmarked module ran more than once, or a
                module ran more often than when its calls were counted.
        """
        if self.call is None and not self.every and self.calls > 1:
            raise AmbiguousCallError(self.request.name, self.calls)
        is_counted = self.every or (self.call is not None and self.call < 0)
        if is_counted and self.counted is not None and self.calls > self.counted:
            raise AmbiguousCallError(self.request.name, self.calls, self.counted)
