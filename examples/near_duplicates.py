"""Which photos of a folder are nearly the same?

A folder with the quarters of six photos, half of them there again: smaller, darker, blurred, trimmed, saved as poor
JPEGs. The features of all go to a store, and `near_duplicates` reads the pairs from it.

    python -m examples.near_duplicates [--out pairs.jpg]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

import torch_featurelayer as tl
from examples._photos import NAMES, quarters

ALTERED = {
    "smaller": lambda image: image.resize((100, 100)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "trimmed": lambda image: image.crop((6, 6, 218, 218)),
}


def make_folder(folder: Path) -> list[tuple[str, str]]:
    """Writes quarters of photos, every other one once more, altered; returns the pairs that belong together."""
    pairs = []
    for name in NAMES:
        for number, part in enumerate(quarters(name, 224)):
            part.save(folder / f"{name}-{number}.jpg", quality=95)
            if number % 2 == 0:
                kind = list(ALTERED)[len(pairs) % len(ALTERED)]
                ALTERED[kind](part).save(folder / f"{name}-{number}-{kind}.jpg", quality=40)
                pairs.append((f"{name}-{number}-{kind}.jpg", f"{name}-{number}.jpg"))
    return pairs


def find(folder: Path, store: Path) -> list[tl.similarity.Pair]:
    """Returns the pairs of images in a folder that are nearly the same, most alike first."""
    loaded = tl.models.load("efficientnet-lite0")
    features = tl.extract(loaded, "_blocks.10", folder, store, reduce=in_places)
    return tl.similarity.near_duplicates(features, threshold=0.7)


def in_places(feat: Tensor) -> Tensor:
    """Returns the means over a grid of 4 × 4 places: what is nearly the same has the same things in the same places."""
    return adaptive_avg_pool2d(feat, 4).flatten(1)


def main(out: Path = Path("pairs.jpg")) -> None:
    """Draws the most alike pairs, each above the other."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        right = make_folder(folder)
        found = find(folder, Path(temporary) / "features")
        same = sum((pair.first, pair.second) in right for pair in found[: len(right)])
        print(f"{same} of the {len(right)} pairs are among the {len(right)} most alike")
        shown = found[:8]
        images = [Image.open(folder / name) for name in [*(p.first for p in shown), *(p.second for p in shown)]]
        titles = [*(f"{pair.first}\ncosine {pair.score:.3f}" for pair in shown), *(pair.second for pair in shown)]
        tl.figures.plot_image_grid(images, titles, columns=8).savefig(out, dpi=80)


if __name__ == "__main__":
    typer.run(main)
