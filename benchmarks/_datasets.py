"""Datasets that can be made without a download: crops of the images of scikit-image, drawn patterns, and sentences."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy
from PIL import Image, ImageEnhance, ImageOps


def make_images(folder: Path, count: int, seed: int = 0) -> None:
    """Writes JPEG files, in a folder for each kind."""
    from skimage import data

    photos = {name: Image.fromarray(getattr(data, name)()) for name in ("chelsea", "coffee", "astronaut", "rocket")}
    patterns = ("stripes", "dots", "gradient", "noise")
    chance = random.Random(seed)
    kinds = (*photos, *patterns)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        image = _crop(photos[kind], chance) if kind in photos else _pattern(kind, chance)
        path = folder / kind / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90)


def make_sentences(count: int, seed: int = 0) -> list[str]:
    """Returns sentences of several subjects."""
    chance = random.Random(seed)
    subjects = {
        "the weather": ("Rain", "Snow", "A storm", "Fog", "Sunshine"),
        "an animal": ("A cat", "The dog", "A horse", "An owl"),
        "food": ("Fresh bread", "The soup", "A ripe pear", "Cheese"),
        "money": ("The bank", "Her salary", "A loan", "The price"),
    }  # fmt: skip
    verbs = {
        "the weather": ("covered the hills", "delayed every train", "is expected on Monday", "lasted all night"),
        "an animal": ("slept by the fire", "ran across the field", "was hungry", "hid from the children"),
        "food": ("smelled of garlic", "was served at noon", "tasted better than last year", "cost very little"),
        "money": ("rose by three percent", "was paid back early", "fell again in spring", "surprised the investors"),
    }
    ends = (
        "",
        ", she said",
        " and nobody noticed",
        " in the old town",
        ", as the newspaper wrote",
        " for the first time",
    )
    kinds = list(subjects)
    found = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        found.append(f"{chance.choice(subjects[kind])} {chance.choice(verbs[kind])}{chance.choice(ends)} ({number}).")
    return found


def _crop(photo: Any, chance: random.Random) -> Any:
    side = chance.uniform(0.45, 1) * min(photo.size)
    left, upper = chance.uniform(0, photo.width - side), chance.uniform(0, photo.height - side)
    image = photo.resize((256, 256), box=(left, upper, left + side, upper + side))
    image = ImageOps.mirror(image) if chance.random() < 0.5 else image
    return ImageEnhance.Brightness(image).enhance(chance.uniform(0.7, 1.3))


def _pattern(kind: str, chance: random.Random) -> Any:
    rows, columns = numpy.mgrid[:256, :256]
    angle, width = chance.uniform(0, numpy.pi), chance.uniform(6, 50)
    along = rows * numpy.sin(angle) + columns * numpy.cos(angle)
    colours = [numpy.array([chance.randrange(256) for _ in range(3)]) for _ in range(2)]
    if kind == "stripes":
        share = (along // width % 2)[..., None]
    elif kind == "dots":
        share = (((rows % width - width / 2) ** 2 + (columns % width - width / 2) ** 2) < (width / 3) ** 2)[..., None]
    elif kind == "gradient":
        share = ((along - along.min()) / numpy.ptp(along))[..., None]
    else:
        share = numpy.random.default_rng(chance.randrange(10**6)).random((256, 256, 3))
    return Image.fromarray((colours[0] * share + colours[1] * (1 - share)).astype("uint8"))
