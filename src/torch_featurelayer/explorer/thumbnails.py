"""Small square images of the items of a dataset."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy
import torch
from torch import Tensor

from ..images import open_image
from .dataset import Dataset

SIDE: Final = 96  # pixels
_CACHED: Final = 10_000  # 28 kB each


class Thumbnails:
    """Thumbnails of items; the latest ones are cached.

    Args:
        dataset: The items, which are images.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._cache: OrderedDict[int, Tensor] = OrderedDict()

    def __getitem__(self, number: int) -> Tensor:
        """Returns the centre of an item as a square: uint8 `[3, 96, 96]`; grey if it cannot be read."""
        found = self._cache.get(number)
        if found is None:
            found = self._cache[number] = self._draw(number)
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return found

    def _draw(self, number: int) -> Tensor:
        try:
            sample = self._dataset.sample(number)
            if hasattr(sample, "draft"):  # a JPEG file is decoded at an eighth of its size where that is enough
                sample.draft("RGB", (2 * SIDE, 2 * SIDE))
            image = open_image(sample)
            side = min(image.size)
            left, upper = (image.width - side) / 2, (image.height - side) / 2
            small = image.resize((SIDE, SIDE), box=(left, upper, left + side, upper + side))
        except (OSError, ValueError):
            return torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)
        return torch.from_numpy(numpy.asarray(small).copy()).permute(2, 0, 1).contiguous()
