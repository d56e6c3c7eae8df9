"""Images and a model to extract with, in any process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import models

import torch_featurelayer as tl

CUT = tl.models.Preprocess(resize=32, crop=32)


def make_images(folder: Path, count: int) -> list[str]:
    """Writes JPEGs of noise in two folders; returns their ids in the order of a store."""
    generator = np.random.default_rng(0)
    for number in range(count):
        file = folder / f"class{number % 2}" / f"{number:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(file)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


def network() -> nn.Module:
    torch.manual_seed(0)
    return models.squeezenet1_1(weights=None)
