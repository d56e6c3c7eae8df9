"""The options that every capture takes, validated once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, unpack_sequence

from .._checks import check_device, check_dtype
from .._exceptions import FeatureLayerError, LayoutError
from .._layout import Layout, layout_for
from .._pytree import snapshot
from ..address import Request
from .copy_on_write import ClonePolicy, copier
from .feature_masks import FeatureMask
from .token_masks import TokenMasks, Tokens, check_tokens, select_tokens

if TYPE_CHECKING:
    from .layouts import LayoutFinder


class Reducing(Protocol):
    """A reduction: a function of a tensor and, if it depends on it, the layout of the tensor."""

    @property
    def needs_layout(self) -> bool:
        """Whether the reduction depends on the layout."""

    @property
    def needs_channel(self) -> bool:
        """Whether the reduction depends on the dimension of the channels."""

    def __call__(self, feature: Tensor, layout: Layout | None, mask: Tensor | None = None) -> Tensor:
        """Reduces one tensor, or only the tokens of a mask."""


@dataclass(frozen=True, slots=True)
class Options:
    """How captured tensors are kept.

    Attributes:
        clone: `"lazy"` copies on write, True copies at once, False keeps the model's own tensor, which later in-place
            operations overwrite.
        detach: Whether to detach features from the graph.
        reduce: The reduction of each tensor, or one for each request's name.
        dtype: The dtype that floating-point features are converted to.
        device: The device that features are moved to.
        layout: The layout of the features, or one for each request's name; None determines it.
        tokens: The tokens that are kept, or reduced.
        mask: The tokens of the running forward pass; None if all positions are tokens, or the exception that reading
            the feature raises.
        changes_features: Whether captured tensors are reduced, converted or moved.
        needs_layout: Whether the layout of the features is needed.
        needs_channel: Whether the dimension of the channels is needed.
        needs_mask: Whether the tokens of a forward pass are needed.
    """

    clone: ClonePolicy = "lazy"
    detach: bool = False
    reduce: Reducing | Mapping[str, Reducing] | None = None
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None
    layout: str | Mapping[str, str] | None = None
    tokens: Tokens | None = None
    mask: FeatureMask | FeatureLayerError | None = None
    changes_features: bool = field(init=False)
    needs_layout: bool = field(init=False)
    needs_channel: bool = field(init=False)
    needs_mask: bool = field(init=False)

    def __post_init__(self) -> None:
        copier(self.clone)
        check_tokens(self.tokens)
        check_dtype(self.dtype)
        check_device(self.device)
        for text in self.layout.values() if isinstance(self.layout, Mapping) else [self.layout]:
            if text is not None:
                Layout.parse(text)
        reducers = list(self.reduce.values()) if isinstance(self.reduce, Mapping) else [self.reduce]
        reducers = [reducer for reducer in reducers if reducer is not None]
        chooses = self.tokens is not None
        changes = bool(reducers) or chooses or self.dtype is not None or self.device is not None
        object.__setattr__(self, "changes_features", changes)
        object.__setattr__(self, "needs_layout", chooses or any(reducer.needs_layout for reducer in reducers))
        object.__setattr__(self, "needs_channel", chooses or any(reducer.needs_channel for reducer in reducers))
        object.__setattr__(self, "needs_mask", self.needs_channel)

    def check_names(self, names: Sequence[str]) -> None:
        """Checks that reductions by name are those of requests.

        Raises:
            ValueError: If a name is not that of a request.
        """
        if isinstance(self.reduce, Mapping) and (unknown := [name for name in self.reduce if name not in names]):
            raise ValueError(f"reduce= names {unknown[0]!r}, which is not among the layers: {', '.join(names)}")

    def of(self, name: str) -> Options:
        """Returns the options of one request."""
        return replace(self, reduce=self.reduce.get(name)) if isinstance(self.reduce, Mapping) else self

    def in_call(self, request: Request, masks: TokenMasks) -> Options:
        """Returns the options of one request in a call of the model, whose arguments say which positions are tokens."""
        own = self.of(request.name)
        mask = masks.of(request.address.path) if own.needs_mask else None
        return own if mask is None else replace(own, mask=mask)

    def find_layout(self, name: str) -> Layout | None:
        """Returns the layout that the user gave for a request."""
        text = layout_for(self.layout, name)
        return None if text is None else Layout.parse(text)

    def finish(self, value: Any, layouts: LayoutFinder | None = None) -> Any:
        """Reduces, converts and moves the tensors of a kept value, in that order."""
        if not self.changes_features:
            return value
        if isinstance(value, PackedSequence) and self.reduce is not None and self.needs_channel:
            return torch.cat([self._reduce_sequence(row) for row in unpack_sequence(value)])
        find: Callable[[Tensor], Layout | None] = layouts.find if layouts is not None else _unknown
        return snapshot(value, lambda tensor: self.finish_tensor(tensor, find(tensor)))

    def finish_tensor(self, tensor: Tensor, layout: Layout | None) -> Any:
        """Reduces, converts and moves one tensor.

        Raises:
            ReductionError: If it cannot be reduced.
            LayoutError: If the reduction needs another layout, or tokens are chosen and it has none.
        """
        if isinstance(self.mask, FeatureLayerError):
            raise self.mask
        mask = None if self.mask is None else self.mask.of(tensor, layout)
        if isinstance(self.reduce, Mapping):
            raise TypeError("reductions by name are those of one request only after `of`")
        if self.reduce is not None:
            tensor = self.reduce(tensor, layout, mask)
        elif self.tokens is not None:
            if layout is None or mask is None:
                problem = f"tokens= needs a feature [N, T, C], but this feature is {list(tensor.shape)}"
                raise LayoutError(problem, shape=tuple(tensor.shape), hint="Leave this layer out, or reduce it.")
            return [self._convert(rows) for rows in select_tokens(tensor, layout, mask)]
        return self._convert(tensor)

    def _reduce_sequence(self, sequence: Tensor) -> Tensor:
        """Reduces one sequence `[T, C]` of a packed batch to `[1, C]`."""
        reduced: Tensor = replace(self, mask=None).finish_tensor(sequence.unsqueeze(0), Layout.parse("NTC"))
        return reduced

    def _convert(self, tensor: Tensor) -> Tensor:
        return tensor.to(device=self.device, dtype=self.dtype if tensor.is_floating_point() else None)


def _unknown(_: Tensor) -> None:
    return None
