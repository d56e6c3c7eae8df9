"""Determines the layouts of features from the operations of the model.

Convolutions, linear layers, normalisations and embeddings define the dimension of their channels. During the first
forward pass of an input signature, a `LayoutTracker` follows these dimensions through all operations: additions keep
them, `permute` moves them, `reshape` keeps those that it does not split or merge. The layout of a feature is therefore
known whatever the model did to it since, or it is a `LayoutError`. A layout that the user gives takes precedence.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from .._exceptions import LayoutError
from .._layout import Layout
from .observer import Observer
from .operation_names import operation_name

UNKNOWN: Final = None
NO_BATCH: Final = -1


@dataclass(frozen=True, slots=True)
class Axes:
    """The known dimensions of a tensor.

    Attributes:
        channels: The dimensions of the channels: several if a reshape split them, as into heads or groups; none if it
            is only known that the items may have moved.
        batch: The dimension of the items; None if it is unknown, -1 if there are no items.
        guessed: Whether `batch` follows from a first dimension that nothing identifies as that of the items.
    """

    channels: tuple[int, ...]
    batch: int | None = UNKNOWN
    guessed: bool = False

    @property
    def channel(self) -> int | None:
        """The dimension of the channels; None if they are split or unknown."""
        return self.channels[0] if len(self.channels) == 1 else None

    def permute(self, order: Sequence[int]) -> Axes:
        """Returns the axes after dimensions were permuted: `order[new] == old`."""
        return self.move(order.index)

    def move(self, place: Callable[[int], int]) -> Axes:
        """Returns the axes after each dimension moved to another place; -1 if it is gone."""
        channels = tuple(sorted(map(place, self.channels)))
        batch = NO_BATCH if self.batch == NO_BATCH else place(self.batch or 0)
        if self.batch is None and batch == 0:
            return Axes(channels)
        return Axes(channels, batch, batch != NO_BATCH and (self.guessed or self.batch is None))


Arguments: TypeAlias = tuple[Any, ...]
Rule: TypeAlias = Callable[["LayoutTracker", Arguments, dict[str, Any], Tensor], Axes | None]


class LayoutTracker(Observer):
    """Follows the dimensions of channels and items through the operations of a forward pass.

    Args:
        model: The model. If a layer in it has `batch_first=False`, items may be in the second dimension.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._known: dict[int, tuple[weakref.ref[Tensor], Axes | None]] = {}
        self._last: tuple[tuple[int, ...], Axes] | None = None
        self._may_have_items_second = any(getattr(module, "batch_first", None) is False for module in model.modules())

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Arguments = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if torch.compiler.is_dynamo_compiling():  # as inside flex attention, which compiles itself
            return output
        name = _name(func)
        if isinstance(output, Tensor):
            self._set(output, self._infer(name, args, kwargs or {}, output))
        elif isinstance(output, (tuple, list)):
            for place, part in enumerate(output):
                if isinstance(part, Tensor):
                    self._set(part, self._infer(f"{name}[{place}]", args, kwargs or {}, part))
        return output

    def note_attention(self, module: nn.Module, args: Arguments, kwargs: dict[str, Any], output: Any) -> None:
        """Attention defines its channels as a linear layer does, and declares the dimension of the items."""
        attention = next(each for each in module.modules() if isinstance(each, nn.MultiheadAttention))
        given = args[0] if args else kwargs.get("query", kwargs.get("src"))
        feature, *weights = output if isinstance(output, tuple) else (output,)
        batch = NO_BATCH if feature.ndim == 2 else 0 if attention.batch_first else 1
        found = _defines(1)(self, (given,), {}, feature)
        self._set(feature, None if found is None else Axes(found.channels, batch))
        for each in weights:
            if each is not None:
                self._set(each, None)

    def axes(self, tensor: Tensor) -> Axes | None:
        """Returns the axes of a tensor whose channels are known."""
        found = self.items(tensor)
        return found if found is not None and found.channels else None

    def items(self, tensor: Any) -> Axes | None:
        """Returns the axes of a tensor, of which perhaps only the items are known."""
        return self._known[id(tensor)][1] if isinstance(tensor, Tensor) and self._has_seen(tensor) else None

    def layout(self, tensor: Tensor, module: nn.Module) -> Layout:
        """Returns the layout of an argument or output of a module.

        Raises:
            LayoutError: If there is no evidence, or it is contradictory.
        """
        shape = tuple(tensor.shape)
        axes = self.axes(tensor) or _declared_axes(module, len(shape))
        # Custom autograd functions and C++ extensions return tensors that no operation is seen for.
        if axes is None and not self._has_seen(tensor):
            axes = self._like_last(shape)
        channel = axes.channel if axes is not None else None
        if axes is None or channel is None:
            raise unknown(shape)
        return Layout(channel, self._batch(shape, axes), len(shape))

    def batch(self, tensor: Tensor) -> int | None:
        """Returns the dimension of the items only; raises as `layout` does."""
        return self._batch(tuple(tensor.shape), self.axes(tensor) or Axes((tensor.ndim - 1,)))

    def _has_seen(self, tensor: Tensor) -> bool:
        """Whether an operation returned this tensor, rather than an autograd function or code outside PyTorch."""
        found = self._known.get(id(tensor))
        return found is not None and found[0]() is tensor

    def _batch(self, shape: tuple[int, ...], axes: Axes) -> int | None:
        if axes.batch is not None and not axes.guessed:
            return None if axes.batch == NO_BATCH else axes.batch
        if axes.guessed and axes.batch:
            raise _unknown_items(shape, axes, "the model moves the first dimension")
        if axes.channels == (0,):
            return None
        if self._may_have_items_second and len(shape) == 3:
            raise _unknown_items(shape, axes, "the model has a layer with batch_first=False")
        return 0

    def _like_last(self, shape: tuple[int, ...]) -> Axes | None:
        """Returns the axes of the last known tensor, for one of its shape that an unknown function returned."""
        if self._last is None or self._last[0] != shape or self._last[1].channel is None:
            return None
        return self._last[1] if shape[1:].count(shape[self._last[1].channel]) == 1 else None

    def _set(self, tensor: Tensor, axes: Axes | None) -> None:
        self._known[id(tensor)] = (weakref.ref(tensor), axes)
        if axes is not None and axes.channels:
            self._last = (tuple(tensor.shape), axes)

    def _infer(self, name: str, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
        rule = _RULES.get(name) or _RULES.get(name.partition("[")[0], _keep)
        try:
            found = rule(self, args, kwargs, output)
        except (IndexError, TypeError, ValueError, AttributeError, KeyError):  # called in an unexpected way
            found = None
        return found or self._still_moved(args, output)

    def _still_moved(self, args: Arguments, output: Tensor) -> Axes | None:
        """Where nothing else is known of the output, its items may have moved if those of the input may have."""
        first = self.items(args[0]) if args else None
        return first if first is not None and not first.channels and args[0].ndim == output.ndim else None

    def inputs(self, args: Arguments, kwargs: dict[str, Any]) -> Iterator[tuple[Tensor, Axes]]:
        """Yields the tensors with known axes among the arguments of an operation."""
        for value in itertools.chain(args, kwargs.values()):
            for part in value if isinstance(value, (tuple, list)) else (value,):
                if isinstance(part, Tensor) and (axes := self.axes(part)) is not None:
                    yield part, axes


class LayoutFinder:
    """Determines and remembers the layouts of the tensors of one request.

    Args:
        given: The layout that the user gave; None to determine it.
        needs_channel: Whether the dimension of the channels is needed, or only that of the items. Default: True.

    Attributes:
        tracker: The tracker of the running forward pass; None if layouts were determined before.
        module: The module of the request.
        first: The layout of the first tensor.
    """

    def __init__(self, given: Layout | None, *, needs_channel: bool = True) -> None:
        self._given, self._needs_channel = given, needs_channel
        self._learned: list[tuple[Layout, int]] = []
        self.tracker: LayoutTracker | None = None
        self.module: nn.Module | None = None
        self.first: Layout | None = None

    @property
    def is_given(self) -> bool:
        """Whether the user gave the layout."""
        return self._given is not None

    def find(self, tensor: Tensor) -> Layout | None:
        """Returns the layout of a tensor; None for a tensor of fewer than three dimensions.

        Raises:
            LayoutError: If it is unknown.
        """
        if self._given is not None:
            self._given.check(tensor)
            return self._given
        # `[N, C]` and `[N]` have no positions to reduce.
        if tensor.ndim < 3:
            return None
        if self.tracker is None or self.module is None:
            return self._recall(tensor)
        if self._needs_channel:
            layout = self.tracker.layout(tensor, self.module)
        else:
            layout = Layout(tensor.ndim, self.tracker.batch(tensor), tensor.ndim)
        # Remembered with the number of channels, so that a tensor of another shape does not match by accident.
        learned = (layout, _channels(layout, tensor))
        if learned not in self._learned:
            self._learned.append(learned)
        self.first = self.first or layout
        return layout

    def _recall(self, tensor: Tensor) -> Layout:
        """Returns the layout that earlier tensors with these channels had."""
        found = [
            layout
            for layout, channels in self._learned
            if layout.ndim == tensor.ndim and _channels(layout, tensor) == channels
        ]
        if len(found) != 1:
            raise unknown(tuple(tensor.shape))
        return found[0]


def unknown(shape: tuple[int, ...]) -> LayoutError:
    """Returns the error of a feature without evidence."""
    return LayoutError(
        f"the operations of the model do not determine the dimension of the channels of this feature {list(shape)}",
        shape=shape,
    )


def _unknown_items(shape: tuple[int, ...], axes: Axes, reason: str) -> LayoutError:
    channel, other, ndim = axes.channels[0], max(axes.batch or 1, 1), len(shape)
    return LayoutError(
        f"the items of this feature {list(shape)} may be in dimension 0 or {other}, because {reason}",
        shape=shape,
        readings=tuple(str(Layout(channel, batch, ndim)) for batch in (0, other) if batch != channel),
    )


def _channels(layout: Layout, tensor: Tensor) -> int:
    return tensor.shape[layout.channel] if layout.channel < tensor.ndim else 0


def _name(func: Callable[..., Any]) -> str:
    """Returns the name of an operation; `.T` for an attribute."""
    if getattr(func, "__name__", "") == "__get__":
        return "." + getattr(getattr(func, "__self__", None), "__name__", "")
    return operation_name(func)


def _declared_axes(module: nn.Module, ndim: int) -> Axes | None:
    """Returns the axes that a module declares: timm's `output_fmt`."""
    declared = getattr(module, "output_fmt", None)
    text = str(getattr(declared, "value", declared) or "")
    return Axes((text.index("C"),), 0) if len(text) == ndim and text.count("C") == 1 else None


def _keep(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    """Most operations keep the order of dimensions: the output has the axes of an input with as many dimensions."""
    found: Axes | None = None
    for tensor, axes in tracker.inputs(args, kwargs):
        if tensor.ndim != output.ndim:
            continue
        if found is None:
            found = axes
        elif found.channels != axes.channels and tensor.shape == output.shape:
            return None  # two readings
        elif _says_more(axes, found, of_output=tensor.shape == output.shape):
            found = replace(found, batch=axes.batch, guessed=axes.guessed)
    return found


def _says_more(axes: Axes, found: Axes, *, of_output: bool) -> bool:
    """Whether axes know the items and others do not; a guess counts only from a tensor of the output's shape."""
    unknown = found.batch is None or found.guessed
    return unknown and axes.batch is not None and (not axes.guessed or of_output)


def _forget(*_: Any) -> None:
    """The axes of the output are unknown."""
    return


def _softmax(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    """A softmax over channels keeps them; over positions it returns weights without channels, as in attention."""
    axes = _keep(tracker, args, kwargs, output)
    dim = args[1] if len(args) > 1 else kwargs.get("dim")
    return axes if axes is not None and isinstance(dim, int) and dim % output.ndim == axes.channel else None


def _defines(channel_from_end: int) -> Rule:
    """Layers that define their channels, counted from the last dimension: 1 for a linear layer, 3 for `conv2d`."""

    def rule(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
        channel = output.ndim - channel_from_end
        given = args[0] if args else kwargs["input"]
        before = tracker.items(given) if given.ndim == output.ndim else None
        if before is not None and before.channel is not None and before.channel != channel:
            return None  # applied to positions, as in an MLP-Mixer: two readings
        if channel_from_end > 1:
            return Axes((channel,), 0 if channel else NO_BATCH)
        return Axes((channel,)) if before is None else replace(before, channels=(channel,))

    return rule


def _second(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    """Batch, group and instance normalisation: channels are the second dimension."""
    return _defines(output.ndim - 1)(tracker, args, kwargs, output) if output.ndim > 1 else None


def _layer_norm(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    shape = args[1] if len(args) > 1 else kwargs["normalized_shape"]
    return (_defines(1) if len(tuple(shape)) == 1 else _keep)(tracker, args, kwargs, output)


def _embedding(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    found = tracker.items(args[0] if args else kwargs["input"]) or Axes(())
    return replace(found, channels=(output.ndim - 1,))


def _matmul(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    """A product keeps the columns of the second factor, and the rows of the first."""
    first, second = [arg for arg in args if isinstance(arg, Tensor)][-2:]
    left, right = tracker.axes(first), tracker.axes(second)
    if right is not None and second.ndim == output.ndim and second.ndim - 2 not in right.channels:
        return right if right.batch != second.ndim - 2 else Axes(right.channels)
    if left is not None and first.ndim == output.ndim:
        if second.ndim == 2 and left.channel == first.ndim - 1:
            return replace(left, channels=(output.ndim - 1,))  # a linear layer by hand
        if right is None and first.ndim - 1 not in left.channels:
            return left
    return None


def _einsum(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    """A product keeps the channels of a factor if it sums over none of them, as attention keeps those of its values."""
    factors = args[1] if isinstance(args[1], (tuple, list)) else args[1:]
    terms, result = _subscripts(args[0], factors, output)
    found: Axes | None = None
    for factor, labels in zip(factors, terms, strict=True):
        axes = tracker.axes(factor)
        if axes is None or not all(labels[dim] in result for dim in axes.channels):
            continue
        moved = axes.move([result.index(label) if label in result else NO_BATCH for label in labels].__getitem__)
        if found is not None and found.channels != moved.channels:
            return None  # two readings
        if found is None or _says_more(moved, found, of_output=True):
            found = moved
    return found


def _subscripts(equation: str, factors: Sequence[Tensor], output: Tensor) -> tuple[list[list[str]], list[str]]:
    """Returns the label of each dimension of the factors and the output of `einsum`.

    Raises:
        ValueError: If the output is implicit.
    """
    left, right = equation.replace(" ", "").split("->")
    terms = [_labels(term, factor.ndim) for term, factor in zip(left.split(","), factors, strict=True)]
    return terms, _labels(right, output.ndim)


def _labels(term: str, ndim: int) -> list[str]:
    """Returns the labels of a term; the dimensions of its ellipsis are numbered from the last."""
    before, ellipsis, after = term.partition("...")
    count = ndim - len(before) - len(after)
    return [*before, *(f"...{count - place}" for place in range(count if ellipsis else 0)), *after]


def _permute(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    dims = kwargs.get("dims", args[1:])
    order = dims[0] if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
    return _permute_axes(tracker, args, [dim % output.ndim for dim in order])


def _transpose(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    one, other = [*args[1:], *kwargs.values()] if len(args) + len(kwargs) > 2 else (-2, -1)
    order = list(range(output.ndim))
    order[one], order[other] = order[other], order[one]
    return _permute_axes(tracker, args, order)


def _reverse(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    return _permute_axes(tracker, args, list(range(output.ndim))[::-1])


def _movedim(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    source, destination = [*args[1:], *kwargs.values()]
    sources = [dim % output.ndim for dim in (source if isinstance(source, (tuple, list)) else [source])]
    places = [dim % output.ndim for dim in (destination if isinstance(destination, (tuple, list)) else [destination])]
    rest = iter(dim for dim in range(output.ndim) if dim not in sources)
    order = [sources[places.index(dim)] if dim in places else next(rest) for dim in range(output.ndim)]
    return _permute_axes(tracker, args, order)


def _permute_axes(tracker: LayoutTracker, args: Arguments, order: list[int]) -> Axes | None:
    axes = tracker.items(args[0])
    if axes is not None:
        return axes.permute(order)
    is_weight = isinstance(args[0], nn.Parameter)
    return None if is_weight or order[0] == 0 else Axes(()).permute(order)  # an input, for instance token ids


def _reshape(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    """A dimension is kept if it has as many values, and as many values before it."""
    axes, before, after = tracker.axes(args[0]), tuple(args[0].shape), tuple(output.shape)
    if axes is None or before == after:
        return axes
    channels = _same_place(before, axes.channels, after)
    if channels is None:
        return None
    batch = axes.batch
    if batch is not None and batch >= 0:
        found = _same_place(before, (batch,), after)
        batch = found[0] if found is not None and len(found) == 1 else UNKNOWN
    return Axes(channels, batch, axes.guessed and batch is not None)


def _same_place(before: tuple[int, ...], dims: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...] | None:
    """Returns the dimensions after a reshape that hold what some neighbouring ones held before it."""
    if dims != tuple(range(dims[0], dims[-1] + 1)):
        return None
    start, size = prod(before[: dims[0]]), prod(before[dim] for dim in dims)
    first = next(
        (dim for dim in range(len(after)) if prod(after[:dim]) == start and (after[dim] > 1 or size == 1)), None
    )
    if first is None:
        return None
    last = first
    while last < len(after) and prod(after[first : last + 1]) < size:
        last += 1
    return tuple(range(first, last + 1)) if prod(after[first : last + 1]) == size else None


def _index(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    """Slices keep dimensions, numbers remove them, None adds one; anything else may move them."""
    axes, ndim = tracker.axes(args[0]), args[0].ndim
    steps = list(args[1]) if isinstance(args[1], tuple) else [args[1]]
    if axes is None or not all(step is None or step is Ellipsis or isinstance(step, (slice, int)) for step in steps):
        return None
    named = sum(step is not None and step is not Ellipsis for step in steps)
    if not any(step is Ellipsis for step in steps):
        steps.append(Ellipsis)
    at = steps.index(Ellipsis)
    steps[at : at + 1] = [slice(None)] * (ndim - named)
    kept: list[int | None] = []
    old = 0
    for step in steps:
        if not isinstance(step, int) or isinstance(step, bool):
            kept.append(None if step is None else old)
        old += step is not None
    return _pick(axes, kept)


def _remove(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    """`select` and `unbind` remove one dimension; a sum or mean removes those it is over, or keeps them."""
    axes, ndim = tracker.axes(args[0]), args[0].ndim
    if axes is None or output.ndim == ndim:
        return axes
    given = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
    removed = {dim % ndim for dim in (given if isinstance(given, (tuple, list)) else [given])}
    return _pick(axes, [dim for dim in range(ndim) if dim not in removed])


def _pick(axes: Axes, kept: Sequence[int | None]) -> Axes | None:
    """Returns the axes of a tensor whose dimensions are these of another; None stands for a new one."""
    channels = tuple(kept.index(dim) for dim in axes.channels if dim in kept)
    if not channels:
        return None
    batch = axes.batch
    if batch is not None and batch >= 0:
        batch = kept.index(batch) if batch in kept else NO_BATCH
    return Axes(channels, batch, axes.guessed)


def _stack(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:
    dim = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % output.ndim
    axes = next((axes for _, axes in tracker.inputs(args[:1], kwargs)), None)
    order: list[int | None] = [*range(output.ndim - 1)]
    order.insert(dim, None)
    return None if axes is None else _pick(axes, order)


def _expand(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    axes, more = tracker.axes(args[0]), output.ndim - args[0].ndim
    return axes if axes is None or not more else Axes(tuple(dim + more for dim in axes.channels), UNKNOWN)


def _recurrent(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    """The outputs of a recurrent layer: `[T, N, C]`, or `[N, T, C]` with `batch_first`."""
    if output.ndim != 3 or not isinstance(args[-1], bool):  # a packed sequence
        return Axes((output.ndim - 1,)) if output.ndim == 2 else None
    return Axes((2,), 0 if args[-1] else 1)


def _states(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    """The states of a recurrent layer: `[layers, N, C]`."""
    return Axes((2,), 1) if output.ndim == 3 else None


def _attention(tracker: LayoutTracker, args: Arguments, kwargs: dict[str, Any], output: Tensor) -> Axes | None:  # noqa: ARG001
    """What `multi_head_attention_forward` returns first: `[T, N, C]`."""
    return Axes((output.ndim - 1,), 1 if output.ndim == 3 else NO_BATCH)


def _table(rules: dict[str, Rule]) -> dict[str, Rule]:
    return {name: rule for names, rule in rules.items() for name in names.split()}


_RULES: Final = _table(
    {
        "linear bilinear": _defines(1),
        "conv1d conv_transpose1d": _defines(2),
        "conv2d conv_transpose2d": _defines(3),
        "conv3d conv_transpose3d": _defines(4),
        "batch_norm group_norm instance_norm": _second,
        "layer_norm rms_norm": _layer_norm,
        "embedding": _embedding,
        "softmax log_softmax gumbel_softmax": _softmax,
        "matmul bmm mm addmm baddbmm": _matmul,
        "einsum": _einsum,
        "permute": _permute,
        "transpose swapaxes swapdims swapaxis t .mT .mH": _transpose,
        ".T .H": _reverse,
        "movedim moveaxis": _movedim,
        "reshape view view_as reshape_as flatten unflatten squeeze unsqueeze ravel contiguous": _reshape,
        "getitem": _index,
        "select unbind mean sum amax amin max min std var prod norm logsumexp": _remove,
        "stack": _stack,
        "expand expand_as": _expand,
        "lstm[0] gru[0] rnn_tanh[0] rnn_relu[0]": _recurrent,
        "lstm[1] lstm[2] gru[1] rnn_tanh[1] rnn_relu[1]": _states,
        "multi_head_attention_forward[0]": _attention,
        "multi_head_attention_forward[1] tensordot cdist outer unfold fold as_strided diag diagonal cov "
        "rot90 kron nonzero one_hot take put": _forget,
    }
)
