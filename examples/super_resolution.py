"""Super-resolution: a small network learns to enlarge photos four times, and what its loss looks at decides how sharp.

Two networks are the same, and trained alike on the difference of pixels; then one goes on with it and the other with
the perceptual distance added. Judged on a photo that neither has seen, in layers that neither was trained on. Sources:
Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", 2016; the network is that of Shi
et al. (ESPCN), 2016, on top of a bicubic enlargement.

    python -m examples.super_resolution [--steps 400] [--out enlarged.jpg]
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms import functional as transforms

import torch_featurelayer as tl
from examples._photos import photo

SEEN, UNSEEN = ("astronaut", "coffee", "china", "flower", "rocket"), "chelsea"
LEARNT_FROM = ["_conv_stem", "_blocks.0", "_blocks.1._swish@0", "_blocks.2"]
JUDGED_IN = ["_blocks.1", "_blocks.3", "_blocks.5"]
PERCEPTUAL = 0.03  # how much the features count beside the pixels


class Enlarger(nn.Module):
    """Makes a picture four times as wide and high: `[N, 3, H, W]` to `[N, 3, 4H, 4W]`, from 0 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.detail = nn.Sequential(
            nn.Conv2d(3, 64, 5, padding=2), nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(64, 3 * 16, 3, padding=1), nn.PixelShuffle(4),
        )  # fmt: skip

    def forward(self, small: Tensor) -> Tensor:
        return interpolate(small, scale_factor=4, mode="bicubic", align_corners=False) + self.detail(small)


class FeatureLoss:
    """The perceptual distance in some layers of EfficientNet-Lite0.

    Its first layer takes every other pixel; pictures are shifted by a pixel at random, so that it sees them all: a
    network that learns from half of the pixels paints a checkerboard on the others.
    """

    def __init__(self, layers: list[str]) -> None:
        loaded = tl.models.load("efficientnet-lite0")
        self.normalize = loaded.preprocess.mean, loaded.preprocess.std
        self.layers = tl.FeatureLayers(loaded.model.requires_grad_(False), layers)

    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        down, right = torch.randint(2, (2,)).tolist()
        shifted = (image[..., down:, right:] for image in (one, other))
        feats = [self.layers.features(transforms.normalize(image, *self.normalize)) for image in shifted]
        return tl.similarity.perceptual_distance(*feats).mean()


def half(name: str) -> Tensor:
    """Returns a photo at half its size, where it is sharp: `[3, H, W]`."""
    whole = photo(name)
    return transforms.to_tensor(whole.resize((whole.width // 2, whole.height // 2)))


def photos(side: int = 96, each: int = 40) -> Tensor:
    """Returns squares of the photos to learn from: `[N, 3, 96, 96]`."""
    draw, found = random.Random(0), []
    for image in map(half, SEEN):
        for _ in range(each):
            top, left = draw.randint(0, image.shape[1] - side), draw.randint(0, image.shape[2] - side)
            found.append(image[:, top : top + side, left : left + side])
    return torch.stack(found)


def shrunk(images: Tensor) -> Tensor:
    return interpolate(images, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)


def train(network: Enlarger, steps: int, features: FeatureLoss | None, seed: int = 0) -> Enlarger:
    """Trains on the difference of pixels, and of features where given."""
    generator, images = torch.Generator().manual_seed(seed), photos()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(steps):
        large = images[torch.randint(len(images), (8,), generator=generator)]
        made = network(shrunk(large))
        loss = (made - large).abs().mean()
        if features is not None:
            loss = loss + PERCEPTUAL * features(made, large)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@dataclass
class Enlarged:
    """A picture `[1, 3, H, W]`, and how far it is from the right one.

    `pixels` is the mean absolute difference, `features` the perceptual distance, `detail` the share of the difference
    between neighbouring pixels that is there.
    """

    image: Tensor
    pixels: float
    features: float
    detail: float


def judged(image: Tensor, right: Tensor, features: FeatureLoss) -> Enlarged:
    gradient = [part.diff(dim=-1).abs().mean() + part.diff(dim=-2).abs().mean() for part in (image, right)]
    return Enlarged(
        image, (image - right).abs().mean().item(), features(image, right).item(), (gradient[0] / gradient[1]).item()
    )


def compare(steps: int) -> dict[str, Enlarged]:
    """Trains both, and returns what each makes of the unseen photo, beside it and a bicubic enlargement."""
    torch.manual_seed(0)
    features, judge, right = FeatureLoss(LEARNT_FROM), FeatureLoss(JUDGED_IN), half(UNSEEN)[None, :, :148, :224]
    begun = train(Enlarger(), steps, None)
    networks = {
        "pixel loss": train(copy.deepcopy(begun), steps, None, seed=1),
        "pixel and feature loss": train(copy.deepcopy(begun), steps, features, seed=1),
    }
    with torch.no_grad():
        small = shrunk(right)
        made = {"bicubic": interpolate(small, scale_factor=4, mode="bicubic"), "the photo": right}
        made |= {name: network(small) for name, network in networks.items()}
        return {name: judged(image.clamp(0, 1), right, judge) for name, image in made.items()}


def main(out: Path = Path("enlarged.jpg"), steps: int = 400) -> None:
    """Draws a part of the unseen photo, enlarged by each."""
    made = compare(steps)
    order = ("bicubic", "pixel loss", "pixel and feature loss", "the photo")
    titles = [
        f"{name}\npixels {one.pixels:.4f}, features {one.features:.2f}\ndetail {one.detail:.0%}"
        for name, one in ((name, made[name]) for name in order)
    ]
    parts = [made[name].image[0, :, 10:138, 30:190] for name in order]
    tl.figures.contact_sheet(parts, titles, columns=4).savefig(out, dpi=130)
    print(*titles, sep="\n")


if __name__ == "__main__":
    typer.run(main)
