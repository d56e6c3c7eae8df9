"""How different do two pictures look? Not as different as their pixels are.

Five distortions of a photo, all of the same mean squared error, and their distance in the features of a pretrained
network: a shift of the brightness looks like the photo, a blur does not.

    python -m examples.image_similarity [--out distances.jpg]
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import typer
from torch import Tensor
from torchvision.transforms import functional as transforms

import torch_featurelayer as tl
from examples._photos import NAMES, square

ERROR = 0.006  # mean squared, of values from 0 to 1


def blurred(image: Tensor, amount: float) -> Tensor:
    return transforms.gaussian_blur(image, [41, 41], [0.1 + 8 * amount])


def noisy(image: Tensor, amount: float) -> Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + amount * noise).clamp(0, 1)


def in_blocks(image: Tensor, amount: float) -> Tensor:
    small = transforms.resize(image, max(8, round(224 * (1 - amount))), antialias=True)
    return transforms.resize(small, [224, 224], transforms.InterpolationMode.NEAREST)


DISTORTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "brighter": lambda image, amount: (image + amount).clamp(0, 1),
    "less contrast": lambda image, amount: image + amount * (image.mean() - image),
    "noise": noisy,
    "blur": blurred,
    "coarse pixels": in_blocks,
}


def of_equal_error(image: Tensor, distort: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Returns the distortion whose mean squared error is `ERROR`, found by bisection."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        error = (distort(image, middle) - image).square().mean()
        low, high = (middle, high) if error < ERROR else (low, middle)
    return distort(image, high)


class Distance:
    """The perceptual distance of pictures in the stages of EfficientNet-Lite0.

    With the weights of LPIPS and a network they were learnt for, it is LPIPS: see `perceptual_distance`.
    """

    def __init__(self) -> None:
        loaded = tl.models.load("efficientnet-lite0")
        self.normalize = lambda image: transforms.normalize(image, loaded.preprocess.mean, loaded.preprocess.std)
        self.layers = tl.FeatureLayers(loaded.model.requires_grad_(False), loaded.stages)

    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        """Compares images `[N, 3, H, W]` from 0 to 1: `[N]`, with gradient to both."""
        feats = [self.layers.features(self.normalize(image)) for image in (one, other)]
        return tl.similarity.perceptual_distance(*feats)


def main(out: Path = Path("distances.jpg")) -> None:
    """Draws the photo, its distortions and the other photos, with their distances."""
    distance = Distance()
    photos = {name: transforms.to_tensor(square(name, 224))[None] for name in NAMES}
    image = photos.pop("chelsea")
    shown = {name: of_equal_error(image, distort) for name, distort in DISTORTIONS.items()} | photos
    titles = ["the photo\nMSE 0, distance 0"]
    for name, other in shown.items():
        error = (other - image).square().mean()
        titles.append(f"{name}\nMSE {error:.3f}, distance {distance(image, other).item():.2f}")
    figure = tl.figures.plot_image_grid([one[0] for one in (image, *shown.values())], titles, columns=6)
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    typer.run(main)
