"""The figures themselves: snapshots with a tolerance, and what they say in words.

`python -m tests.figures.test_pictures` draws the snapshots anew; look at them before committing.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from torch_featurelayer import figures

SNAPSHOTS = Path(__file__).parent / "snapshots"


def wave(channels: int, side: int) -> torch.Tensor:
    """A feature `[1, C, H, W]` of smooth waves: the same on every machine."""
    at = torch.linspace(0, 3, side)
    waves = [torch.sin(at[:, None] * (1 + number) + at[None] * (number % 3)) for number in range(channels)]
    return torch.stack(waves)[None]


PHOTO = wave(3, 32).mul(0.5).add(0.5)
PICTURES: dict[str, Callable[[], Figure]] = {
    "feature_map": lambda: figures.feature_map(wave(4, 12), title="layer1", colorbar=True),
    "channels": lambda: figures.channels(wave(6, 8), count=4, by="max"),
    "channels_shared": lambda: figures.channels(wave(6, 8), which=[0, 3], shared=True),
    "overlay": lambda: figures.overlay(wave(4, 7), PHOTO, title="layer4"),
    "pca": lambda: figures.pca({"a": wave(8, 10), "b": wave(8, 6) * 2}, photo=PHOTO),
    "cosine": lambda: figures.cosine(wave(8, 10), (2, 7), photo=PHOTO),
    "cam": lambda: figures.cam(wave(4, 7), wave(4, 7).flip(1), PHOTO, title="cat"),
    "attention": lambda: figures.attention(wave(2, 17).softmax(-1), PHOTO),
    "histogram": lambda: figures.histogram({"conv": wave(4, 9), "relu": wave(4, 9).sub(1).relu()}),
    "depths": lambda: figures.depths({"net": {"one": wave(4, 12), "two": wave(4, 6)}}, image=PHOTO, over=True),
}


def pixels(figure: Figure) -> np.ndarray:
    buffer = BytesIO()
    figure.savefig(buffer, dpi=40)
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.mark.parametrize("name", PICTURES)
def test_looks_as_it_did(name: str) -> None:
    """The mean difference of a colour is below one percent, so that a font's hinting may change and a map may not."""
    ours, right = pixels(PICTURES[name]()), np.asarray(Image.open(SNAPSHOTS / f"{name}.png"))
    assert ours.shape == right.shape
    assert np.abs(ours.astype(float) - right).mean() / 255 < 0.01


@pytest.mark.parametrize("name", PICTURES)
def test_says_in_words_what_it_shows(name: str) -> None:
    text = figures.alt_text(PICTURES[name]())
    assert len(text) > 10
    assert "nan" not in text


def test_a_snapshot_sees_a_change() -> None:
    """The tolerance is not so wide that another map passes."""
    ours, right = pixels(figures.overlay(wave(4, 7).flip(2), PHOTO)), Image.open(SNAPSHOTS / "overlay.png")
    assert np.abs(ours.astype(float) - np.asarray(right)).mean() / 255 > 0.01


def test_draws_into_given_axes() -> None:
    figure = mpl.figure.Figure()
    axes = figure.subplots(1, 3)
    figures.overlay(wave(4, 7), PHOTO, ax=axes[0])
    figures.cosine(wave(4, 7), (0, 0), ax=axes[1])
    figures.cam(wave(4, 7), wave(4, 7), PHOTO, ax=axes[2])
    assert all(ax.images for ax in axes)


def test_the_cosine_scale_is_fixed_and_the_position_marked() -> None:
    ax = figures.cosine(wave(8, 10), (2, 7)).axes[0]
    assert ax.images[0].get_clim() == (-1, 1)
    assert ax.lines[0].get_xydata().tolist() == [[7.5, 2.5]]  # type: ignore[union-attr]


def test_one_scale_for_shared_channels() -> None:
    feat = wave(3, 6)
    figure = figures.channels(feat, which=[0, 2], shared=True)
    limits = {ax.images[0].get_clim() for ax in figure.axes}
    assert limits == {(feat[0, [0, 2]].min().item(), feat[0, [0, 2]].max().item())}
    assert "one scale" in figure.get_suptitle()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.overlay(wave(4, 7), PHOTO, opacity=2),
        lambda: figures.pca({"a": wave(8, 4), "b": wave(7, 4)}),
        lambda: figures.pca({"a": wave(2, 4)}),
        lambda: figures.cosine_map(torch.zeros(3, 4, 4), (0, 0)),
        lambda: figures.grad_cam(wave(4, 7), wave(4, 6)),
        lambda: figures.attention_map(torch.zeros(3, 4, 4)),
        lambda: figures.channels(torch.zeros(1, 197, 8)),
        lambda: figures.channels(wave(4, 4), by="median"),  # type: ignore[arg-type]
        lambda: figures.histogram({}),
        lambda: figures.dead_channels(torch.zeros(3)),
        lambda: figures.depths({"net": {"one": wave(4, 4)}}, over=True),
    ],
)
def test_what_cannot_be_drawn_is_a_value_error(draw: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        draw()


if __name__ == "__main__":
    SNAPSHOTS.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        Image.fromarray(pixels(draw())).save(SNAPSHOTS / f"{name}.png", optimize=True)
