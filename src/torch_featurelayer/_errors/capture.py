"""Errors of addresses, captures and edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .base import FeatureLayerError, did_you_mean, nearest, quoted


class AddressError(FeatureLayerError, ValueError):
    """The text of an address cannot be read.

    Attributes:
        text: The address as it was given.
        position: Where it stops making sense, counted from 0.
        problem: What was expected there.
    """

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.text, self.position, self.problem = text, position, problem
        super().__init__(
            f"bad address: {problem}\n  {text}\n  {' ' * position}^\n"
            "An address is path[@call][:operation[.k]][:port][index], "
            "such as 'layer1.0.relu@1:input' or 'layer1.0:add'."
        )


class EmptyRequestError(FeatureLayerError, ValueError):
    """No layer was asked for."""

    def __init__(self) -> None:
        super().__init__(
            "no layer was asked for: name at least one. get_layer_candidates(model, max_depth=None) lists them all."
        )


class DuplicateRequestError(FeatureLayerError, ValueError):
    """One layer was asked for twice.

    Attributes:
        name: The layer that stands twice in the request.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name!r} is asked for twice: features are also found by name, so name each once.")


class LayerNotFoundError(FeatureLayerError, AttributeError):
    """The model has no such layer, or no layer matches the pattern.

    Attributes:
        path: The path or pattern that was asked for.
        model: The type of the model, by name.
        nearest: The existing paths most like it.
    """

    def __init__(self, path: str, model: str, nearest: Sequence[str] = (), hint: str = "") -> None:
        self.path, self.model, self.nearest, self.hint = path, model, list(nearest), hint
        super().__init__(
            f"{model} has no layer {path!r}.{did_you_mean(self.nearest)}{hint and ' ' + hint} "
            "get_layer_candidates(model, max_depth=None) lists them all."
        )


class LayerNotRunError(FeatureLayerError, RuntimeError):
    """A layer exists, but this forward did not call it.

    Attributes:
        names: What was asked for and did not run.
        ran: What was asked for and did run, or is known to have run around it.
        hint: The likely cause.
    """

    def __init__(self, names: Sequence[str], ran: Sequence[str], hint: str) -> None:
        self.names, self.ran, self.hint = list(names), list(ran), hint
        did = f" Ran: {quoted(self.ran)}." if self.ran else " Nothing of what was asked for ran."
        super().__init__(f"the forward did not call {quoted(self.names)}.{did} {hint}")


class CallNotMadeError(FeatureLayerError, IndexError):
    """The layer ran, but not as often as the address says.

    Attributes:
        name: What was asked for.
        calls: How often the layer ran.
    """

    def __init__(self, name: str, calls: int) -> None:
        self.name, self.calls = name, calls
        super().__init__(
            f"{name!r}: the layer ran {calls} time{'s' * (calls != 1)}, "
            f"so its calls are @0 to @{calls - 1}, or @-1 to @-{calls} from the end."
        )


class AmbiguousCallError(FeatureLayerError, RuntimeError):
    """`.features()` cannot tell after which call of a layer to stop.

    Attributes:
        name: What was asked for.
        calls: How often the layer ran.
        counted: How often it ran when it was counted; None where it is asked for without a call.
    """

    def __init__(self, name: str, calls: int, counted: int | None = None) -> None:
        self.name, self.calls, self.counted = name, calls, counted
        super().__init__(
            f"{name!r} runs {calls} times in one forward, so it does not say where to stop: "
            f"mark the call, as in '{name}@0' (the first), '{name}@-1' (the last) or '{name}@*' (all)."
            if counted is None
            else f"{name!r}: the layer ran at least {calls} times, and {counted} when it was counted for early "
            "stop. For a model whose calls depend on its data, pass stop=False."
        )


class OperationNotFoundError(FeatureLayerError, LookupError):
    """A layer ran, but no such operation ran directly inside it, or not that often.

    Attributes:
        name: What was asked for.
        operations: How often each operation ran in one call of the layer, at most, by name.
    """

    def __init__(self, name: str, operation: str, operations: Mapping[str, int]) -> None:
        self.name, self.operation, self.operations = name, operation, dict(operations)
        ran = quoted([name if count == 1 else f"{name}.0 to .{count - 1}" for name, count in self.operations.items()])
        there = f"Directly inside it ran {ran}." if ran else "It runs none itself, only the layers inside it."
        near = nearest(operation, self.operations)
        super().__init__(f"{name!r}: the layer ran, but no such operation in it.{did_you_mean(near)} {there}")


class AmbiguousOperationError(FeatureLayerError, LookupError):
    """An operation ran several times in one call of a layer, and the address does not say which.

    Attributes:
        name: What was asked for.
        operation: The operation.
        count: How often it ran.
    """

    def __init__(self, name: str, operation: str, count: int) -> None:
        self.name, self.operation, self.count = name, operation, count
        super().__init__(
            f"{name!r}: {operation!r} runs {count} times in one call of the layer: "
            f"say which, as in ':{operation}.0' (the first) to ':{operation}.{count - 1}' (the last)."
        )


class EditError(FeatureLayerError, ValueError):
    """An edit does not fit the value it is to change.

    Attributes:
        name: What was to be edited.
        problem: Why it does not fit, and what to do.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"cannot edit {name!r}: {problem}")


class StructureError(FeatureLayerError, LookupError):
    """`[index]` does not fit what the layer returned or was given.

    Attributes:
        name: What was asked for.
        found: What is there instead.
    """

    def __init__(self, name: str, found: str) -> None:
        self.name, self.found = name, found
        super().__init__(f"{name!r}: {found}")


class FeatureNotFoundError(FeatureLayerError, KeyError):
    """These features hold no such name.

    Attributes:
        name: What was looked up.
        names: What is there.
    """

    def __init__(self, name: object, names: Sequence[str]) -> None:
        self.name, self.names = name, list(names)
        super().__init__(name, self.names)

    def __str__(self) -> str:
        near = nearest(str(self.name), self.names)
        return f"no feature {self.name!r}.{did_you_mean(near)} These features are {quoted(self.names)}."


class GradientError(FeatureLayerError, RuntimeError):
    """There is no gradient to capture, or it has not arrived yet.

    Attributes:
        name: What was asked for.
        problem: Why it is not there, and what to do.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"{name!r}: {problem}")


class NotAModuleError(FeatureLayerError, TypeError):
    """The model is not an `nn.Module`.

    Attributes:
        found: The type that was given.
    """

    def __init__(self, found: type) -> None:
        self.found = found
        hint = f" Make one first: {found.__name__}(...) is the model." if found is type else ""
        super().__init__(f"the model must be a torch.nn.Module, not {found.__qualname__}.{hint}")


class ScriptedModuleError(FeatureLayerError, TypeError):
    """The layer is, or is inside, a TorchScript module, which takes no Python hooks.

    Attributes:
        path: The layer that was asked for.
        scripted: The path of the scripted module.
    """

    def __init__(self, path: str, scripted: str) -> None:
        self.path, self.scripted = path, scripted
        where = "" if path == scripted else f"inside {scripted!r}, " if scripted else "inside the model, "
        super().__init__(
            f"{path!r} is {where}a TorchScript module: it runs without Python and takes no hooks. "
            "Capture from the model it was made of, before torch.jit.script or trace."
        )


class LayoutError(FeatureLayerError, ValueError):
    """Which dimension of a feature holds the channels, or the items, is not known or not as required.

    Attributes:
        problem: Why it is not known.
        name: The address of the feature; empty for a tensor that was passed in.
        shape: The shape of the feature; empty if it is not about one.
        readings: The layouts that are possible.
        hint: How to fix it.
    """

    def __init__(
        self,
        problem: str,
        name: str = "",
        *,
        shape: Sequence[int] = (),
        readings: Sequence[str] = (),
        hint: str = "",
    ) -> None:
        self.problem, self.name, self.shape, self.readings = problem, name, tuple(shape), tuple(readings)
        self.hint = hint or _layout_hint(self.readings, len(self.shape))
        super().__init__(f"{name and repr(name) + ': '}{problem}. {self.hint}")

    def of(self, name: str) -> LayoutError:
        """Returns this error for the feature of an address."""
        return LayoutError(self.problem, name, shape=self.shape, readings=self.readings, hint=self.hint)


def _layout_hint(readings: Sequence[str], ndim: int) -> str:
    examples = readings or {3: ("NTC", "NCT"), 4: ("NCHW", "NHWC"), 5: ("NCTHW", "NTHWC")}.get(ndim, ("NCHW", "NTC"))
    return (
        f"Say which: {' or '.join(f'layout={example!r}' for example in examples)} "
        "(N items, C channels, other letters positions)."
    )


class ReductionError(FeatureLayerError, TypeError):
    """A reduction cannot be applied to a feature, or does not return a tensor."""


class UncopyableValueError(FeatureLayerError, TypeError):
    """A layer returned a value that holds tensors and cannot be copied.

    Attributes:
        name: The address of the request.
        kind: The type of the part that cannot be copied, by name.
        problem: Why it cannot be copied.
    """

    def __init__(self, name: str, kind: str, problem: str) -> None:
        self.name, self.kind, self.problem = name, kind, problem
        super().__init__(
            f"{name!r}: the value holds a {kind}, which {problem}. Kept by reference, it would change as the model "
            "goes on. Name a part of the value with [index]."
        )


class TransformError(FeatureLayerError, RuntimeError):
    """A value belongs to a `torch.func` transform that ends before it could be read.

    Attributes:
        name: The address of the request.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"{name!r} was computed inside torch.func.vmap, grad or another transform, and its value ends with it. "
            "Capture inside the transformed function, and return the feature from it."
        )


class UnsupportedTorchError(FeatureLayerError, NotImplementedError):
    """This release of PyTorch lacks something that a capture needs."""


class CompileError(FeatureLayerError, RuntimeError):
    """`torch.compile` was used in a way that would lose or slow the capture."""
