"""What a model wants done to an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .. import images


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Makes a model's input from an image.

    Attributes:
        resize: The length of the shorter side in pixels; None keeps the size.
        crop: The side of the square cut from the centre; None keeps all.
        mean: Subtracted from each channel, on a scale of 0 to 1.
        std: Divides each channel.
        interpolation: How pixels are resized: `"bilinear"`, `"bicubic"` or another of torchvision's modes.
    """

    resize: int | None = 256
    crop: int | None = 224
    mean: tuple[float, ...] = images.IMAGENET_MEAN
    std: tuple[float, ...] = images.IMAGENET_STD
    interpolation: str = "bilinear"

    def __call__(self, source: images.Source) -> Tensor:
        """Returns the input for an image (what `images.load` takes): float32 `[1, 3, H, W]`, with memory of its own.

        Raises:
            ImageError, FileNotFoundError: What they say.
        """
        return self._load(source, self.mean, self.std)

    def photo(self, source: images.Source) -> Tensor:
        """Returns the image as the model sees it, but in its own colours: `[1, 3, H, W]`, from 0 to 1."""
        return self._load(source, None, None)

    def _load(self, source: images.Source, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Tensor:
        return images.load(
            source, resize=self.resize, crop=self.crop, mean=mean, std=std, interpolation=self.interpolation
        )
