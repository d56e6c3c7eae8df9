"""`LoadedModel`: a model with its preprocessing, labels and stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, nn

from .._device import input_device
from .._exceptions import ImageError, LabelNotFoundError, LayoutError
from .._layouts import find_layouts
from .._optional import need
from ..address import parse
from ..analysis import tokens_to_map
from ._hf_inputs import without_segments
from .preprocess import Preprocess
from .stages import stages


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, with its preprocessing, labels and stages.

    Attributes:
        name: The name that it was loaded by.
        model: The model.
        preprocess: The preprocessing: a `Preprocess` from image to tensor, or a function from text to keyword
            arguments.
        weights: A description of the origin of the weights.
        labels: The names of the classes, in order; empty if they are not known.
        arguments: The arguments of `load`, besides the name, that differ from the defaults.
    """

    name: str
    model: nn.Module
    preprocess: Preprocess | Callable[[str], dict[str, Tensor]]
    weights: str
    labels: tuple[str, ...] = field(default=(), repr=False)
    _stages: tuple[str, ...] = field(default=(), repr=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def inputs(self, source: Any) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Returns the arguments of the model for an image or a text, on the device of the model.

        Args:
            source: An image, as for `images.load`, or a text.

        Returns:
            The positional arguments and the keyword arguments.

        Raises:
            ImageError: If the image cannot be read.
            FileNotFoundError: If the file does not exist.

        Examples:
            >>> args, kwargs = loaded.inputs("cat.jpg")  # doctest: +SKIP
            >>> feats, output = tl.FeatureLayers(loaded.model, loaded.stages)(*args, **kwargs)  # doctest: +SKIP
        """
        device = input_device(self.model)
        inputs = self.preprocess(source)
        if isinstance(inputs, Tensor):
            return (inputs.to(device),), {}
        return (), {name: value.to(device) for name, value in without_segments(self.model, inputs).items()}

    @property
    def takes_images(self) -> bool:
        """Whether the model takes images; otherwise texts or sounds."""
        return hasattr(self.preprocess, "image")

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of a model of texts; None for other models."""
        return getattr(self.preprocess, "tokenizer", None)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The addresses of the last layers of the model's stages, from shallow to deep.

        They are the stages that the library of the model names, or those that `models.stages` finds.
        """
        if self._stages:
            return self._stages
        args, kwargs = self.example()
        return stages(self.model, *args, **kwargs)

    @cached_property
    def layouts(self) -> Mapping[str, str | None]:
        """The layout of each layer's feature, such as `"NCHW"`; None if it cannot be determined."""
        args, kwargs = self.example()
        with torch.no_grad():
            return find_layouts(self.model, "**", *args, **kwargs)

    def find_layout(self, layer: str) -> str | None:
        """Returns the layout of the feature of a layer, such as `"NCHW"`; None if it cannot be determined.

        Args:
            layer: The address of the layer, of a part of its output, or of its gradient.
        """
        return self.layouts.get(parse(layer).path)

    @property
    def patch(self) -> int | tuple[int, int] | None:
        """The side of the patches of a vision transformer in pixels, or height and width; None without patches."""
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
        """The default layer for Grad-CAM: the last stage, or its first normalisation if there is a class token.

        After that normalisation, only the class token of the last block reaches the logits, so the gradients of the
        other tokens are zero.
        """
        last = self.stages[-1]
        has_class_token = any(
            name.rpartition(".")[2] in ("cls_token", "class_token", "class_embedding")
            for name, _ in self.model.named_parameters()
        )
        if not has_class_token or self.find_layout(last) != "NTC":
            return last
        path = parse(last).path
        inside = self.model.get_submodule(path).named_modules()
        return next((f"{path}.{name}" for name, part in inside if name and "Norm" in type(part).__name__), last)

    def to_map(self, layer: str, feat: Any, image_size: tuple[int, int]) -> Tensor:
        """Returns the feature of a layer as maps of the image.

        Args:
            layer: The address of the layer or of its gradient.
            feat: The feature.
            image_size: The height and width of the model's input in pixels.

        Returns:
            Feature maps `[N, C, H, W]`: a view of the feature where possible, with its gradient.

        Raises:
            LayoutError: If the feature is not a map of the image, or its layout is unknown. It names the layer.
        """
        layout = self.find_layout(layer)
        if not isinstance(feat, Tensor) or layout is None or len(layout) != feat.ndim:
            found = list(feat.shape) if isinstance(feat, Tensor) else f"a {type(feat).__name__}"
            raise LayoutError(f"this feature is not a map of the image: {found}", layer, hint="Choose another layer.")
        try:
            return self._to_map(feat, layout, image_size)
        except LayoutError as error:
            raise error.of(layer) from None

    def _to_map(self, feat: Tensor, layout: str, image_size: tuple[int, int]) -> Tensor:
        try:
            # The patch resolves numbers of tokens that fit several grids.
            return tokens_to_map(feat, layout=layout, image_size=image_size, patch=self.patch)
        except LayoutError:
            # Later stages of a hierarchy have fewer tokens than there are patches.
            return tokens_to_map(feat, layout=layout, image_size=image_size)

    @property
    def title(self) -> str:
        """The name of the model without its library, for figures; of a folder, its last two parts."""
        name = self.name.rpartition(":")[2]
        return "/".join(PurePath(name).parts[-2:]) if PurePath(name).is_absolute() else name

    def image(self, source: Any) -> Tensor:
        """Returns an image as the model receives it, before normalisation.

        Args:
            source: An image, as for `images.load`.

        Returns:
            A new tensor `[1, 3, H, W]` from 0 to 1 on the CPU.

        Raises:
            ImageError: If the image cannot be read, or the model takes texts.
            FileNotFoundError: If the file does not exist.
        """
        if not hasattr(self.preprocess, "image"):
            raise ImageError(repr(source), f"{self.name} takes text, not images")
        image: Tensor = self.preprocess.image(source)
        return image

    def example(self) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Returns arguments that the model can be called with: a black image or a short text."""
        if not self.takes_images:
            return self.inputs("An example.")
        return self.inputs(need("PIL.Image", "images").new("RGB", (256, 256)))

    def logits(self, output: Any) -> Tensor:
        """Returns the logits in the output of the model: the output itself, or its part `logits`.

        Args:
            output: The output of the model.

        Returns:
            The logits `[N, classes]`: the same tensor, with its gradient.

        Raises:
            ValueError: If the output has no logits, because the model is not a classifier.
        """
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ValueError(f"{self.name} is not a classifier: its output, a {type(output).__name__}, has no logits")
        return logits

    def top_classes(self, output: Any, count: int = 5) -> list[tuple[str, float]]:
        """Returns the classes with the largest probabilities for the first sample.

        Args:
            output: The output of the model.
            count: The number of classes. Default: 5.

        Returns:
            Pairs of name and probability, in descending order.

        Raises:
            ValueError: If the output has no logits, because the model is not a classifier.
        """
        logits = self.logits(output).detach()[0].float()
        values, classes = logits.softmax(-1).topk(min(count, len(logits)))
        return [(self.label(index), value) for value, index in zip(values.tolist(), classes.tolist(), strict=True)]

    def label(self, index: int) -> str:
        """Returns the name of a class, or its number as text if names are not known.

        Args:
            index: The number of the class.
        """
        return self.labels[index] if index < len(self.labels) else str(index)

    def class_index(self, label: str | int) -> int:
        """Returns the number of a class.

        Args:
            label: The name of the class, in any case, or its number.

        Raises:
            LabelNotFoundError: If no class has this name or number.
        """
        text = str(label)
        if text.isdigit():
            return self._checked_index(int(text)) if self.labels else int(text)
        found = [number for number, name in enumerate(self.labels) if name.lower() == text.lower()]
        if not found:
            raise LabelNotFoundError(text, self.labels)
        return found[0]

    def _checked_index(self, index: int) -> int:
        if index >= len(self.labels):
            raise LabelNotFoundError(str(index), self.labels, count=len(self.labels))
        return index
