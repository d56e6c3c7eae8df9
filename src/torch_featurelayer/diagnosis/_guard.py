"""`guard`: finds the first layer or operation that makes NaN or infinite values.

A bad value alone is no fault: models fill masks with `-inf`, and compute values that `torch.where` leaves out. An
operation whose output is bad while its inputs are finite is therefore an *origin*, which follows its values through
later operations and in-place writes, by their storage. It is reported when such a value reaches the output of a module
or a `backward()`, or when a gradient is bad.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._checks import check_choice
from .._exceptions import NonFiniteError
from .._pytree import tensors
from ..address import check_model, plain_paths
from ..engine import PROPERTIES, Scope, force_eager, has_compiled_code, operation_name, register
from ._deferred import DeferredReads
from ._graph import hook_new_nodes, mark_nodes
from ._origins import Origins
from ._steps import Running, Step, describe_overflow, find_place, is_on_device, locate
from ._values import HALF, count_bad, find_range, is_finite

OnError: TypeAlias = Literal["raise", "record"]

_BEFORE: Final = 3  # modules that an error names


@contextmanager
def guard(
    model: nn.Module, *, gradients: bool = True, operations: bool = True, on_error: OnError = "raise"
) -> Iterator[list[NonFiniteError]]:
    """Stops at the first layer or operation that makes NaN or infinite values out of finite ones.

    It may be open around any code that calls the model: a forward pass, a training step, `generate`. Values that are
    infinite on purpose, such as `-inf` in attention masks, and values that the model leaves out afterwards are no
    error. Compiled models run eagerly while it is open, with a warning. Inside `torch.func` transforms, values are not
    read.

    Note:
        Each output is read, which on a GPU waits after each operation. With `operations=False`, outputs of modules on a
        GPU are counted there and read once, at the end of the forward pass.

    Args:
        model: The model, any `nn.Module`.
        gradients: Whether gradients are read in `backward()` too. Default: True.
        operations: Whether the outputs of operations are read, so that an error names the operation. Default: True;
            with False, only the outputs of modules, which takes less time.
        on_error: `"raise"` (default) raises the error where it is found; `"record"` continues, and appends it to the
            list that the context yields.

    Yields:
        The errors that were recorded, in the order in which they were found: one for each origin.

    Raises:
        NonFiniteError: If a value or gradient is NaN or infinite. It has the address, the call, the share of bad
            values, the range of the inputs and the modules before.
        ValueError: If `on_error` has another value.
        NotAModuleError: If the model is not an `nn.Module`.

    Examples:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> with guard(model, on_error="record") as errors:
        ...     _ = model(torch.tensor([[1.0, torch.nan]]))
        >>> errors[0].name, errors[0].count
        (':input[0]', 1)
    """
    check_choice(OnError, on_error=on_error)
    watch = _Guard(check_model(model), gradients=gradients, operations=operations, records=on_error == "record")
    with watch.activate():
        yield watch.errors


class _Guard:
    """The hooks of one guard.

    Args:
        model: The model.
        gradients: Whether gradients are read.
        operations: Whether the outputs of operations are read.
        records: Whether errors are recorded rather than raised.

    Attributes:
        errors: The errors that were recorded.
    """

    def __init__(self, model: nn.Module, *, gradients: bool, operations: bool, records: bool) -> None:
        self.errors: list[NonFiniteError] = []
        self._model, self._gradients, self._operations, self._records = model, gradients, operations, records
        names = plain_paths(model)
        self._names = {id(module): names[path] for path, module in model.named_modules()}
        self._parameters = {id(value): _plain(path, names) for path, value in model.named_parameters()}
        self._scope = Scope()
        self._origins = Origins()
        self._deferred: DeferredReads[Running] = DeferredReads()
        self._running: list[Running] = []
        self._calls: Counter[int] = Counter()
        self._forward = -1
        self._before: deque[str] = deque(maxlen=_BEFORE)
        self._is_reading = False
        self._is_open = False

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Keeps all hooks in the model, or none, and removes them whatever is raised."""
        modules = [module for module in self._model.modules() if not isinstance(module, torch.jit.ScriptModule)]
        with self._scope.enter(), ExitStack() as stack:
            if has_compiled_code(modules):
                stack.enter_context(force_eager("guarded"))
            for module in modules:
                register(module.register_forward_pre_hook, self._before_module, stack, with_kwargs=True)
                register(module.register_forward_hook, self._after_module, stack, with_kwargs=True, always_call=True)
            if self._operations:
                stack.enter_context(_Operations(self))
            self._is_open = True
            # Hooks on nodes live as long as the graph, and do nothing once the guard is closed.
            stack.callback(setattr, self, "_is_open", False)
            yield

    # Modules.

    def _before_module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._scope.is_current():
            return
        if any(each.module is self._model for each in self._running) and module is self._model:
            self._running.clear()  # the last forward pass ended by an exception that skips hooks, such as an early stop
        if not self._running:
            self._calls.clear()
            self._forward += 1
        running = Running(module, self._names[id(module)], self._calls[id(module)])
        self._calls[id(module)] += 1
        if not self._running:
            self._check_arguments(running, args, kwargs)
        self._mark([*tensors((args, kwargs))])
        self._running.append(running)

    def _after_module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not self._scope.is_current():
            return
        # Modules above it were ended by an exception that the model catches.
        while self._running and self._running[-1].module is not module:
            self._running.pop()
        if not self._running:
            return
        running = self._running.pop()
        outputs = [*tensors(output)]
        if not self._operations and any(map(is_on_device, outputs)):
            with self._reading():
                self._deferred.add(running, [*tensors((args, kwargs))], outputs)
        else:
            for each in outputs:
                self._check_output(running, args, kwargs, each)
        # Of nodes that no operation has made under the function mode, such as those of a recomputed region.
        self._watch_gradients(running, "", outputs)
        if not self._running:
            self._read_deferred()
        if not module._modules:
            self._before.append(running.address(""))

    def _read_deferred(self) -> None:
        """Reports the modules of a forward pass on a GPU that made bad values."""
        with self._reading():
            found = self._deferred.read()
        for each in found:
            self._report(self._deferred_error(each.place, each.count, each.total))

    def _deferred_error(self, running: Running, count: int, total: int) -> NonFiniteError:
        with self._reading():
            own = running.module.named_parameters(recurse=False) if running.module is not None else ()
            bad = [(self._parameters[id(value)], count_bad(value)) for _, value in own if not is_finite(value)]
        text = f"its parameter {bad[0][0]!r} has {bad[0][1]} already" if bad else ""
        address = running.address("")
        return NonFiniteError(address, count, total=total, call=running.call, forward=self._forward, problem=text)

    def _check_arguments(self, running: Running, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Reports arguments of the model that are bad already; `-inf` is left to masks."""
        for name, value in [*enumerate(args), *kwargs.items()]:
            for tensor in tensors(value):
                with self._reading():
                    bad = None if is_finite(tensor) else count_bad(tensor)
                if bad is not None and bad.nan + bad.positive and self._origins.find(tensor) is None:
                    text = f"it is an argument of the model, and has {bad} before the model runs"
                    error = self._error(f"{running.name}:input[{name}]", tensor, running, [], text)
                    self._report(self._origins.add(tensor, error))

    def _check_output(self, running: Running, args: Any, kwargs: Any, output: Tensor) -> None:
        """Reports the origin of bad values in the output of a module."""
        with self._reading():
            if self._origins.is_known_finite(output):
                return
            if is_finite(output):
                self._origins.note_finite(output)
                return
            origin = self._origins.find(output)
            if origin is None:
                # Operations are not read, or this module runs code that no function mode sees.
                own = running.module.parameters(recurse=False) if running.module is not None else ()
                inputs = [*tensors((args, kwargs)), *own]
                origin = self._find_origin(Step("", running, inputs), output)
        if origin is not None:
            self._report(origin)

    # Operations.

    def ignores_operation(self) -> bool:
        """Whether an operation is not read: one of the guard itself, or of another thread."""
        return self._is_reading or not self._scope.is_current()

    def run_operation(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operation and reads its output."""
        name, inputs = operation_name(func), [*tensors((args, kwargs))]
        if name == "backward" and inputs:
            self._check_loss(inputs[0])
        self._mark(inputs)
        output = func(*args, **kwargs)
        # Optimizers update lists of parameters, which the next forward pass reads.
        outputs = [] if name.startswith("foreach") else inputs[:1] if name == "setitem" else [*tensors(output)]
        if outputs:
            running = self._running[-1] if self._running else Running()
            running.operations[name] += 1
            with self._reading():
                for each in outputs:
                    self._read(Step(name, running, inputs, func, (args, kwargs)), each)
            self._watch_gradients(running, name, outputs)
        return output

    def _read(self, step: Step, output: Tensor) -> None:
        """Reads an output of an operation, and attaches the origin of bad values to it."""
        if is_finite(output):
            self._origins.note_finite(output)
            return
        if not step.may_be_intended(output):
            self._find_origin(step, output)

    def _find_origin(self, step: Step, output: Tensor) -> NonFiniteError | None:
        """Finds or makes the origin of a bad output; None if its values are infinite on purpose."""
        given = [each for each in step.inputs if each is not output]
        bad = [each for each in given if not is_finite(each)]
        # The output itself if it was written in place.
        written = [output] if len(given) < len(step.inputs) else []
        for each in [*bad, *written]:
            if (origin := self._origins.find(each)) is not None:
                return self._origins.add(output, origin)
        if (problem := self._explain(step, output, bad)) is None:
            return None
        address = step.running.address(step.name)
        return self._origins.add(output, self._error(address, output, step.running, given, problem, step.name))

    def _explain(self, step: Step, output: Tensor, bad: list[Tensor]) -> str | None:
        """Returns why an output is bad, empty if all is said; None if its values are infinite on purpose."""
        for each in bad:
            if (name := self._parameters.get(id(each))) is not None:
                return f"its parameter {name!r} has {count_bad(each)} already"
        if not bad:
            return describe_overflow(step, output) if output.dtype in HALF else ""
        counts = [count_bad(each) for each in bad]
        if count_bad(output).nan and not any(count.nan for count in counts):
            return f"its inputs have {counts[0]}, and no NaN"
        if any(count.nan + count.positive for count in counts):
            return f"its inputs have {counts[0]} already, made outside the guard or in a torch.func transform"
        return None  # -inf of a mask

    # Gradients.

    def _mark(self, inputs: list[Tensor]) -> None:
        if self._gradients and torch.is_grad_enabled():
            mark_nodes(inputs, self)

    def _watch_gradients(self, running: Running, operation: str, outputs: list[Tensor]) -> None:
        """Registers hooks that read gradients on the nodes that an operation or module has made."""
        if not self._gradients or not torch.is_grad_enabled():
            return
        address, place = running.address(operation), find_place()
        forward, call = self._forward, running.call

        def check(gradients: tuple[Tensor | None, ...], received: tuple[Tensor | None, ...]) -> None:
            if not self._is_open or self._is_reading:
                return
            with self._reading():
                bad = next((each for each in gradients if each is not None and not is_finite(each)), None)
                inputs = [each for each in received if each is not None]
                if bad is None or not all(map(is_finite, inputs)):
                    return
                error = NonFiniteError(
                    address, count_bad(bad).count, total=bad.numel(), call=call, forward=forward, is_gradient=True,
                    operation=operation, input_range=find_range(inputs), location=locate(place),
                )  # fmt: skip
            self._report(error)

        hook_new_nodes(outputs, self, check)

    def _check_loss(self, loss: Tensor) -> None:
        """Reports a loss that is bad before `backward()`."""
        with self._reading():
            if is_finite(loss):
                return
            running = Running()
            text = "it is bad before backward()"
            origin = self._origins.find(loss) or self._error(":backward", loss, running, [], text, "backward")
        self._report(origin)

    # Errors.

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Marks the operations inside as those of this guard."""
        self._is_reading = True
        try:
            with torch.no_grad():
                yield
        finally:
            self._is_reading = False

    def _error(
        self, address: str, output: Tensor, running: Running, inputs: list[Tensor], problem: str, operation: str = ""
    ) -> NonFiniteError:
        return NonFiniteError(
            address, count_bad(output).count, total=output.numel(), call=running.call, forward=max(self._forward, 0),
            operation=operation, input_range=find_range(inputs), before=tuple(self._before),
            location=locate(find_place()), problem=problem,
        )  # fmt: skip

    def _report(self, error: NonFiniteError) -> None:
        """Raises an error, or records it once.

        Raises:
            NonFiniteError: If errors are not recorded.
        """
        if not self._records:
            raise error
        if not any(error is each for each in self.errors):
            self.errors.append(error)


class _Operations(TorchFunctionMode):
    """Passes operations to a guard."""

    def __init__(self, watch: _Guard) -> None:
        super().__init__()
        self._guard = watch

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        is_other = torch.compiler.is_dynamo_compiling() or getattr(func, "__name__", "") in PROPERTIES
        if is_other or self._guard.ignores_operation():
            return func(*args, **kwargs)
        return self._guard.run_operation(func, args, kwargs)


def _plain(path: str, names: Mapping[str, str]) -> str:
    """Returns the path of a parameter without the names of wrappers."""
    owner, _, name = path.rpartition(".")
    return f"{names[owner]}.{name}".removeprefix(".")
