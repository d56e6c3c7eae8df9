"""Images to model inputs: read, resize, crop, normalise."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from torch import Tensor

from ._exceptions import ImageError
from ._optional import need

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Source: TypeAlias = str | PathLike[str] | Image.Image | np.ndarray

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "load", "open_image"]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


def load(
    source: Source,
    *,
    resize: int | None = 256,
    crop: int | None = 224,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    interpolation: str = "bilinear",
) -> Tensor:
    """Reads an image and preprocesses it as torchvision's classification models were trained.

    The result equals that of torchvision's `ImageClassification` preset bit for bit, because it uses the same
    transforms in the same order.

    Args:
        source: A path, a PIL image, or an array `[H, W]`, `[H, W, 3]` or `[H, W, 4]` of dtype uint8, uint16, or
            floating point from 0 to 1. EXIF orientation is applied; grey, palette, CMYK and 16-bit images are converted
            to RGB, and transparency is dropped. For an animated file, the first frame is used, with a warning.
        resize: The length of the shorter side in pixels, with antialiasing; None keeps the size. Default: 256.
        crop: The side in pixels of the square that is cut from the centre; None keeps all pixels. Default: 224.
        mean: The mean of each channel, on a scale of 0 to 1, which is subtracted; None leaves the values unchanged.
            Default: the mean of ImageNet.
        std: The standard deviation by which each channel is divided; None leaves the values unchanged. Default: that of
            ImageNet.
        interpolation: The interpolation mode of the resize: `"bilinear"` (default), `"bicubic"` or another mode of
            torchvision.

    Returns:
        A new float32 tensor `[1, 3, H, W]`.

    Raises:
        ImageError: If the image cannot be read. It names the image.
        FileNotFoundError: If the file does not exist.
        MissingExtraError: If Pillow or torchvision is not installed (extra `images`).
    """
    transforms = need("torchvision.transforms.functional", "images")
    image = open_image(source)
    if resize is not None:
        image = transforms.resize(image, resize, transforms.InterpolationMode(interpolation), antialias=True)
    if crop is not None:
        image = transforms.center_crop(image, crop)
    # After resizing: torchvision resizes PIL images and tensors differently.
    pixels = transforms.to_tensor(image)
    if mean is not None or std is not None:
        pixels = transforms.normalize(pixels, list(mean or (0, 0, 0)), list(std or (1, 1, 1)))
    return pixels.unsqueeze(0)  # type: ignore[no-any-return]


def open_image(source: Source) -> Image.Image:
    """Reads an image as an upright PIL image in RGB.

    Args:
        source: A path, a PIL image, or an array, as for `load`.

    Returns:
        A PIL image in mode RGB.

    Raises:
        ImageError: If the image cannot be read. It names the image.
        FileNotFoundError: If the file does not exist.
        MissingExtraError: If Pillow or torchvision is not installed (extra `images`).
    """
    pillow, ops = need("PIL.Image", "images"), need("PIL.ImageOps", "images")
    try:
        if isinstance(source, (str, PathLike)):
            with pillow.open(source) as file:
                _warn_if_animated(file)
                return _as_rgb(ops.exif_transpose(file), pillow)
        return _as_rgb(ops.exif_transpose(_as_pil(source, pillow)), pillow)
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, TypeError, pillow.DecompressionBombError) as error:
        name = repr(str(source)) if isinstance(source, (str, PathLike)) else f"this {type(source).__name__}"
        raise ImageError(name, str(error)) from error


def _warn_if_animated(file: Image.Image) -> None:
    frames = getattr(file, "n_frames", 1)
    if frames > 1:
        warnings.warn(f"{file.filename!r} has {frames} frames: the first one is used", UserWarning, stacklevel=4)  # type: ignore[attr-defined]


def _as_pil(source: Source, pillow: Any) -> Image.Image:
    if isinstance(source, pillow.Image):
        return source  # type: ignore[no-any-return]
    if hasattr(source, "__array__") and not hasattr(source, "requires_grad"):  # a tensor is already an input
        return pillow.fromarray(_as_bytes(source))  # type: ignore[no-any-return]
    raise TypeError("an image must be a path, a PIL image or an array")


def _as_bytes(array: Any) -> Any:
    """Converts an array to uint8, whatever its scale."""
    numpy = need("numpy", "images")
    array = numpy.asarray(array)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"an array must be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}")
    if array.dtype == numpy.uint8:
        return array
    if array.dtype == numpy.uint16:
        return (array // 257).astype(numpy.uint8)
    if array.dtype.kind == "f":
        if not ((array >= 0) & (array <= 1)).all():
            raise ValueError("floating-point values must be from 0 to 1")
        return (array * 255).round().astype(numpy.uint8)
    raise TypeError(f"values must be uint8, uint16 or floating point, not {array.dtype}")


def _as_rgb(image: Image.Image, pillow: Any) -> Image.Image:
    if image.mode[0] in "IF":  # 16 or 32 bits, or floating point: Pillow's own conversion clips at 255
        numpy = need("numpy", "images")
        array = numpy.asarray(image)
        image = pillow.fromarray(_as_bytes(_whole(array, numpy) if image.mode[0] == "I" else _unit(array)))
    return image.convert("RGB")


def _whole(array: Any, numpy: Any) -> Any:
    """Returns the integers of a Pillow image in 32 bits, whose values have 16 bits."""
    if array.size and not (array.min() >= 0 and array.max() <= 65535):
        raise ValueError(f"integers must be from 0 to 65535, not from {array.min()} to {array.max()}")
    return array.astype(numpy.uint16)


def _unit(array: Any) -> Any:
    """Returns floating-point pixels on a scale of 0 to 1; Pillow converts images to a scale of 0 to 255."""
    return array / 255 if array.size and 1 < array.max() <= 255 else array
