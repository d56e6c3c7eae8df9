"""The rows of images in which a detector finds objects: one for each object."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..detection import detect, pool_boxes
from ..models import LoadedModel, Preprocess
from ..store import BOXES, CLASSES, SCORES

# Detectors resize and normalise images themselves.
AS_IT_IS = Preprocess(resize=None, crop=None, mean=(0, 0, 0), std=(1, 1, 1))


@dataclass(frozen=True)
class Detecting:
    """How objects are found, and the size of their features.

    Attributes:
        detector: The detector, with its preprocessing if it is one of transformers.
        threshold: The lowest score of an object.
        size: The height and width of each feature.
    """

    detector: nn.Module | LoadedModel
    threshold: float = 0.5
    size: int = 1

    def rows(self, layers: tuple[str, ...], image: Tensor) -> dict[str, Tensor]:
        """Returns the features of the objects of an image `[3, H, W]`, with their boxes, scores and classes."""
        found = detect(self.detector, layers, image, self.threshold)
        features = {name: pool_boxes(found, name, self.size) for name in layers}
        return {**features, BOXES: found.boxes.float(), SCORES: found.scores.float(), CLASSES: found.classes.long()}
