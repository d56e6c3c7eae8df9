"""The photos the examples look at: those that scikit-image and scikit-learn bring with them."""

from __future__ import annotations

import random

from PIL import Image

NAMES = ("chelsea", "coffee", "astronaut", "rocket", "china", "flower")


def photo(name: str) -> Image.Image:
    """Returns one of `NAMES`, in RGB."""
    if name in ("china", "flower"):
        from sklearn.datasets import load_sample_image

        return Image.fromarray(load_sample_image(f"{name}.jpg"))
    from skimage import data

    return Image.fromarray(getattr(data, name)())


def square(name: str, side: int) -> Image.Image:
    """Returns the middle of a photo as a square."""
    whole = photo(name)
    edge = min(whole.size)
    left, top = (whole.width - edge) // 2, (whole.height - edge) // 2
    return whole.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.LANCZOS)


def crops(name: str, count: int, side: int, seed: int = 0, smallest: int = 96) -> list[Image.Image]:
    """Returns squares from random places of a photo, of random sizes, each resized to one side."""
    draw, whole = random.Random(seed), photo(name)
    found = []
    for _ in range(count):
        edge = draw.randint(smallest, min(whole.size))
        left, top = draw.randint(0, whole.width - edge), draw.randint(0, whole.height - edge)
        part = whole.crop((left, top, left + edge, top + edge))
        found.append(part.resize((side, side), Image.Resampling.LANCZOS))
    return found


def quarters(name: str, side: int) -> list[Image.Image]:
    """Returns the four quarters of a photo, which have nothing in common, each resized to a square."""
    whole = photo(name)
    width, height = whole.width // 2, whole.height // 2
    corners = [(left, top) for top in (0, height) for left in (0, width)]
    parts = [whole.crop((left, top, left + width, top + height)) for left, top in corners]
    return [part.resize((side, side), Image.Resampling.LANCZOS) for part in parts]
