"""`tl.objects`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .._exceptions import LayoutError
from .._optional import need
from ..models import LoadedModel
from ._detectors import Detections, detect, label_of


@dataclass(frozen=True, eq=False, repr=False)
class Objects:
    """The objects that a detector found in an image, in the order in which it returns them.

    Attributes:
        boxes: The corners `x0, y0, x1, y1` of each box in pixels of the image: float32 `[K, 4]`.
        scores: The score of each object: float32 `[K]`.
        classes: The number of each object's class: int64 `[K]`.
        labels: The name of each object's class, or its number as text if names are not known.
        features: The features of the objects by layer: `[K, C]`, or `[K, C, size, size]`. They are new tensors without
            gradient.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    labels: tuple[str, ...]
    features: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, layer: str) -> Tensor:
        """Returns the features of the objects in a layer."""
        return self.features[layer]

    def __repr__(self) -> str:
        pairs = zip(self.labels, self.scores.tolist(), strict=True)
        found = ", ".join(f"{label} {score:.2f}" for label, score in pairs)
        shapes = ", ".join(f"{name!r}: {list(feat.shape)}" for name, feat in self.features.items())
        return f"Objects({found or 'none'}; {shapes})"


def objects(
    model: nn.Module | LoadedModel,
    layers: str | Sequence[str],
    image: Any,
    *,
    threshold: float = 0.5,
    size: int = 1,
) -> Objects:
    """Detects the objects of an image, and returns a feature of each: the layer's map under its box.

    The boxes are mapped to the input of the layers, which detectors resize and pad, and the maps are averaged under
    them by RoIAlign [1]_, whose samples are interpolated and not rounded to pixels of the map.

    Args:
        model: A detector of torchvision, or a `LoadedModel` of torchvision or transformers.
        layers: The layers, one or a list. Each must return one map `[1, C, H, W]`, such as a stage of the backbone.
        image: The image, as for `images.load`; for a detector of torchvision also a tensor `[3, H, W]` from 0 to 1.
        threshold: The lowest score of an object. Default: 0.5.
        size: The height and width of each feature. Default: 1, one vector for each object.

    Returns:
        The `Objects`.

    Raises:
        DetectorError: If the model is not a detector of these libraries.
        LayoutError: If a layer does not return one map.
        LayerNotFoundError: If the model has no such layer.
        ImageError: If the image cannot be read.
        MissingExtraError: If torchvision is not installed.

    References:
        .. [1] He et al., "Mask R-CNN", 2017, https://arxiv.org/abs/1703.06870
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    found = detect(model, names, image, threshold)
    label = label_of(model)
    return Objects(
        found.boxes,
        found.scores,
        found.classes,
        tuple(map(label, found.classes.tolist())),
        {name: pool_boxes(found, name, size) for name in names},
    )


def pool_boxes(found: Detections, layer: str, size: int) -> Tensor:
    """Returns the feature of each object in a layer: `[K, C]`, or `[K, C, size, size]`.

    Raises:
        LayoutError: If the layer does not return one map.
    """
    feature = found.features[layer]
    if not isinstance(feature, Tensor) or feature.ndim != 4 or len(feature) != 1:
        shown = list(feature.shape) if isinstance(feature, Tensor) else f"a {type(feature).__name__}"
        hint = "Choose a layer of the backbone, or name a map inside, such as 'backbone[0]'."
        raise LayoutError(f"objects need one map [1, C, H, W], but this feature is {shown}", layer, hint=hint)
    height, width = feature.shape[-2:]
    to_map = [found.scale[0] * width / found.input_size[1], found.scale[1] * height / found.input_size[0]]
    boxes = found.boxes.to(feature) * feature.new_tensor(to_map * 2)
    pooled: Tensor = need("torchvision.ops", "images").roi_align(feature, [boxes], size, aligned=True)
    return pooled.flatten(1) if size == 1 else pooled
