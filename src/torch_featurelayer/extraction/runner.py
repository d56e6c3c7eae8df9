"""From a batch of inputs to the features that are stored."""

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
from .batches import over, rows, shapes
from .modes import EAGER, Mode, compiled, images_last, parts


@dataclass(frozen=True)
class Recipe:
    """How features are made, so that any process can.

    Attributes:
        model: In eval mode, on its device.
        layers: Their addresses.
        reduce: As in `FeatureLayers`.
        layout: As in `FeatureLayers`.
        dtype: Of what is stored; None: the model's.
        autocast: The dtype that layers compute in, as `torch.autocast` chooses them; None: their own.
        mode: How the model runs.
        example: A whole batch of inputs; modes other than eager run inputs of its shape only.
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
        """Where the model is."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def capture(self, model: nn.Module) -> FeatureLayers:
        """Returns what captures the layers in this model, or a copy of it."""
        return FeatureLayers(model, list(self.layers), reduce=self.reduce, layout=self.layout, detach=True)

    def layout_of(self, name: str) -> str | None:
        """Returns the layout that the user gave for a layer."""
        return layout_for(self.layout, name)


class Runner:
    """Gives the features of inputs.

    Args:
        recipe: How.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._eager = recipe.capture(recipe.model)
        self._faster: FeatureLayers | None = None
        self._is_checked = False
        if recipe.mode != EAGER:
            self._size = recipe.mode.part or rows(recipe.example)
            self._faster = self._made_faster()

    def __call__(self, inputs: Any) -> Iterator[Mapping[str, Tensor]]:
        """Yields the features of an input `[N, ...]`, on the host, in parts of neighbouring items.

        Raises:
            FeatureOverflowError: One does not fit the dtype it is stored in.
            ValueError: A layer gives something else than one tensor of the items.
        """
        inputs = over(inputs, lambda value: value.to(self._recipe.device))
        if not self._is_checked:
            self._check_items(inputs)
        if self._faster is None or shapes(inputs) != shapes(self._recipe.example):
            yield self._features(self._eager, inputs, rows(inputs))
            return
        for part, count in parts(over(inputs, images_last), self._size):
            yield self._features(self._faster, part, count)

    def _made_faster(self) -> FeatureLayers:
        made = compiled(self._recipe.model, self._recipe.capture, self._recipe.mode)
        part, count = next(parts(over(self._recipe.example, images_last), self._size))
        for _ in range(2):  # the first run counts calls, the second compiles: from then on all are the same
            self._features(made, over(part, lambda value: value.to(self._recipe.device)), count)
        return made

    def _features(self, layers: FeatureLayers, inputs: Any, count: int) -> Mapping[str, Tensor]:
        # not inference_mode: compiled code is compiled again for it
        with torch.no_grad(), self._precision():
            feats = layers.features(inputs) if isinstance(inputs, Tensor) else layers.features(**inputs)
        return {name: self._stored(name, feat, rows(inputs))[:count] for name, feat in feats.items()}

    def _precision(self) -> AbstractContextManager[object]:
        chosen = self._recipe.autocast
        return nullcontext() if chosen is None else torch.autocast(self._recipe.device.type, chosen)

    def _stored(self, name: str, feat: Any, count: int) -> Tensor:
        if not isinstance(feat, Tensor) or feat.ndim == 0:
            raise ValueError(_not_rows(name, feat, count))
        made = self._with_items_first(name, feat)
        if len(made) != count:
            raise ValueError(_not_rows(name, feat, count))
        dtype = self._recipe.dtype
        if made.is_quantized:
            made = made.dequantize()
        if dtype is None or not made.is_floating_point():
            return made.cpu()
        wide = made.float() if made.itemsize == 1 else made  # 8-bit floats know few operations
        if ((wide.abs() > torch.finfo(dtype).max) & wide.isfinite()).any():
            raise FeatureOverflowError(name, str(dtype).removeprefix("torch."))
        return made.to(dtype).cpu()

    def _with_items_first(self, name: str, feat: Tensor) -> Tensor:
        """Moves the dimension of the items to the front, where the user said which it is; reductions did it."""
        layout = Layout.parse(text) if (text := self._recipe.layout_of(name)) else None
        if layout is None or layout.batch is None or self._recipe.reduce is not None:
            return feat
        return feat.movedim(layout.batch, 0)

    def _check_items(self, inputs: Any) -> None:
        """Refuses whole features whose items are in another dimension than the first, or may be.

        Raises:
            LayoutError: If the items of a feature are not in its first dimension.
        """
        recipe = self._recipe
        self._is_checked = True
        if recipe.reduce is not None or not any(
            getattr(module, "batch_first", None) is False for module in recipe.model.modules()
        ):
            return
        unknown = [name for name in recipe.layers if not recipe.layout_of(name)]
        args, kwargs = ((inputs,), {}) if isinstance(inputs, Tensor) else ((), inputs)
        with torch.no_grad():
            found = item_dimensions(recipe.model, unknown, *args, **kwargs) if unknown else {}
        for name, dim in found.items():
            if dim:
                raise LayoutError(f"the items of this feature are in dimension {dim}", name, readings=("TNC",))


def _not_rows(name: str, feat: Any, count: int) -> str:
    if isinstance(feat, Tensor):
        return f"{name!r} is {list(feat.shape)} for {count} items: the first dimension must be theirs"
    return f"{name!r} gives a {type(feat).__name__}, not one tensor: name a part of it, as in '{name}[0]'"
