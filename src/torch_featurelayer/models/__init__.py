"""Models by name, each with its own preprocessing, labels and stages.

Example:
    vgg = tl.models.load("torchvision:vgg11")
    feats, output = tl.FeatureLayers(vgg.model, vgg.stages)(vgg.preprocess("cat.jpg"))
"""

from __future__ import annotations

from .load import load
from .loaded import LoadedModel
from .preprocess import Preprocess
from .stages import stages

__all__ = ["LoadedModel", "Preprocess", "load", "stages"]
