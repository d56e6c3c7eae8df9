"""`FeatureLayer` and `FeatureLayers`: features of named layers."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._features import Features
from ._reduce import Reduction, Reductions, make_reducers
from ._wrapper import ModelWrapper
from .address import Selector, check_model, resolve
from .engine import (
    NOT_RUN,
    CallSelector,
    ClonePolicy,
    Counted,
    ForwardPass,
    Options,
    Tokens,
    call_selectors,
    input_signature,
    layout_finders,
    run_with_capture,
)
from .engine.compiled_forward import CompiledForward

__all__ = ["FeatureLayer", "FeatureLayers"]


class _Layers(ModelWrapper):
    """The requests of `FeatureLayer` and `FeatureLayers`, and the ways to run them."""

    def __init__(
        self, model: nn.Module, selectors: Selector | Iterable[Selector], options: Options, stop: bool
    ) -> None:
        super().__init__(check_model(model))
        self.requests = resolve(model, selectors)
        options.check_names([request.name for request in self.requests])
        self.options = options
        self.stop = stop
        self._finders = layout_finders(self.requests, options)
        # Whether layouts are needed that the user did not give.
        self._needs_tracking = any(finder is not None and not finder.is_given for finder in self._finders)
        self._selectors = call_selectors(self.requests)
        self._counted: dict[Hashable, Counted] = {}
        self._tracked: set[Hashable] = set()
        self._compiled: CompiledForward | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in the order in which they are returned."""
        return tuple([request.name for request in self.requests])

    def compile(self, **options: Any) -> None:
        """Compiles the forward pass and its capture with `torch.compile`, for calls and for `.features()`.

        Compiled hooks stay in the model and do nothing in other calls, until `uncompile()` removes them.

        Args:
            **options: Passed to `torch.compile`, such as `fullgraph=True`. Default: none.

        Raises:
            CompileError: If a gradient or an operation is requested, which only eager forward passes can capture, or
                if this PyTorch cannot trace hooks (before 2.13).
        """
        self.uncompile()
        self._compiled = CompiledForward(self.model, self.requests, self.options, options, self._finders)

    def uncompile(self) -> None:
        """Undoes `compile()`: removes its hooks from the model, and runs eagerly again."""
        if self._compiled is not None:
            self._compiled.remove()
            self._compiled = None

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Any]:
        track = self._needs_tracking and self._is_new(input_signature(self.model, args, kwargs))
        forward, output = self._run_once(args, kwargs, self._selectors, track=track)
        return forward.results(), output

    def _run_to_layer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        if not self.stop:
            return self._run(args, kwargs)[0]
        signature = input_signature(self.model, args, kwargs)
        # Layouts are followed once for each signature; later forward passes remember them.
        track = self._needs_tracking and self._is_new(signature)
        selectors, reads = self._known(signature)
        # The first forward pass of a signature counts the calls of each layer; from then on, the last one is known.
        eager = track or signature not in self._counted
        forward, _ = self._run_once(args, kwargs, selectors, reads, stop=True, eager=eager, track=track)
        for value in forward.values:
            value.check_unambiguous()
        values = forward.results()
        if not forward.stopped and forward.reads is not None:
            expected = call_selectors(self.requests, [value.calls for value in forward.values])
            self._counted[signature] = forward.reads.counted(expected)
        return values

    def _known(self, signature: Hashable) -> tuple[list[CallSelector], tuple[Hashable, ...] | None]:
        """Returns the selectors of a signature, and the values of tensors on which they depend; None if on none."""
        counted = self._counted.get(signature)
        if counted is None:
            return self._selectors, None if all(selector.last is not None for selector in self._selectors) else ()
        # Compiled code does not tell what it reads.
        if counted.is_open or (counted.reads and self._compiled is not None):
            return self._selectors, None
        return counted.selectors, counted.reads or None

    def _run_once(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        selectors: list[CallSelector],
        reads: tuple[Hashable, ...] | None = None,
        *,
        stop: bool = False,
        eager: bool = False,
        track: bool = False,
    ) -> tuple[ForwardPass, Any]:
        if self._compiled is not None and not (eager or track):
            return self._compiled(args, kwargs, stop=stop, selectors=selectors)
        return run_with_capture(
            self.model,
            self.requests,
            self.options,
            args,
            kwargs,
            selectors=selectors,
            stop=stop,
            finders=self._finders,
            track_layouts=track,
            expected_reads=reads,
        )

    def _is_new(self, signature: Hashable) -> bool:
        """Whether inputs of this signature are seen for the first time."""
        if signature in self._tracked:
            return False
        self._tracked.add(signature)
        return True

    def extra_repr(self) -> str:
        """Returns the names of the features, for the `repr` of the module."""
        return ", ".join(map(repr, self.names))

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),  # type: ignore[no-untyped-call]
            # Compiled code and learned calls belong to this process and this model object.
            "_compiled": None,
            "_counted": {},
            "_tracked": set(),
            "_finders": layout_finders(self.requests, self.options),
        }


class FeatureLayer(_Layers):
    """Runs a model and returns the feature of one layer together with the output.

    Hooks are registered for the duration of a call only. The wrapped model is not copied, and `state_dict` and
    `load_state_dict` are those of the wrapped model.

    Note:
        With `clone=False`, later in-place operations of the model overwrite the feature.

    Args:
        model: The model, any `nn.Module`.
        layer: The address of the layer, such as `"layer4"`, `"layer1.0.relu@0"` (its first call), `"fc:input"`,
            `"layer4:grad_output"`, `"layer1.0:add"` (an operation) or `"encoder:output[0]"`; or the module itself.
        clone: How the feature is kept: `"lazy"` (default) copies on write, which costs next to nothing; True copies at
            once; False keeps the model's own tensor.
        detach: Whether to detach the feature from the graph. Default: False.
        reduce: The reduction of the feature: `"mean"` or `"max"` over positions, `"cls"` (the first token), `"last"`
            (the last token), `"flatten"`, or a function from tensor to tensor. Default: None, the whole feature.
        tokens: The tokens of a batch of texts to keep: `"all"` (without padding), `"content"` (without padding and
            special tokens), `"last"`, a slice of the tokens of each text, or a function from `input_ids` and the mask
            `[N, T]` to a bool tensor `[N, T]`. The feature is then a list of tensors `[T, C]`, one for each text; with
            `reduce`, only these tokens are reduced. Default: None, all positions; reductions leave out padding, by the
            `attention_mask` among the arguments.
        layout: The layout of the feature, for `reduce`: a letter for each dimension, N for items, C for channels and
            other letters for positions, such as `"NCHW"`, `"NHWC"`, `"NTC"` or `"TNC"`. Default: None, determined from
            the operations of the model; if they do not determine it, the call raises a `LayoutError`.
        dtype: The dtype that floating-point features are converted to. Default: None, the dtype of the model.
        device: The device that the feature is moved to. Default: None, the device of the model.
        stop: Whether `.features()` ends the forward pass after the layer. Use False for models in which the number of
            calls of a layer depends on state outside the model, such as a global variable. Default: True.

    Raises:
        LayerNotFoundError: If the model has no such layer. The error suggests the closest matches.
        AddressError: If the address cannot be parsed.
        NotAModuleError: If the model is not an `nn.Module`.
        ScriptedModuleError: If the layer is inside a TorchScript module.
        ValueError: If the address matches several layers, or an option has an invalid value.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
        >>> feat, output = FeatureLayer(model, "0")(torch.ones(1, 4))
        >>> feat.shape, output.shape
        (torch.Size([1, 3]), torch.Size([1, 3]))
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Selector,
        *,
        clone: ClonePolicy = "lazy",
        detach: bool = False,
        reduce: Reduction | None = None,
        tokens: Tokens | None = None,
        layout: str | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        stop: bool = True,
    ) -> None:
        options = Options(clone, detach, make_reducers(reduce), dtype, device, layout, tokens)
        super().__init__(model, [layer], options, stop)
        if len(self.requests) > 1:
            raise ValueError(
                f"{layer!r} matches {len(self.requests)} layers of this model: use FeatureLayers for several layers."
            )

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor | Any, Any]:
            """Runs the model to its end, as `forward`."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor | Any, Any]:
        """Runs the complete forward pass.

        Args:
            *args: The positional arguments of the model.
            **kwargs: The keyword arguments of the model.

        Returns:
            The feature and the output of the model. The feature has the structure, shape and dtype of the layer's
            output. It is a copy and, unless detached, part of the graph: a loss on it trains the layers below, and
            `torch.autograd.grad(output, feature)` works. For a gradient port it is a `GradientHandle`, whose `.value`
            is available after `backward()`; for `@*` it is a list with an element for each call.

        Raises:
            LayerNotRunError: If the layer exists but was not called in this forward pass.
            CallNotMadeError: If the layer was called fewer times than the address says.
            OperationNotFoundError: If the operation of the address did not run in the layer.
            AmbiguousOperationError: If several such operations ran and the address does not number them.
            StructureError: If `[index]` does not fit the value of the layer.
            LayoutError: If `reduce` needs the layout of the feature and it cannot be determined.
            ReductionError: If the feature cannot be reduced.
            UncopyableValueError: If the layer returned a value that cannot be copied.
            GradientError: If a gradient is requested and nothing requires grad.
        """
        (feature,), output = self._run(args, kwargs)
        return feature, output

    def features(self, *args: Any, **kwargs: Any) -> Tensor | Any:
        """Runs the forward pass up to the layer, and returns the feature.

        The first call for an input signature runs to the end and counts the calls of the layer; later calls stop
        directly after the layer. With `@n` in the address, also the first call stops. An input signature consists of
        the shapes of tensors, the values of other arguments, the training flags and attributes of all modules, and the
        modes of PyTorch. If the model reads values of tensors, as a loop that ends by itself does, a call stops only
        if they are those of the last complete one, and none are read after the layer by the code around it.

        Args:
            *args: The positional arguments of the model.
            **kwargs: The keyword arguments of the model.

        Returns:
            The feature, as `forward` returns it.

        Raises:
            AmbiguousCallError: If the layer is called several times and the address does not say which call to take.
            LayerNotRunError: If the layer exists but was not called in this forward pass.
            FeatureLayerError: The other exceptions of `forward`.
        """
        return self._run_to_layer(args, kwargs)[0]


class FeatureLayers(_Layers):
    """Runs a model and returns the features of several layers together with the output.

    Note:
        With `clone=False`, later in-place operations of the model overwrite the features.

    Args:
        model: The model, any `nn.Module`.
        layers: The layers, one or a list: addresses, globs (`"layer*.0"`, `"**.conv1"`), modules, module types
            (`nn.ReLU`) or compiled regular expressions. A glob, type or expression captures every matching layer that
            runs; the others are listed in `Features.not_run`.
        clone: How features are kept: `"lazy"` (default) copies on write, which costs next to nothing; True copies at
            once; False keeps the model's own tensors.
        detach: Whether to detach features from the graph. Default: False.
        reduce: The reduction of each feature: `"mean"` or `"max"` over positions, `"cls"` (the first token), `"last"`
            (the last token), `"flatten"`, or a function from tensor to tensor; or a dict from name of a feature to
            reduction. Default: None, whole features.
        tokens: The tokens of a batch of texts to keep: `"all"` (without padding), `"content"` (without padding and
            special tokens), `"last"`, a slice of the tokens of each text, or a function from `input_ids` and the mask
            `[N, T]` to a bool tensor `[N, T]`. The feature is then a list of tensors `[T, C]`, one for each text; with
            `reduce`, only these tokens are reduced. Default: None, all positions; reductions leave out padding, by the
            `attention_mask` among the arguments.
        layout: The layout of features, for `reduce`: letters such as `"NCHW"` for all layers, or a dict from layer to
            letters. Default: None, determined from the operations of the model.
        dtype: The dtype that floating-point features are converted to. Default: None, the dtype of the model.
        device: The device that features are moved to. Default: None, the device of the model.
        stop: Whether `.features()` ends the forward pass after the last layer that is needed. Default: True.

    Raises:
        EmptyRequestError: If no layer is named.
        DuplicateRequestError: If a layer is named twice.
        LayerNotFoundError: If the model has no such layer, or no layer matches a pattern.
        AddressError: If an address cannot be parsed.
        NotAModuleError: If the model is not an `nn.Module`.
        ScriptedModuleError: If a layer is inside a TorchScript module.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
        >>> feats, output = FeatureLayers(model, [nn.Linear, "1"])(torch.ones(1, 4))
        >>> feats.names, feats["0"].shape
        (('0', '2', '1'), torch.Size([1, 3]))
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Selector | Iterable[Selector],
        *,
        clone: ClonePolicy = "lazy",
        detach: bool = False,
        reduce: Reductions = None,
        tokens: Tokens | None = None,
        layout: str | Mapping[str, str] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        stop: bool = True,
    ) -> None:
        options = Options(clone, detach, make_reducers(reduce), dtype, device, layout, tokens)
        super().__init__(model, layers, options, stop)

    if TYPE_CHECKING:

        def __call__(self, *args: Any, **kwargs: Any) -> tuple[Features, Any]:
            """Runs the model to its end, as `forward`."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Features, Any]:
        """Runs the complete forward pass.

        Args:
            *args: The positional arguments of the model.
            **kwargs: The keyword arguments of the model.

        Returns:
            A new `Features` in the order of the request, and the output of the model. Each feature has the structure,
            shape and dtype of the layer's output. It is a copy and, unless detached, part of the graph.

        Raises:
            LayerNotRunError: If a named layer, or every layer of a pattern, was not called in this forward pass.
            CallNotMadeError: If a layer was called fewer times than its address says.
            OperationNotFoundError: If the operation of an address did not run in its layer.
            AmbiguousOperationError: If several such operations ran and the address does not number them.
            StructureError: If `[index]` does not fit the value of a layer.
            LayoutError: If `reduce` needs the layout of a feature and it cannot be determined.
            ReductionError: If a feature cannot be reduced.
            UncopyableValueError: If a layer returned a value that cannot be copied.
            GradientError: If a gradient is requested and nothing requires grad.
        """
        values, output = self._run(args, kwargs)
        return self._to_features(values), output

    def features(self, *args: Any, **kwargs: Any) -> Features:
        """Runs the forward pass up to the last layer that is needed, and returns the features.

        The first call for an input signature runs to the end and counts the calls of the layers; later calls stop
        directly after the last layer. See `FeatureLayer.features` for what an input signature is.

        Args:
            *args: The positional arguments of the model.
            **kwargs: The keyword arguments of the model.

        Returns:
            A new `Features`, as `forward` returns it.

        Raises:
            AmbiguousCallError: If a layer is called several times and the address does not say which call to take.
            LayerNotRunError: If a named layer, or every layer of a pattern, was not called in this forward pass.
            FeatureLayerError: The other exceptions of `forward`.
        """
        return self._to_features(self._run_to_layer(args, kwargs))

    def _to_features(self, values: list[Any]) -> Features:
        pairs = list(zip(self.names, values, strict=True))
        ran = [(name, value) for name, value in pairs if value is not NOT_RUN]
        missing = (name for name, value in pairs if value is NOT_RUN)
        return Features((name for name, _ in ran), (value for _, value in ran), missing)
