"""A model with what belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .._exceptions import ImageError, LabelNotFoundError, LayoutError
from .._layouts import find_layouts
from .._optional import need
from ..analysis import tokens_to_map
from .preprocess import Preprocess
from .stages import stages


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, with its preprocessing, labels and stages.

    Attributes:
        name: What it was asked for by.
        model: The model.
        preprocess: Makes its input: from an image a tensor (a `Preprocess`), from a text keyword arguments.
        weights: Where its weights are from, in words.
        labels: The name of each class of its output, in order; empty where they are not known.
        arguments: The arguments of `load` beside its name that were not the defaults.
    """

    name: str
    model: nn.Module
    preprocess: Preprocess | Callable[[str], dict[str, Tensor]]
    weights: str
    labels: tuple[str, ...] = field(default=(), repr=False)
    _stages: tuple[str, ...] = field(default=(), repr=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def inputs(self, source: Any) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Returns the arguments to call the model with for an image or a text, on the model's device.

        Examples:
            >>> args, kwargs = loaded.inputs("cat.jpg")  # doctest: +SKIP
            >>> feats, output = tl.FeatureLayers(loaded.model, loaded.stages)(*args, **kwargs)  # doctest: +SKIP
        """
        device = next((parameter.device for parameter in self.model.parameters()), None)
        made = self.preprocess(source)
        if isinstance(made, Tensor):
            return (made.to(device),), {}
        return (), {name: value.to(device) for name, value in made.items()}

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The paths of the layers that end its stages, shallow to deep.

        As the library that made the model names them, else found by one run (`models.stages`).
        """
        if self._stages:
            return self._stages
        args, kwargs = self.example()
        return stages(self.model, *args, **kwargs)

    @cached_property
    def layouts(self) -> Mapping[str, str | None]:
        """The layout of each layer's feature, such as `"NCHW"`; None where the model's operations do not show it."""
        args, kwargs = self.example()
        with torch.no_grad():
            return find_layouts(self.model, "**", *args, **kwargs)

    @property
    def patch(self) -> int | tuple[int, int] | None:
        """The side of the patches of a vision transformer in pixels, or its height and width; None without patches."""
        embedding = getattr(self.model, "patch_embed", None)
        for owner in (embedding, self.model, getattr(self.model, "config", None)):
            side = getattr(owner, "patch_size", None)
            if isinstance(side, int):
                return side
            if isinstance(side, (tuple, list)) and len(side) == 2:
                return int(side[0]), int(side[1])
        return None

    @property
    def cam_layer(self) -> str:
        """The layer for Grad-CAM: the last stage; in a transformer with a class token its first normalisation.

        After that no other token of the last block reaches the logits, so their gradient is zero.
        """
        last = self.stages[-1]
        has_class_token = any(
            name.rpartition(".")[2] in ("cls_token", "class_token", "class_embedding")
            for name, _ in self.model.named_parameters()
        )
        if not has_class_token or self.layouts.get(last) != "NTC":
            return last
        inside = self.model.get_submodule(last).named_modules()
        return next((f"{last}.{name}" for name, part in inside if name and "Norm" in type(part).__name__), last)

    def to_map(self, layer: str, feat: Any, image_size: tuple[int, int]) -> Tensor:
        """Returns a layer's feature as maps of the image.

        Args:
            layer: The address of the layer, or of its gradient.
            feat: The feature.
            image_size: Height and width of the model's input, in pixels.

        Returns:
            `[N, C, H, W]`: a view of the feature where memory allows.

        Raises:
            LayoutError: If the feature is no map of the image, or its layout is not known.
        """
        layout = self.layouts.get(layer.partition("@")[0].partition(":")[0])
        if not isinstance(feat, Tensor) or layout is None or len(layout) != feat.ndim:
            found = list(feat.shape) if isinstance(feat, Tensor) else f"a {type(feat).__name__}"
            raise LayoutError(f"this feature is no map of the image: {found}", layer, hint="Choose another layer.")
        try:
            return self._mapped(feat, layout, image_size)
        except LayoutError as error:
            raise error.of(layer) from None

    def _mapped(self, feat: Tensor, layout: str, image_size: tuple[int, int]) -> Tensor:
        try:
            return tokens_to_map(feat, layout=layout, image_size=image_size, patch=self.patch)
        except LayoutError:
            # Later stages of a hierarchy have fewer tokens than there are patches.
            return tokens_to_map(feat, layout=layout, image_size=image_size)

    @property
    def title(self) -> str:
        """A name for figures: without the library."""
        return self.name.rpartition(":")[2]

    def photo(self, source: Any) -> Tensor:
        """Returns an image as the model sees it, in its own colours: `[1, 3, H, W]`, from 0 to 1.

        Raises:
            ImageError: It cannot be read, or the model takes no images.
            FileNotFoundError: There is no such file.
        """
        if not hasattr(self.preprocess, "photo"):
            raise ImageError(repr(source), f"{self.name} takes text, not images")
        photo: Tensor = self.preprocess.photo(source)
        return photo

    def example(self) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Returns arguments the model can be called with: a black image, or a short text."""
        if not hasattr(self.preprocess, "photo"):
            return self.inputs("An example.")
        return self.inputs(need("PIL.Image", "images").new("RGB", (256, 256)))

    def logits(self, output: Any) -> Tensor:
        """Returns the logits `[N, classes]` in what the model returned: the tensor itself, or its part `logits`.

        Raises:
            ValueError: It has none: this is no classifier.
        """
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ValueError(f"{self.name} gives no logits of classes, but a {type(output).__name__}")
        return logits

    def top_classes(self, output: Any, count: int = 5) -> list[tuple[str, float]]:
        """Returns the most probable classes and their probabilities, of the first sample.

        Args:
            output: What the model returned.
            count: How many.

        Raises:
            ValueError: As `logits`.
        """
        logits = self.logits(output).detach()[0].float()
        values, classes = logits.softmax(-1).topk(min(count, len(logits)))
        return [(self.label(index), value) for value, index in zip(values.tolist(), classes.tolist(), strict=True)]

    def label(self, index: int) -> str:
        """Returns the name of a class; its number where names are not known."""
        return self.labels[index] if index < len(self.labels) else str(index)

    def class_index(self, label: str | int) -> int:
        """Returns the number of a class given by its number or its name.

        Raises:
            LabelNotFoundError: No class has that name.
        """
        text = str(label)
        if text.isdigit():
            return int(text)
        found = [number for number, name in enumerate(self.labels) if name.lower() == text.lower()]
        if not found:
            raise LabelNotFoundError(text, self.labels)
        return found[0]
