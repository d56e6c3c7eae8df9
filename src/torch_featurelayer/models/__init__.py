"""Models by name, with their preprocessing, labels and stages.

Example:
    vgg = tl.models.load("torchvision:vgg11")
    feats, output = tl.FeatureLayers(vgg.model, vgg.stages)(vgg.preprocess("cat.jpg"))
"""

from __future__ import annotations

from .load import load
from .loaded_model import LoadedModel
from .preprocess import Preprocess
from .stages import stages

__all__ = ["LoadedModel", "Preprocess", "load", "stages"]
