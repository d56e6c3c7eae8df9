"""Super-resolution: a small network learns to enlarge photos four times, and what its loss looks at decides how sharp.

Two networks are the same, and trained alike on the difference of pixels; then one goes on with it and the other with
the difference of features added. They learn from the left of five photos; on the right, which neither has seen, they
are judged by the perceptual distance, in layers that neither was trained on. Sources: Johnson et al., "Perceptual
Losses for Real-Time Style Transfer and Super-Resolution", 2016; the network is that of Shi et al. (ESPCN), 2016, on top
of a bicubic enlargement.

    python -m examples.super_resolution [--steps 300] [--out enlarged.jpg]
"""

from __future__ import annotations

import copy
import random
from pathlib import Path

import torch
import typer
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms import functional as transforms

import torch_featurelayer as tl
from examples._photos import photo

PHOTOS, SHOWN = ("chelsea", "astronaut", "coffee", "china", "flower"), "china"
LEARNT_FROM = ["_blocks.0._swish", "_blocks.1._swish@0", "_blocks.1._swish@1", "_blocks.2._swish@0"]
JUDGED_IN = ["_blocks.1", "_blocks.3", "_blocks.5"]
FEATURES = 0.05  # how much the features count beside the pixels


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


class Eye:
    """Layers of EfficientNet-Lite0, of two pictures `[N, 3, H, W]` from 0 to 1.

    The network's first layer takes every other pixel; pictures are shifted by a pixel at random, so that it sees them
    all: what learns from half of the pixels paints a checkerboard on the others.
    """

    def __init__(self, layers: list[str]) -> None:
        loaded = tl.models.load("efficientnet-lite0")
        self.normal = loaded.preprocess.mean, loaded.preprocess.std
        self.layers = tl.FeatureLayers(loaded.model.requires_grad_(False), layers)

    def both(self, *images: Tensor) -> list[tl.Features]:
        down, right = torch.randint(2, (2,)).tolist()
        return [self.layers.features(transforms.normalize(image[..., down:, right:], *self.normal)) for image in images]

    def loss(self, made: Tensor, wanted: Tensor) -> Tensor:
        """Returns the difference of features, relative to their size, added up over the layers."""
        pairs = zip(*self.both(made, wanted), strict=True)
        return torch.stack([(one - other).abs().mean() / other.abs().mean() for one, other in pairs]).sum()

    def distance(self, made: Tensor, wanted: Tensor) -> float:
        return tl.similarity.perceptual_distance(*self.both(made, wanted)).mean().item()


def half_size(name: str) -> Tensor:
    """Returns a photo at half its size, where it is sharp: `[3, H, W]`."""
    whole = photo(name)
    return transforms.to_tensor(whole.resize((whole.width // 2, whole.height // 2)))


def left_squares(side: int = 96, each: int = 40) -> Tensor:
    """Returns squares from the left of the photos, to learn from: `[N, 3, 96, 96]`."""
    draw, found = random.Random(0), []
    for image in map(half_size, PHOTOS):
        for _ in range(each):
            top, left = draw.randint(0, image.shape[1] - side), draw.randint(0, image.shape[2] * 6 // 10 - side)
            found.append(image[:, top : top + side, left : left + side])
    return torch.stack(found)


def right_part(name: str) -> Tensor:
    """Returns the right of a photo, to judge by: `[1, 3, H, W]`, both multiples of eight."""
    image = half_size(name)[:, :, -128:]
    return image[None, :, : image.shape[1] // 8 * 8]


def shrunk(images: Tensor) -> Tensor:
    return interpolate(images, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)


def train(network: Enlarger, steps: int, eye: Eye | None, seed: int = 0) -> Enlarger:
    """Trains on the difference of pixels, and of features where given."""
    generator, images = torch.Generator().manual_seed(seed), left_squares()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(steps):
        large = images[torch.randint(len(images), (8,), generator=generator)]
        made = network(shrunk(large))
        loss = (made - large).abs().mean()
        if eye is not None:
            loss = loss + FEATURES * eye.loss(made, large)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def trained(steps: int) -> dict[str, Enlarger]:
    """Trains the network on pixels, and from there on pixels, and on pixels and features."""
    torch.manual_seed(0)
    begun = train(Enlarger(), steps, None)
    return {
        "pixel loss": train(copy.deepcopy(begun), steps, None, seed=1),
        "pixel and feature loss": train(copy.deepcopy(begun), steps, Eye(LEARNT_FROM), seed=1),
    }


@torch.no_grad()
def enlarged(networks: dict[str, Enlarger], right: Tensor) -> dict[str, Tensor]:
    """Returns what each makes of a picture that was made small, beside a bicubic enlargement and the picture."""
    small = shrunk(right)
    made = {"bicubic": interpolate(small, scale_factor=4, mode="bicubic")}
    made |= {name: network(small) for name, network in networks.items()}
    return {name: image.clamp(0, 1) for name, image in made.items()} | {"the photo": right}


def main(out: Path = Path("enlarged.jpg"), steps: int = 300) -> None:
    """Draws what each makes of a part it has not seen, and prints the distances for all photos."""
    networks, judge = trained(steps), Eye(JUDGED_IN)
    rights = {name: right_part(name) for name in PHOTOS}
    made = {name: enlarged(networks, right) for name, right in rights.items()}
    for name, images in made.items():
        distances = {kind: judge.distance(image, rights[name]) for kind, image in images.items()}
        print(name, {kind: round(distance, 3) for kind, distance in distances.items()})
    right, shown = rights[SHOWN], made[SHOWN]
    titles = [
        f"{kind}\npixels {(image - right).abs().mean():.4f}, features {judge.distance(image, right):.2f}"
        for kind, image in shown.items()
    ]
    tl.figures.plot_image_grid([image[0, :, -100:, -100:] for image in shown.values()], titles, columns=4).savefig(
        out, dpi=130
    )


if __name__ == "__main__":
    typer.run(main)
