"""Features of named layers: `FeatureLayer`, `FeatureLayers`, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypedDict, Unpack, overload

import torch
from torch import Tensor, nn
from torch.utils import _pytree as torch_pytree

from ._errors import FeatureNotFoundError
from ._pytree import snapshot
from .address import Selector, checked, resolve
from .engine import ClonePolicy, Gradient, Options, Run, run_once
from .engine.traced import Traced
from .reduce import Reduction, reduction
from .wrapper import ModelWrapper

__all__ = ["FeatureLayer", "FeatureLayers", "Features"]


class Features(Sequence[Any]):
    """The features of one run: a sequence in the order asked for, that also answers by name.

    Iterating gives the features. A gradient (`layer:grad_output`) is looked up
    as it is read: before `backward()` has brought it, reading it is an error.

    Examples:
        >>> feats = Features(["conv", "relu"], [torch.zeros(2), torch.ones(2)])
        >>> feats[1] is feats["relu"], len(feats), "conv" in feats
        (True, 2, True)
        >>> conv, relu = feats
    """

    __slots__ = ("_names", "_values")

    def __init__(self, names: Iterable[str], values: Iterable[Any]) -> None:
        self._names, self._values = tuple(names), tuple(values)
        if len(self._names) != len(self._values):
            raise ValueError(f"{len(self._names)} names for {len(self._values)} features")

    @property
    def names(self) -> tuple[str, ...]:
        """What was asked for, in that order; patterns stand as what they matched."""
        return self._names

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, key: int | str) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> Features: ...
    def __getitem__(self, key: int | str | slice) -> Any:
        """Returns the feature at a position or of a name, or the features of a slice.

        Raises:
            FeatureNotFoundError: There is no feature of that name.
            IndexError: There is no such position.
            GradientError: The gradient has not arrived.
        """
        if isinstance(key, slice):
            return Features(self._names[key], self._values[key])
        return _read(self._at(self._position(key) if isinstance(key, str) else key))

    def _at(self, position: int) -> Any:
        return self._values[position]

    def _position(self, name: str) -> int:
        if name not in self._names:
            raise FeatureNotFoundError(name, self._names)
        return self._names.index(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[Any]:
        return map(_read, self._values)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def keys(self) -> tuple[str, ...]:
        """Returns the names, as a dict would."""
        return self._names

    def values(self) -> list[Any]:
        """Returns the features, as a dict would."""
        return list(self)

    def items(self) -> list[tuple[str, Any]]:
        """Returns pairs of name and feature, as a dict would."""
        return list(zip(self._names, self, strict=True))

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the feature of a name, or the default."""
        return self[name] if name in self else default  # noqa: SIM401 (this is that get)

    def to_dict(self) -> dict[str, Any]:
        """Returns a new dict from name to feature, in the order asked for."""
        return dict(self.items())

    def to(self, *args: Any, **kwargs: Any) -> Features:
        """Returns features moved or converted as `torch.Tensor.to` does."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def cpu(self) -> Features:
        """Returns features in host memory."""
        return self._map(Tensor.cpu)

    def detach(self) -> Features:
        """Returns features cut from the graph: views of the same memory."""
        return self._map(Tensor.detach)

    def _map(self, fn: Callable[[Tensor], Tensor]) -> Features:
        return Features(self._names, [snapshot(_read(value), fn) for value in self._values])

    def __repr__(self) -> str:
        return f"Features({', '.join(f'{n!r}: {_summary(v)}' for n, v in zip(self._names, self._values, strict=True))})"


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(part) for part in value]
    return value.value if isinstance(value, Gradient) else value


def _summary(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return "gradient" if isinstance(value, Gradient) else type(value).__name__


torch_pytree.register_pytree_node(
    Features,
    lambda features: (features.values(), features.names),
    lambda values, names: Features(names, values),
    serialized_type_name="torch_featurelayer.Features",
)


class LayerOptions(TypedDict, total=False):
    """The keyword arguments of `FeatureLayer`, which says what they mean."""

    clone: ClonePolicy
    detach: bool
    reduce: Reduction | None
    dtype: torch.dtype | None
    device: torch.device | str | None
    stop: bool


class _Layers(ModelWrapper):
    """What `FeatureLayer` and `FeatureLayers` share: the requests, and the two ways to run."""

    def __init__(
        self,
        model: nn.Module,
        selectors: Selector | Iterable[Selector],
        *,
        clone: ClonePolicy = "lazy",
        detach: bool = False,
        reduce: Reduction | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        stop: bool = True,
    ) -> None:
        super().__init__(checked(model))
        self.requests = resolve(model, selectors)
        self.options = Options(clone, detach, reduction(reduce) if reduce else None, dtype, device)
        self.stop = stop
        self._learnt: dict[object, tuple[int, ...]] = {}
        self._traced: Traced | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in the order they are returned in."""
        return tuple(request.name for request in self.requests)

    def compile(self, **options: Any) -> None:
        """Compiles the forward, and `.features()` with its early stop, capture included.

        Leaves inert hooks in the model until `remove_hooks()`; calls that do
        not come through this wrapper are not captured.

        Args:
            **options: For `torch.compile`, such as `fullgraph=True`.

        Raises:
            CompileError: A gradient or an operation is asked for, which only eager runs give.
        """
        self.remove_hooks()
        self._traced = Traced(self.model, self.requests, self.options, options)

    def remove_hooks(self) -> None:
        """Undoes `compile()`: takes its hooks out of the model; calls are eager again."""
        if self._traced is not None:
            self._traced.remove()
            self._traced = None

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Any]:
        run, output = self._once(args, kwargs)
        return run.results(self.model), output

    def _run_to_layer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        if not self.stop:
            return self._run(args, kwargs)[0]
        occasion = _occasion(self.model, args, kwargs)
        run, _ = self._once(args, kwargs, stop=True, calls=self._learnt.get(occasion))
        values = run.results(self.model)
        for slot in run.slots:
            slot.check_unambiguous()
        if not run.stopped:
            self._learnt[occasion] = tuple(slot.calls for slot in run.slots)
        return values

    def _once(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        stop: bool = False,
        calls: tuple[int, ...] | None = None,
    ) -> tuple[Run, Any]:
        if self._traced is not None and (calls is not None or not stop):
            return self._traced(args, kwargs, stop=stop, calls=calls)
        return run_once(self.model, self.requests, self.options, args, kwargs, stop=stop, calls=calls)

    def extra_repr(self) -> str:
        """Shows what is captured."""
        return ", ".join(map(repr, self.names))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_traced": None, "_learnt": {}}  # type: ignore[no-untyped-call]


def _occasion(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Returns what the number of calls may depend on: the mode, and structure and shapes of the input."""
    leaves, structure = torch_pytree.tree_flatten((args, kwargs))
    shapes = tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf) for leaf in leaves)
    return model.training, str(structure), shapes


class FeatureLayer(_Layers):
    """Runs a model and returns the feature of one layer beside the output.

    Hooks are in the model for the length of a call only. The wrapped model is
    the same object; `state_dict` and `load_state_dict` are its own.

    Args:
        model: Any `nn.Module`.
        layer: An address (`"layer4"`, `"layer1.0.relu@0"`, `"fc:input"`,
            `"layer4:grad_output"`, `"encoder:output[0]"`), or the module itself.
        clone: `"lazy"` (default) copies on write: right at next to no cost.
            True copies at once. False keeps the model's own tensor, **which
            later in-place operations overwrite**.
        detach: Return features cut from the graph.
        reduce: `"mean"`, `"max"`, `"cls"`, `"flatten"` or a function, applied as captured.
        dtype: Convert floating-point features as captured.
        device: Move features as captured.
        stop: Let `.features()` end the model after the layer. False for
            models that call a layer a different number of times for inputs of one shape.

    Raises:
        LayerNotFoundError, AddressError, NotAModuleError, ScriptedModuleError: What they say.
        ValueError: The layer stands for several.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
        >>> feat, output = FeatureLayer(model, "0")(torch.ones(1, 4))
        >>> feat.shape, output.shape
        (torch.Size([1, 3]), torch.Size([1, 3]))
    """

    def __init__(self, model: nn.Module, layer: Selector, **options: Unpack[LayerOptions]) -> None:
        super().__init__(model, [layer], **options)
        if len(self.requests) > 1:
            raise ValueError(
                f"{layer!r} stands for {len(self.requests)} layers of this model: FeatureLayers(...) captures several."
            )

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Runs the model to its end.

        Returns:
            The feature and the model's output. The feature has the structure of
            what the layer returned, memory of its own and, unless detached, its
            place in the graph: a loss on it trains the layers below, and
            `torch.autograd.grad(output, feature)` works. For a gradient port the
            feature is a handle whose `.value` is there after `backward()`; for
            `@*` a list, one a call.

        Raises:
            LayerNotRunError, CallNotMadeError, StructureError, GradientError: What they say.
        """
        (feature,), output = self._run(args, kwargs)
        return feature, output

    def features(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the model no further than the layer, and returns its feature.

        The first call in a mode and with an input shape runs to the end and
        counts; later ones stop right after the layer. `@n` stops from the first.

        Raises:
            AmbiguousCallError: The layer runs several times, and no call is marked.
        """
        return self._run_to_layer(args, kwargs)[0]


class FeatureLayers(_Layers):
    """Runs a model and returns the features of many layers beside the output.

    Args:
        model: Any `nn.Module`.
        layers: Addresses, globs (`"layer*.0"`, `"**.conv1"`), modules, module
            types (`nn.ReLU`) or compiled regexes, one or a list of them.
        clone: See `FeatureLayer`, as for every option.
        detach: As there.
        reduce: As there.
        dtype: As there.
        device: As there.
        stop: As there.

    Raises:
        EmptyRequestError, DuplicateRequestError: What they say.
        LayerNotFoundError, AddressError, NotAModuleError, ScriptedModuleError: As `FeatureLayer`.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
        >>> feats, output = FeatureLayers(model, [nn.Linear, "1"])(torch.ones(1, 4))
        >>> feats.names, feats["0"].shape
        (('0', '2', '1'), torch.Size([1, 3]))
    """

    def __init__(
        self, model: nn.Module, layers: Selector | Iterable[Selector], **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(model, layers, **options)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Features, Any]:
        """Runs the model to its end.

        Returns:
            A new `Features` in the order asked for, and the model's output.
            What each feature is: see `FeatureLayer.forward`.

        Raises:
            LayerNotRunError, CallNotMadeError, StructureError, GradientError: What they say.
        """
        values, output = self._run(args, kwargs)
        return Features(self.names, values), output

    def features(self, *args: Any, **kwargs: Any) -> Features:
        """Runs the model no further than the last layer needed, and returns the features.

        Raises:
            AmbiguousCallError: A layer runs several times, and no call is marked.
        """
        return Features(self.names, self._run_to_layer(args, kwargs))
