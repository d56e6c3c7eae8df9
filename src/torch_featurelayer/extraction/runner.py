"""`FeatureRunner`: from a batch of inputs to the features that are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._exceptions import FeatureOverflowError, LayoutError
from .._feature_layer import FeatureLayers
from .._layout import Layout, layout_for
from .._layouts import item_dimensions
from .._reduce import Reduction
from .batches import count_rows, map_inputs, signature
from .modes import EAGER, Mode, channels_last, compile_capture, split


@dataclass(frozen=True)
class FeatureSpec:
    """The specification of features, which any process can compute.

    Attributes:
        model: The model, in eval mode and on its device.
        layers: The addresses of the layers.
        reduce: The reduction, as in `FeatureLayers`.
        layout: The layout, as in `FeatureLayers`.
        dtype: The dtype of stored features; None for that of the model.
        autocast: The dtype that layers compute in under `torch.autocast`; None for no autocast.
        mode: How the model runs.
        example: A full batch of inputs; only inputs of its shape run in a mode other than eager.
    """

    model: nn.Module
    layers: tuple[str, ...]
    reduce: Reduction | None = None
    layout: str | Mapping[str, str] | None = None
    dtype: torch.dtype | None = None
    autocast: torch.dtype | None = None
    mode: Mode = EAGER
    example: Any = None

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def capture(self, model: nn.Module) -> FeatureLayers:
        """Returns the capture of the layers in this model or in a copy of it."""
        return FeatureLayers(model, list(self.layers), reduce=self.reduce, layout=self.layout, detach=True)

    def find_layout(self, name: str) -> str | None:
        """Returns the layout that the user gave for a layer."""
        return layout_for(self.layout, name)


class FeatureRunner:
    """Computes the features of inputs.

    Args:
        spec: The specification of the features.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self._recipe = spec
        self._eager = spec.capture(spec.model)
        self._faster: FeatureLayers | None = None
        self._is_checked = False
        if spec.mode != EAGER:
            self._size = spec.mode.part or count_rows(spec.example)
            self._faster = self._make_faster()

    def __call__(self, inputs: Any) -> Iterator[Mapping[str, Tensor]]:
        """Yields the features of an input `[N, ...]` on the CPU, in parts of consecutive items.

        Raises:
            FeatureOverflowError: If a feature does not fit the dtype of the store.
            LayoutError: If the items of a whole feature are not in its first dimension.
            ValueError: If a layer does not return one tensor with a row for each item.
        """
        inputs = map_inputs(inputs, lambda value: value.to(self._recipe.device))
        if not self._is_checked:
            self._check_items(inputs)
        if self._faster is None or signature(inputs) != signature(self._recipe.example):
            yield self._features(self._eager, inputs, count_rows(inputs))
            return
        for part, count in split(map_inputs(inputs, channels_last), self._size):
            yield self._features(self._faster, part, count)

    def _make_faster(self) -> FeatureLayers:
        faster = compile_capture(self._recipe.model, self._recipe.capture, self._recipe.mode)
        part, count = next(split(map_inputs(self._recipe.example, channels_last), self._size))
        for _ in range(2):  # the first run counts calls and the second compiles; later runs do neither
            self._features(faster, map_inputs(part, lambda value: value.to(self._recipe.device)), count)
        return faster

    def _features(self, layers: FeatureLayers, inputs: Any, count: int) -> Mapping[str, Tensor]:
        # Not inference_mode, for which compiled code would be compiled again.
        with torch.no_grad(), self._precision():
            feats = layers.features(inputs) if isinstance(inputs, Tensor) else layers.features(**inputs)
        return {name: self._to_row(name, feat, count_rows(inputs))[:count] for name, feat in feats.items()}

    def _precision(self) -> AbstractContextManager[object]:
        chosen = self._recipe.autocast
        return nullcontext() if chosen is None else torch.autocast(self._recipe.device.type, chosen)

    def _to_row(self, name: str, feat: Any, count: int) -> Tensor:
        if not isinstance(feat, Tensor) or feat.ndim == 0:
            raise ValueError(_not_rows(name, feat, count))
        rows = self._with_items_first(name, feat)
        if len(rows) != count:
            raise ValueError(_not_rows(name, feat, count))
        dtype = self._recipe.dtype
        if rows.is_quantized:
            rows = rows.dequantize()
        if dtype is None or not rows.is_floating_point():
            return rows.cpu()
        # Checked before converting: afterwards an overflow is an infinity like any other.
        wide = rows.float() if rows.itemsize == 1 else rows  # 8-bit floats support few operations
        if ((wide.abs() > torch.finfo(dtype).max) & wide.isfinite()).any():
            raise FeatureOverflowError(name, str(dtype).removeprefix("torch."))
        return rows.to(dtype).cpu()

    def _with_items_first(self, name: str, feat: Tensor) -> Tensor:
        """Moves the dimension of the items to the front if the user named it; reductions have moved it already."""
        layout = Layout.parse(text) if (text := self._recipe.find_layout(name)) else None
        if layout is None or layout.batch is None or self._recipe.reduce is not None:
            return feat
        return feat.movedim(layout.batch, 0)

    def _check_items(self, inputs: Any) -> None:
        """Checks that the items of whole features are in the first dimension.

        Raises:
            LayoutError: If they are in another dimension.
        """
        spec = self._recipe
        # Once for each runner: the layout does not depend on the values of a batch.
        self._is_checked = True
        if spec.reduce is not None or not any(
            getattr(module, "batch_first", None) is False for module in spec.model.modules()
        ):
            return
        unknown = [name for name in spec.layers if not spec.find_layout(name)]
        args, kwargs = ((inputs,), {}) if isinstance(inputs, Tensor) else ((), inputs)
        with torch.no_grad():
            found = item_dimensions(spec.model, unknown, *args, **kwargs) if unknown else {}
        for name, dim in found.items():
            if dim:
                raise LayoutError(f"the items of this feature are in dimension {dim}", name, readings=("TNC",))


def _not_rows(name: str, feat: Any, count: int) -> str:
    if isinstance(feat, Tensor):
        return f"{name!r} is {list(feat.shape)} for {count} items: its first dimension must be that of the items"
    return f"{name!r} returns a {type(feat).__name__}, not a tensor: name a part of it, such as '{name}[0]'"
