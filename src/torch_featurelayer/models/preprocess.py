"""`Preprocess`: the preprocessing of images for a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .. import images


@dataclass(frozen=True, slots=True)
class Preprocess:
    """The preprocessing of images for a model, through `images.load`.

    Attributes:
        resize: The length of the shorter side in pixels; None keeps the size. Default: 256.
        crop: The side in pixels of the square that is cut from the centre; None keeps all pixels. Default: 224.
        mean: The mean of each channel, on a scale of 0 to 1, which is subtracted. Default: the mean of ImageNet.
        std: The standard deviation by which each channel is divided. Default: that of ImageNet.
        interpolation: The interpolation mode of the resize: `"bilinear"` (default), `"bicubic"` or another mode of
            torchvision.
    """

    resize: int | None = 256
    crop: int | None = 224
    mean: tuple[float, ...] = images.IMAGENET_MEAN
    std: tuple[float, ...] = images.IMAGENET_STD
    interpolation: str = "bilinear"

    def __call__(self, source: images.Source) -> Tensor:
        """Returns the input of the model for an image.

        Args:
            source: An image, as for `images.load`.

        Returns:
            A new float32 tensor `[1, 3, H, W]`.

        Raises:
            ImageError: If the image cannot be read.
            FileNotFoundError: If the file does not exist.
        """
        return self._load(source, self.mean, self.std)

    def image(self, source: images.Source) -> Tensor:
        """Returns the image as the model receives it, before normalisation: `[1, 3, H, W]` from 0 to 1."""
        return self._load(source, None, None)

    def region(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Returns the part of an image that the model receives.

        Args:
            size: The width and height of the image in pixels.

        Returns:
            Its left, upper, right and lower edge, as shares of width and height: from 0 to 1, or beyond where a crop
            that is larger than the image is padded.
        """
        width, height = size
        if self.resize is not None:
            width, height = (int(self.resize * side / min(size)) for side in size)  # as torchvision does
        if self.crop is None:
            return 0.0, 0.0, 1.0, 1.0
        left, upper = round((width - self.crop) / 2), round((height - self.crop) / 2)
        return left / width, upper / height, (left + self.crop) / width, (upper + self.crop) / height

    def _load(self, source: images.Source, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Tensor:
        return images.load(
            source, resize=self.resize, crop=self.crop, mean=mean, std=std, interpolation=self.interpolation
        )
