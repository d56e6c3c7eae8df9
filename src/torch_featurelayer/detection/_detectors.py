"""Detectors of torchvision and transformers: their boxes, in the image and in the input of their layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import images
from .._device import input_device
from .._exceptions import DetectorError
from .._feature_layer import FeatureLayers
from .._features import Features
from ..models import LoadedModel

_TENSORS, _SIZES = "transform[0][tensors]", "transform[0][image_sizes]"


class Detections(NamedTuple):
    """The output of a detector for one image.

    Attributes:
        boxes: The corners `x0, y0, x1, y1` in pixels of the image: float32 `[K, 4]`.
        scores: The scores: float32 `[K]`.
        classes: The numbers of the classes: int64 `[K]`.
        scale: The factors from pixels of the image to those of the model's input, in x and y.
        input_size: The height and width of the input of the layers in pixels, with padding.
        features: The features of the layers.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    scale: tuple[float, float]
    input_size: tuple[int, int]
    features: Features


def detect(loaded: nn.Module | LoadedModel, layers: Iterable[str], image: Any, threshold: float) -> Detections:
    """Runs a detector on an image, and captures layers.

    Args:
        loaded: The detector: one of torchvision, or a `LoadedModel` of torchvision or transformers.
        layers: The addresses of the layers.
        image: The image, as for `images.load`, or a tensor `[3, H, W]` from 0 to 1.
        threshold: The lowest score.

    Raises:
        DetectorError: If the model is no detector that is known.
    """
    model: nn.Module = loaded.model if isinstance(loaded, LoadedModel) else loaded
    if hasattr(model, "transform") and hasattr(model.transform, "image_mean"):
        return _detect_torchvision(model, layers, image, threshold)
    processor = getattr(loaded.preprocess, "processor", None) if isinstance(loaded, LoadedModel) else None
    if hasattr(processor, "post_process_object_detection"):
        return _detect_transformers(model, processor, layers, image, threshold)
    raise DetectorError(type(model).__name__)


def _detect_torchvision(model: nn.Module, layers: Iterable[str], image: Any, threshold: float) -> Detections:
    if not isinstance(image, Tensor):
        image = images.load(image, resize=None, crop=None, mean=None, std=None)[0]
    pixels = image.to(input_device(model))
    height, width = pixels.shape[-2:]
    with torch.no_grad():
        feats, output = FeatureLayers(model, [*layers, _TENSORS, _SIZES])([pixels])
    found = output[0]
    kept = found["scores"] >= threshold
    resized = feats[_SIZES][0]
    return Detections(
        found["boxes"][kept],
        found["scores"][kept],
        found["labels"][kept],
        (resized[1] / width, resized[0] / height),
        tuple(feats[_TENSORS].shape[-2:]),
        feats,
    )


def _detect_transformers(
    model: nn.Module, processor: Any, layers: Iterable[str], image: Any, threshold: float
) -> Detections:
    if isinstance(image, Tensor):
        image = image.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = images.open_image(image)
    device = input_device(model)
    inputs = {name: value.to(device) for name, value in processor(images=picture, return_tensors="pt").items()}
    with torch.no_grad():
        feats, output = FeatureLayers(model, list(layers))(**inputs)
    size = (picture.height, picture.width)
    (found,) = processor.post_process_object_detection(output, threshold=threshold, target_sizes=[size])
    padded = tuple(inputs["pixel_values"].shape[-2:])
    mask = inputs.get("pixel_mask")
    # Without a mask, the image fills the input.
    resized = padded if mask is None else (int(mask[0, :, 0].sum()), int(mask[0, 0].sum()))
    scale = resized[1] / size[1], resized[0] / size[0]
    return Detections(found["boxes"], found["scores"], found["labels"], scale, padded, feats)


def label_of(loaded: nn.Module | LoadedModel) -> Callable[[int], str]:
    """Returns a function from the number of a class to its name."""
    return loaded.label if isinstance(loaded, LoadedModel) else str
