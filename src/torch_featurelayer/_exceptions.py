"""All exceptions of this package. Each is a subclass of the built-in exception that people would catch.

```text
FeatureLayerError
├── AddressError             ValueError           an address cannot be parsed
├── EmptyRequestError        ValueError           no layer was requested
├── DuplicateRequestError    ValueError           a layer was requested twice
├── LayerNotFoundError       AttributeError       no layer of the model matches the address
├── LayerNotRunError         RuntimeError         the layer exists but was not called
├── CallNotMadeError         IndexError           the layer was called fewer times than the address says
├── AmbiguousCallError       RuntimeError         early stop on a layer that is called several times
├── OperationNotFoundError   LookupError          the operation did not run in the layer
├── AmbiguousOperationError  LookupError          the operation ran several times and is not numbered
├── StructureError           LookupError          `[index]` does not fit the value of the layer
├── EditError                ValueError           an edit does not fit the value that it replaces
├── FeatureNotFoundError     KeyError             no feature has this name
├── GradientError            RuntimeError         there is no gradient, or it has not arrived
├── NotAModuleError          TypeError            the model is not an `nn.Module`
├── ScriptedModuleError      TypeError            the layer is inside a TorchScript module
├── LayoutError              ValueError           the layout of a feature is unknown or unsuitable
├── ReductionError           TypeError            a reduction cannot be applied to a feature
├── UncopyableValueError     TypeError            a layer returned a value that cannot be copied
├── GenerationError          RuntimeError         features cannot be aligned with generated tokens
├── TransformError           RuntimeError         the value ends with a `torch.func` transform
├── UnsupportedTorchError    NotImplementedError  the installed PyTorch lacks a required function
├── CompileError             RuntimeError         `torch.compile` would lose the capture
├── ImageError               ValueError           an image cannot be read
├── ModelNotFoundError       ValueError           no model has this name
├── WeightsNotFoundError     FileNotFoundError    weights are not available on this machine
├── WeightsMismatchError     ValueError           a state dict does not fit the model
├── DeviceError              RuntimeError         a device is not available
├── LabelNotFoundError       LookupError          the model has no class of this name or number
├── DetectorError            TypeError            a model is not a detector that is known
├── DatasetError             TypeError            an object is not a dataset
├── EmptyDatasetError        ValueError           a dataset has no items
├── ItemError                ValueError           an item of a dataset cannot be read
├── BackendError             RuntimeError         a process of an extraction has ended
├── TemporaryReadError       OSError              an item could not be read because of the network or permissions
├── FeatureOverflowError     OverflowError        a feature does not fit the dtype of the store
├── FeatureUnderflowError    ArithmeticError      a feature is too small for the dtype of the store
├── NonFiniteError           ArithmeticError      a feature, value or gradient is NaN or infinite
├── StoreNotFoundError       FileNotFoundError    a folder is not a store
├── StoreTargetError         FileExistsError      a store cannot be created at a path
├── StoreMismatchError       ValueError           a store holds other features
├── StoreLockedError         BlockingIOError      another process writes to the store
├── StoreCorruptError        ValueError           a file of a store is damaged
├── StoreIncompleteError     ValueError           shards of a store are missing
└── MissingExtraError        ImportError          an optional dependency is not installed
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._suggest import did_you_mean, nearest, quote

__all__ = [
    "AddressError",
    "AmbiguousCallError",
    "AmbiguousOperationError",
    "BackendError",
    "CallNotMadeError",
    "CompileError",
    "DatasetError",
    "DetectorError",
    "DeviceError",
    "DuplicateRequestError",
    "EditError",
    "EmptyDatasetError",
    "EmptyRequestError",
    "FeatureLayerError",
    "FeatureNotFoundError",
    "FeatureOverflowError",
    "FeatureUnderflowError",
    "GenerationError",
    "GradientError",
    "ImageError",
    "ItemError",
    "LabelNotFoundError",
    "LayerNotFoundError",
    "LayerNotRunError",
    "LayoutError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NonFiniteError",
    "NotAModuleError",
    "OperationNotFoundError",
    "ReductionError",
    "ScriptedModuleError",
    "StoreCorruptError",
    "StoreIncompleteError",
    "StoreLockedError",
    "StoreMismatchError",
    "StoreNotFoundError",
    "StoreTargetError",
    "StructureError",
    "TemporaryReadError",
    "TransformError",
    "UncopyableValueError",
    "UnsupportedTorchError",
    "WeightsMismatchError",
    "WeightsNotFoundError",
]

_LIST_THEM = "get_layer_candidates(model, max_depth=None) lists all layers."


class FeatureLayerError(Exception):
    """The base of all exceptions of this package. Pickling and copying preserve the message and all fields."""

    def __reduce__(self) -> tuple[object, ...]:
        # By default an exception is rebuilt by calling its class with the message, which fits none of these.
        return _restore, (type(self), self.args, vars(self))


def _restore(kind: type[FeatureLayerError], args: tuple[object, ...], fields: dict[str, object]) -> FeatureLayerError:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(fields)
    return error


# Addresses, captures and edits.


class AddressError(FeatureLayerError, ValueError):
    """An address cannot be parsed.

    Attributes:
        text: The address.
        position: The zero-based position of the error in the text.
        problem: What was expected there.
    """

    def __init__(self, text: str, position: int, problem: str) -> None:
        self.text, self.position, self.problem = text, position, problem
        super().__init__(
            f"invalid address: {problem}\n  {text}\n  {' ' * position}^\n"
            "An address is path[@call][:operation[.k]][:port][index], "
            "such as 'layer1.0.relu@1:input' or 'layer1.0:add'."
        )


class EmptyRequestError(FeatureLayerError, ValueError):
    """No layer was requested."""

    def __init__(self) -> None:
        super().__init__(f"no layer was requested: name at least one. {_LIST_THEM}")


class DuplicateRequestError(FeatureLayerError, ValueError):
    """A layer was requested twice.

    Attributes:
        name: The address of the layer.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name!r} is requested twice: name each layer once, because names are keys of the result.")


class LayerNotFoundError(FeatureLayerError, AttributeError):
    """No layer of the model matches a path or pattern.

    Attributes:
        path: The path or pattern.
        model: The name of the model's class.
        nearest: The most similar paths of the model.
        hint: How to fix it; may be empty.
    """

    def __init__(self, path: str, model: str, nearest: Sequence[str] = (), hint: str = "") -> None:
        self.path, self.model, self.nearest, self.hint = path, model, list(nearest), hint
        super().__init__(
            f"{model} has no layer {path!r}.{did_you_mean(self.nearest)}{hint and ' ' + hint} {_LIST_THEM}"
        )


class LayerNotRunError(FeatureLayerError, RuntimeError):
    """A layer exists, but the forward pass did not call it.

    Attributes:
        names: The requested layers that did not run.
        ran: The requested layers that ran.
        hint: The likely reason.
    """

    def __init__(self, names: Sequence[str], ran: Sequence[str], hint: str) -> None:
        self.names, self.ran, self.hint = list(names), list(ran), hint
        others = f"Other requested layers ran: {quote(self.ran)}." if self.ran else "No requested layer ran."
        super().__init__(f"the forward pass did not call {quote(self.names)}. {others} {hint}")


class CallNotMadeError(FeatureLayerError, IndexError):
    """A layer was called fewer times than the address says.

    Attributes:
        name: The address.
        calls: The number of calls of the layer.
    """

    def __init__(self, name: str, calls: int) -> None:
        self.name, self.calls = name, calls
        super().__init__(
            f"{name!r}: the layer was called {calls} time{'s' * (calls != 1)}, "
            f"so its calls are @0 to @{calls - 1}, or @-1 to @-{calls} from the end."
        )


class AmbiguousCallError(FeatureLayerError, RuntimeError):
    """`.features()` cannot tell after which call of a layer to stop.

    Attributes:
        name: The address.
        calls: The number of calls of the layer.
        counted: The number of calls in the forward pass that counted them; None if the address has no `@call`.
    """

    def __init__(self, name: str, calls: int, counted: int | None = None) -> None:
        self.name, self.calls, self.counted = name, calls, counted
        super().__init__(
            f"{name!r} is called {calls} times in one forward pass, and the address does not say which call to stop "
            f"after. Add the call: '{name}@0' (the first), '{name}@-1' (the last) or '{name}@*' (all)."
            if counted is None
            else f"{name!r} was called at least {calls} times, but {counted} times when its calls were counted for "
            "early stop. If the number of calls depends on state outside the model, pass stop=False."
        )


class OperationNotFoundError(FeatureLayerError, LookupError):
    """A layer ran, but the operation did not run directly inside it, or not that many times.

    Attributes:
        name: The address.
        operations: The largest number of times that each operation ran in one call of the layer, by name.
    """

    def __init__(self, name: str, operation: str, operations: Mapping[str, int]) -> None:
        self.name, self.operation, self.operations = name, operation, dict(operations)
        ran = quote([name if count == 1 else f"{name}.0 to .{count - 1}" for name, count in self.operations.items()])
        found = f"Directly inside it ran {ran}." if ran else "It runs no operation itself, only the layers inside it."
        near = nearest(operation, self.operations)
        super().__init__(f"{name!r}: the layer ran, but not this operation.{did_you_mean(near)} {found}")


class AmbiguousOperationError(FeatureLayerError, LookupError):
    """An operation ran several times in one call of a layer, and the address does not number it.

    Attributes:
        name: The address.
        operation: The name of the operation.
        count: The number of times that it ran.
    """

    def __init__(self, name: str, operation: str, count: int) -> None:
        self.name, self.operation, self.count = name, operation, count
        super().__init__(
            f"{name!r}: {operation!r} runs {count} times in one call of the layer. "
            f"Number it: ':{operation}.0' (the first) to ':{operation}.{count - 1}' (the last)."
        )


class EditError(FeatureLayerError, ValueError):
    """An edit does not fit the value that it replaces.

    Attributes:
        name: The address.
        problem: Why it does not fit, and how to fix it.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"cannot edit {name!r}: {problem}")


class StructureError(FeatureLayerError, LookupError):
    """`[index]` does not fit the value of a layer.

    Attributes:
        name: The address.
        found: A description of the value.
    """

    def __init__(self, name: str, found: str) -> None:
        self.name, self.found = name, found
        super().__init__(f"{name!r}: {found}")


class FeatureNotFoundError(FeatureLayerError, KeyError):
    """No feature, or column of a store, has this name.

    Attributes:
        name: The name.
        names: The names of the features or columns.
        kind: `"feature"` or `"column"`.
    """

    def __init__(self, name: object, names: Sequence[str], kind: str = "feature") -> None:
        self.name, self.names, self.kind = name, list(names), kind
        super().__init__(name, self.names, kind)

    def __str__(self) -> str:  # KeyError would show the repr of its argument
        near = nearest(str(self.name), self.names)
        there = f"The {self.kind}s are {quote(self.names)}." if self.names else f"There are no {self.kind}s."
        return f"no {self.kind} {self.name!r}.{did_you_mean(near)} {there}"


class GradientError(FeatureLayerError, RuntimeError):
    """There is no gradient to capture, or it has not arrived yet.

    Attributes:
        name: The address.
        problem: Why there is none, and how to fix it.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"{name!r}: {problem}")


class NotAModuleError(FeatureLayerError, TypeError):
    """The model is not an `nn.Module`.

    Attributes:
        found: The type of the object.
    """

    def __init__(self, found: type) -> None:
        self.found = found
        hint = " Create an instance of the class first." if found is type else ""
        super().__init__(f"the model must be a torch.nn.Module, not {found.__qualname__}.{hint}")


class ScriptedModuleError(FeatureLayerError, TypeError):
    """A layer is, or is inside, a TorchScript module, which does not run Python hooks.

    Attributes:
        path: The path of the layer.
        scripted: The path of the TorchScript module.
    """

    def __init__(self, path: str, scripted: str) -> None:
        self.path, self.scripted = path, scripted
        where = "" if path == scripted else f"inside {scripted!r}, " if scripted else "inside the model, "
        super().__init__(
            f"{path!r} is {where}a TorchScript module, which does not run Python hooks. "
            "Capture from the original model, before torch.jit.script or torch.jit.trace."
        )


class LayoutError(FeatureLayerError, ValueError):
    """The dimension of the channels or items of a feature is unknown, or the layout does not suit the request.

    Attributes:
        problem: Why it is unknown or unsuitable.
        name: The address of the feature; empty for a tensor that was passed in.
        shape: The shape of the feature; empty if the error is not about one.
        readings: The possible layouts.
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

    def of(self, name: str, hint: str = "") -> LayoutError:
        """Returns this error for the feature of an address, with another hint if one is given."""
        return LayoutError(self.problem, name, shape=self.shape, readings=self.readings, hint=hint or self.hint)


def _layout_hint(readings: Sequence[str], ndim: int) -> str:
    examples = readings or {3: ("NTC", "NCT"), 4: ("NCHW", "NHWC"), 5: ("NCTHW", "NTHWC")}.get(ndim, ("NCHW", "NTC"))
    return (
        f"Give the layout: {' or '.join(f'layout={example!r}' for example in examples)} "
        "(N for items, C for channels, other letters for positions)."
    )


class ReductionError(FeatureLayerError, TypeError):
    """A reduction cannot be applied to a feature, or does not return a tensor."""


class GenerationError(FeatureLayerError, RuntimeError):
    """The features of a generation cannot be aligned with its tokens.

    Attributes:
        problem: What does not fit.
        fix: How to fix it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        self.problem, self.fix = problem, fix
        super().__init__(f"{problem}. {fix}")


class UncopyableValueError(FeatureLayerError, TypeError):
    """A layer returned a value that holds tensors and cannot be copied.

    Attributes:
        name: The address.
        kind: The name of the type of the part that cannot be copied.
        problem: Why it cannot be copied.
    """

    def __init__(self, name: str, kind: str, problem: str) -> None:
        self.name, self.kind, self.problem = name, kind, problem
        super().__init__(
            f"{name!r}: the value holds a {kind}, which {problem}, and the model could change it later. "
            "Name a part of the value with [index]."
        )


class TransformError(FeatureLayerError, RuntimeError):
    """A value belongs to a `torch.func` transform that ends before the value can be read.

    Attributes:
        name: The address.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"{name!r} was computed inside torch.func.vmap, grad or another transform, and its value ends with it. "
            "Capture inside the transformed function, and return the feature from it."
        )


class UnsupportedTorchError(FeatureLayerError, NotImplementedError):
    """The installed PyTorch lacks a function that the capture requires."""


class CompileError(FeatureLayerError, RuntimeError):
    """`torch.compile` was used in a way that would lose the capture."""


# Images, models and packages.


class ImageError(FeatureLayerError, ValueError):
    """An image cannot be read.

    Attributes:
        source: A description of the image, such as its path.
        problem: Why it cannot be read.
    """

    def __init__(self, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(f"cannot read {source}: {problem}")


class MissingExtraError(FeatureLayerError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        package: The package that cannot be imported.
        extra: The extra of torch-featurelayer that installs it.
        requirements: The requirements of the extra, as `pip install` accepts them.
    """

    def __init__(self, package: str, extra: str, requirements: Sequence[str] = ()) -> None:
        self.package, self.extra, self.requirements = package, extra, list(requirements) or [package]
        # The packages themselves: the name torch-featurelayer on PyPI belongs to another author.
        install = " ".join(f'"{requirement}"' for requirement in self.requirements)
        super().__init__(f"{package} is not installed: pip install {install} (the extra {extra!r}: docs/install.md)")


class ModelNotFoundError(FeatureLayerError, ValueError):
    """No model has this name.

    Attributes:
        spec: The name.
        problem: Why it is no model.
        nearest: The most similar known names.
    """

    def __init__(self, spec: str, problem: str, known: Sequence[str] = ()) -> None:
        self.spec, self.problem = spec, problem
        self.nearest = nearest(spec, known)
        super().__init__(
            f"no model {spec!r}: {problem}.{did_you_mean(self.nearest)} A model is 'torchvision:NAME', 'timm:NAME', "
            "'hf:FOLDER-OR-ID', 'package.module:callable' or 'efficientnet-lite0'."
        )


class WeightsNotFoundError(FeatureLayerError, FileNotFoundError):
    """The weights of a model are not on this machine and could not be downloaded.

    Attributes:
        spec: The model.
        problem: Why they are not available.
        file: The file that would be read; empty if it is not known.
    """

    def __init__(self, spec: str, problem: str, file: str = "") -> None:
        self.spec, self.problem, self.file = spec, problem, file
        place = f" Put the file at {file}, or pass" if file else " Pass"
        super().__init__(
            f"no weights for {spec!r}: {problem}.{place} a state dict (weights='FILE.safetensors' or a .pt file), "
            "or weights='random'. Random weights are used only if you ask for them."
        )


class WeightsMismatchError(FeatureLayerError, ValueError):
    """A state dict does not fit the model.

    Attributes:
        file: The file of the state dict.
        missing: The parameters of the model that it lacks.
        unexpected: The entries that the model does not have.
        shapes: The parameters whose shapes differ.
    """

    def __init__(
        self, file: str, missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[str] = ()
    ) -> None:
        self.file, self.missing, self.unexpected, self.shapes = file, list(missing), list(unexpected), list(shapes)
        parts = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
        listed = "; ".join(f"{len(names)} {kind}: {quote(names, limit=3)}" for kind, names in parts.items() if names)
        super().__init__(f"{file} does not hold the weights of this model: {listed}.")


class DeviceError(FeatureLayerError, RuntimeError):
    """A device is not available.

    Attributes:
        device: The device.
        problem: Why it is not available.
    """

    def __init__(self, device: str, problem: str) -> None:
        self.device, self.problem = device, problem
        super().__init__(f"the device {device!r} is not available: {problem}")


class LabelNotFoundError(FeatureLayerError, LookupError):
    """The model has no class of this name or number.

    Attributes:
        label: The name.
        nearest: The most similar names of classes.
    """

    def __init__(self, label: str, known: Sequence[str], *, count: int | None = None) -> None:
        self.label = label
        self.nearest = [] if label.isdigit() else nearest(label.lower(), known)
        if count is not None:
            hint = f" The model has {count} classes, 0 to {count - 1}."
        else:
            hint = "" if known else " The names of this model's classes are not known: give the number of the class."
        super().__init__(f"no class {label!r}.{did_you_mean(self.nearest)}{hint}")


# Datasets and stores.


class DetectorError(FeatureLayerError, TypeError):
    """A model is not a detector whose boxes are known.

    Attributes:
        model: The name of the model's class.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(
            f"{model} is not a detector of torchvision, nor one of transformers with its image processor. Load it with "
            "tl.models.load."
        )


class DatasetError(FeatureLayerError, TypeError):
    """An object is not a dataset.

    Attributes:
        found: A description of the object.
        hint: What to pass instead.
    """

    def __init__(self, found: str, hint: str) -> None:
        self.found, self.hint = found, hint
        super().__init__(f"cannot read items from {found}: {hint}.")


class EmptyDatasetError(FeatureLayerError, ValueError):
    """A dataset has no items."""

    def __init__(self) -> None:
        super().__init__("the dataset is empty: no image and no other item was found.")


class ItemError(FeatureLayerError, ValueError):
    """An item of a dataset cannot be read.

    Attributes:
        id: The id of the item.
        reason: Why it cannot be read.
    """

    def __init__(self, id: str, reason: str) -> None:  # noqa: A002 (the field that users read)
        self.id, self.reason = id, reason
        super().__init__(f"{id}: {reason}")


class FeatureOverflowError(FeatureLayerError, OverflowError):
    """A feature has infinite values, usually because it does not fit the dtype of the store.

    Attributes:
        layer: The layer.
        dtype: The dtype of the store.
    """

    def __init__(self, layer: str, dtype: str) -> None:
        self.layer, self.dtype = layer, dtype
        super().__init__(f"{layer!r} has infinite values in {dtype}: store a wider dtype, such as torch.float32.")


class FeatureUnderflowError(FeatureLayerError, ArithmeticError):
    """All values of a feature are so small that the dtype of the store loses their digits.

    Attributes:
        layer: The layer.
        dtype: The dtype of the store.
        largest: The largest absolute value in a batch.
    """

    def __init__(self, layer: str, dtype: str, largest: float) -> None:
        self.layer, self.dtype, self.largest = layer, dtype, largest
        super().__init__(
            f"{layer!r} is too small for {dtype}: the largest value of a batch is {largest:.2g}. Store a wider "
            "dtype, such as torch.float32."
        )


class BackendError(FeatureLayerError, RuntimeError):
    """A process of an extraction has ended, or the cluster does not answer.

    Attributes:
        backend: The name of the backend.
        problem: What happened.
    """

    def __init__(self, backend: str, problem: str) -> None:
        self.backend, self.problem = backend, problem
        super().__init__(
            f"the extraction with backend={backend!r} ended: {problem}. Finished shards are kept, and the same call "
            "continues from there."
        )


class TemporaryReadError(FeatureLayerError, OSError):
    """An item could not be read because of the network, permissions or memory, after several attempts.

    Attributes:
        id: The id of the item.
        reason: The type and the message of the failure.
    """

    def __init__(self, id: str, reason: str) -> None:  # noqa: A002
        self.id, self.reason = id, reason
        super().__init__(
            f"{id!r} could not be read after several attempts: {reason}. It is not recorded as a fault of the item. "
            "Run the extraction again once it can be read: finished shards are kept."
        )


class NonFiniteError(FeatureLayerError, ArithmeticError):
    """A feature, a value inside a model or a gradient is NaN or infinite.

    Attributes:
        name: The address of the layer or operation.
        count: The number of such values.
        id: The id of the item, of a dataset; empty otherwise.
        total: The number of all values; 0 if it is not known.
        operation: The name of the operation; empty for a whole module.
        call: The zero-based number of the call of the module in its forward pass.
        forward: The zero-based number of the forward pass since the guard was opened.
        is_gradient: Whether it is a gradient.
        input_range: The smallest and the largest finite value of the inputs, or of the gradients that arrived; None if
            there is none.
        before: The addresses of the modules that ran before, the last one at the end.
        location: The file and line of the operation.
        problem: What is known beyond: an overflow, a bad parameter. Empty if the inputs are finite.
    """

    def __init__(
        self,
        name: str,
        count: int,
        *,
        id: str = "",  # noqa: A002
        total: int = 0,
        operation: str = "",
        call: int = 0,
        forward: int = 0,
        is_gradient: bool = False,
        input_range: tuple[float, float] | None = None,
        before: tuple[str, ...] = (),
        location: str = "",
        problem: str = "",
    ) -> None:
        self.name, self.count, self.id, self.total, self.operation = name, count, id, total, operation
        self.call, self.forward, self.is_gradient, self.input_range = call, forward, is_gradient, input_range
        self.before, self.location, self.problem = before, location, problem
        of_item = f"{name!r} has {count} NaN or infinite values for {id!r}."
        advice = " finite='record' counts them in store.nonfinite."
        super().__init__(of_item + advice if id else self._describe())

    @property
    def share(self) -> float:
        """The share of bad values, from 0 to 1; NaN if the number of values is not known."""
        return self.count / self.total if self.total else float("nan")

    def _describe(self) -> str:
        operation = f" ({self.operation})" if self.operation and f":{self.operation}" not in self.name else ""
        what = "the gradient that it computes has" if self.is_gradient else "it has"
        parts = [f"{self.name!r}{operation}: {what} {self.count:,} NaN or infinite values of {self.total:,}"]
        if self.input_range is not None:
            source = "gradients" if self.is_gradient else "inputs"
            finite = "finite " if not self.problem or self.problem.startswith("overflow") else ""
            parts.append(f"; its {finite}{source} are from {self.input_range[0]:.4g} to {self.input_range[1]:.4g}")
        parts.append(f". {self.problem[:1].upper()}{self.problem[1:]}." if self.problem else ".")
        parts.append(f" Forward pass {self.forward}, call {self.call}")
        parts.append(f", at {self.location}." if self.location else ".")
        if self.before:
            parts.append(f" Before it ran: {', '.join(self.before)}.")
        return "".join(parts)


class StoreNotFoundError(FeatureLayerError, FileNotFoundError):
    """A folder is not a store.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str, *, moved: bool = False) -> None:
        self.path = path
        hint = "it was moved or deleted after it was opened" if moved else "a store is a folder that `extract` wrote"
        super().__init__(f"no store in {path!r}: {hint}.")


class StoreMismatchError(FeatureLayerError, ValueError):
    """A store holds other features than those that would be added.

    Attributes:
        path: The folder of the store.
        differences: The settings that differ: for each name, the value in the store and the requested value.
        items: The ids of the items that changed since their features were extracted.
    """

    def __init__(self, path: str, differences: Mapping[str, tuple[object, object]], items: Sequence[str] = ()) -> None:
        self.path, self.differences, self.items = path, dict(differences), tuple(items)
        if items:
            more = f" and {len(items) - 3} more" if len(items) > 3 else ""
            changed = f"{', '.join(map(repr, items[:3]))}{more}"
            super().__init__(
                f"the store {path!r} holds features of other items: these items have changed since they were read: "
                f"{changed}. Use another folder, or changed='redo' to extract them again."
            )
            return
        listed = "; ".join(_difference(name, *values) for name, values in self.differences.items())
        super().__init__(f"the store {path!r} holds other features: {listed}. Use another folder.")


def _difference(name: str, stored: object, requested: object) -> str:
    """Describes a difference, and how to name a function that cannot be compared."""
    if isinstance(requested, dict) and "digest" in requested and requested["digest"] is None:
        return (
            f"{name} is {requested['name']!r}, which cannot be compared with that of the store "
            f"({requested.get('problem')}): name it with tl.named('a name', function)"
        )
    return f"{name} is {stored!r} in the store and {requested!r} in this call"


class StoreLockedError(FeatureLayerError, BlockingIOError):
    """Another process writes to the store.

    Attributes:
        path: The folder of the store.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"another process is writing to the store {path!r}. Wait until it has ended, or use another folder. "
            "Processes of torchrun write one store together with backend='torchrun'."
        )


class StoreCorruptError(FeatureLayerError, ValueError):
    """A file of a store is damaged.

    Attributes:
        path: The file.
        problem: The damage.
        retry: Whether the rows of the file can be extracted again.
    """

    def __init__(self, path: str, problem: str, retry: bool = True) -> None:
        self.path, self.problem, self.retry = path, problem, retry
        fix = "Delete it and run the extraction again: only its rows are recomputed."
        other = "Restore it from a copy, or extract to another folder."
        super().__init__(f"{path} is damaged: {problem}. {fix if retry else other}")


class StoreIncompleteError(FeatureLayerError, ValueError):
    """Shards of a store are missing.

    Attributes:
        path: The folder of the store.
        missing: The numbers of the shards.
    """

    def __init__(self, path: str, missing: Sequence[int]) -> None:
        self.path, self.missing = path, tuple(missing)
        shown = f"{', '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}"
        super().__init__(
            f"the store {path!r} is not complete: {len(missing)} shards are missing ({shown}). Run the extraction "
            "again: only these are extracted."
        )


class StoreTargetError(FeatureLayerError, FileExistsError):
    """A store cannot be created at a path.

    Attributes:
        path: The path.
        problem: What is at the path.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"cannot create a store at {path!r}: {problem}. Use a folder that is empty or does not exist.")
