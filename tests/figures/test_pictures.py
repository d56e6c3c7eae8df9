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

import torch_featurelayer as tl
from torch_featurelayer import analysis, figures

SNAPSHOTS = Path(__file__).parent / "snapshots"


def wave(channels: int, side: int) -> torch.Tensor:
    """A feature `[1, C, H, W]` of smooth waves: the same on every machine."""
    at = torch.linspace(0, 3, side)
    waves = [torch.sin(at[:, None] * (1 + number) + at[None] * (number % 3)) for number in range(channels)]
    return torch.stack(waves)[None]


PHOTO = wave(3, 32).mul(0.5).add(0.5)
PICTURES: dict[str, Callable[[], Figure]] = {
    "feature_map": lambda: figures.plot_feature_map(wave(4, 12), title="layer1", colorbar=True),
    "channels": lambda: figures.plot_channels(wave(6, 8), count=4, by="max"),
    "channels_shared": lambda: figures.plot_channels(wave(6, 8), which=[0, 3], shared=True),
    "overlay": lambda: figures.plot_overlay(wave(4, 7), PHOTO, title="layer4"),
    "pca": lambda: figures.plot_pca({"a": wave(8, 10), "b": wave(8, 6) * 2}, image=PHOTO),
    "cosine": lambda: figures.plot_cosine(wave(8, 10), (2, 7), image=PHOTO),
    "cam": lambda: figures.plot_cam(wave(4, 7), wave(4, 7).flip(1), PHOTO, title="cat"),
    "attention": lambda: figures.plot_attention(wave(2, 17).softmax(-1), PHOTO, patch=8),
    "histogram": lambda: figures.plot_histogram({"conv": wave(4, 9), "relu": wave(4, 9).sub(1).relu()}),
    "layer_grid": lambda: figures.plot_layer_grid(
        {"net": {"one": wave(4, 12), "two": wave(4, 6)}}, image=PHOTO, over=True
    ),
}


def pixels(figure: Figure) -> np.ndarray:
    buffer = BytesIO()
    figure.savefig(buffer, dpi=40)
    return np.asarray(Image.open(buffer).convert("RGB"))


def difference(ours: np.ndarray, right: np.ndarray, block: int = 8) -> float:
    """The largest mean difference of any block of pixels, from 0 to 1: a small part that moved is as bad as a large."""
    apart = np.abs(ours.astype(float) - right).mean(2) / 255
    rows, columns = (size // block * block for size in apart.shape)
    blocks = apart[:rows, :columns].reshape(rows // block, block, columns // block, block)
    return float(blocks.mean((1, 3)).max())


@pytest.mark.parametrize("name", PICTURES)
def test_looks_as_it_did(name: str) -> None:
    """No block of 8 × 8 pixels differs by more than the hinting of a font may change."""
    ours, right = pixels(PICTURES[name]()), np.asarray(Image.open(SNAPSHOTS / f"{name}.png"))
    assert ours.shape == right.shape
    assert difference(ours, right) < 0.1


@pytest.mark.parametrize("name", PICTURES)
def test_says_in_words_what_it_shows(name: str) -> None:
    text = figures.alt_text(PICTURES[name]())
    assert len(text) > 10
    assert "nan" not in text


def test_a_snapshot_sees_a_change() -> None:
    """The tolerance is not so wide that another map passes, a moved colour bar, or another number on it."""
    right = np.asarray(Image.open(SNAPSHOTS / "overlay.png"))
    assert difference(pixels(figures.plot_overlay(wave(4, 7).flip(2), PHOTO)), right) > 0.1
    moved = PICTURES["overlay"]()
    bar = moved.axes[0].child_axes[0]
    bar.set_axes_locator(lambda *_: mpl.transforms.Bbox.from_bounds(0.93, 0.1, 0.04, 0.8))
    assert difference(pixels(moved), right) > 0.1
    scaled = figures.plot_overlay(wave(4, 7) * 1.3, PHOTO, title="layer4")
    assert difference(pixels(scaled), right) > 0.1


def test_draws_into_given_axes() -> None:
    figure = mpl.figure.Figure()
    axes = figure.subplots(1, 3)
    figures.plot_overlay(wave(4, 7), PHOTO, ax=axes[0])
    figures.plot_cosine(wave(4, 7), (0, 0), ax=axes[1])
    figures.plot_cam(wave(4, 7), wave(4, 7), PHOTO, ax=axes[2])
    assert all(ax.images for ax in axes)


def test_the_cosine_scale_is_fixed_and_the_position_marked() -> None:
    ax = figures.plot_cosine(wave(8, 10), (2, 7)).axes[0]
    assert ax.images[0].get_clim() == (-1, 1)
    assert ax.lines[0].get_xydata().tolist() == [[7.5, 2.5]]  # type: ignore[union-attr]


def test_one_scale_for_shared_channels() -> None:
    feat = wave(3, 6)
    figure = figures.plot_channels(feat, which=[0, 2], shared=True)
    limits = {ax.images[0].get_clim() for ax in figure.axes if ax.images}
    greatest = feat[0, [0, 2]].abs().max().item()  # values of both signs: the scale is about zero
    assert limits == {(-greatest, greatest)}
    magnitudes = figures.plot_channels(feat.abs(), which=[0, 2], shared=True)
    limits = {ax.images[0].get_clim() for ax in magnitudes.axes if ax.images}
    assert limits == {(feat[0, [0, 2]].abs().min().item(), feat[0, [0, 2]].abs().max().item())}
    assert "one scale" in figure.get_suptitle()


TOKENS = torch.rand(1, 197, 192)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.plot_layer_grid({"vit": {"blocks.3": TOKENS}}),
        lambda: figures.plot_layer_grid({"vit": {"blocks.3": TOKENS}}, image=PHOTO, over=True),
        lambda: figures.plot_overlay(TOKENS, PHOTO),
        lambda: figures.plot_feature_map(TOKENS),
        lambda: figures.plot_channels(TOKENS),
        lambda: figures.plot_histogram({"blocks.3": TOKENS}),
        lambda: figures.plot_pca({"blocks.3": TOKENS}),
        lambda: analysis.dead_channels(TOKENS),
        lambda: analysis.cosine_map(TOKENS, (0, 0)),
        lambda: analysis.grad_cam(TOKENS, TOKENS),
        lambda: analysis.pca_rgb([TOKENS]),
    ],
)
def test_tokens_are_no_pictures(draw: Callable[[], object]) -> None:
    """Not 197 × 192 pixels, not 197 channels: refused, naming the layer and what to do."""
    with pytest.raises(tl.LayoutError, match=r"197, 192") as caught:
        draw()
    assert caught.value.name in ("", "blocks.3")


@pytest.mark.parametrize(
    "feat",
    [
        torch.rand(1, 3, 197, 64),  # heads × tokens of a query norm
        torch.rand(1, 8, 2, 40),
        torch.rand(1, 300, 7, 2),
    ],
)
def test_what_is_no_map_of_the_photo_is_refused(feat: torch.Tensor) -> None:
    for layout in ("NHWC", "NCHW"):
        with pytest.raises(tl.LayoutError, match="not a map of an image of 32 × 32 pixels"):
            figures.plot_overlay(feat, PHOTO, layout=layout)
        with pytest.raises(tl.LayoutError, match="'a': .* not a map of an image of 32 × 32 pixels"):
            figures.plot_layer_grid({"m": {"a": feat}}, image=PHOTO, layout=layout, over=True)


@pytest.mark.parametrize(
    "values",
    [[0.1, torch.tensor(0.1).nextafter(torch.tensor(1.0)).item()], [1e30, 1e30], [1e-40, 2e-40], [-3e38, 3e38], [0, 0]],
)
def test_a_histogram_of_values_of_any_range(values: list[float]) -> None:
    """Between neighbouring float32 are no 60 bins of float32; a range may leave float32; values may be equal."""
    feat = torch.tensor(values).repeat(1, 3, 4)
    figure = figures.plot_histogram({"a": feat}, layout="NCT")
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert (len(heights), sum(heights)) == (60, feat.numel())


def test_a_histogram_of_nothing_finite() -> None:
    figure = figures.plot_histogram({"a": torch.full((1, 3, 4), torch.nan)}, layout="NCT")
    assert "12 values not finite" in figure.axes[0].get_title()


def test_tokens_with_their_layout_have_their_channels() -> None:
    figure = figures.plot_histogram({"blocks.3": TOKENS, "fc": torch.rand(1, 5)}, layout={"blocks.3": "NTC"})
    assert "of 192 channels dead on 1 image" in figure.axes[0].get_title()
    assert "of 5 channels" in figure.axes[1].get_title()


def test_maps_without_a_greatest_place_say_so() -> None:
    constant, missing = torch.full((5, 6), 2.0), torch.full((5, 6), float("nan"))
    assert "5 by 6 positions; constant at 2." in figures.alt_text(figures.plot_feature_map(constant))
    assert "5 by 6 positions; no finite value" in figures.alt_text(figures.plot_feature_map(missing))
    assert "greatest" not in figures.alt_text(figures.plot_overlay(missing, torch.rand(3, 10, 12)))
    texts = [text.get_text() for text in figures.plot_feature_map(constant).axes[0].texts]
    assert texts == ["constant at 2"]


def test_a_cam_without_evidence_says_so() -> None:
    figure = figures.plot_cam(wave(4, 7).abs(), -torch.ones(1, 4, 7, 7), PHOTO)
    assert "zero everywhere: this layer has no evidence" in figures.alt_text(figure)
    assert "zero everywhere" in figure.axes[0].texts[0].get_text()


def test_a_cam_leaves_the_photo_where_there_is_no_evidence() -> None:
    feat = torch.zeros(1, 1, 8, 8)
    feat[0, 0, 2, 5] = 1
    photo = torch.full((3, 32, 32), 0.8)
    figure = figures.plot_cam(feat, torch.ones_like(feat), photo, colorbar=False)
    colours = pixels(figure)
    assert np.abs(colours[-40, 40].astype(int) - 204).max() <= 2  # the photo's grey, untouched
    alpha = np.asarray(figure.axes[0].images[1].get_alpha())
    assert alpha.min() == 0
    assert 0.4 < alpha.max() <= 0.7  # 0.7 at the map's greatest value, which is smoothed


def test_channels_are_named_at_the_colour_bar() -> None:
    def label(figure: Figure) -> str:
        return next(str(inner.get_ylabel()) for ax in figure.axes for inner in ax.child_axes)

    assert label(figures.plot_feature_map(wave(4, 7))) == "mean of 4 channels"
    assert label(figures.plot_feature_map(wave(4, 7), channel=2)) == "channel 2 of 4"
    assert label(figures.plot_overlay(wave(4, 7), PHOTO, channel="norm")) == "norm of 4 channels"
    assert label(figures.plot_layer_grid({"m": {"a": wave(4, 7)}}, channel="max")) == "max of 4 channels"
    assert "Grad-CAM" in label(figures.plot_cam(wave(4, 7), wave(4, 7), PHOTO))
    assert "mean of 4 channels" in figures.alt_text(figures.plot_feature_map(wave(4, 7)))


def test_signed_values_are_about_zero_and_limits_are_yours() -> None:
    signed, ax = wave(4, 7) - 0.3, figures.plot_feature_map(wave(4, 7) - 0.3).axes[0]
    low, high = ax.images[0].get_clim()
    assert (-low, ax.images[0].get_cmap().name) == (high, "RdBu_r")
    assert figures.plot_feature_map(signed.abs()).axes[0].images[0].get_cmap().name == "viridis"
    limited = figures.plot_feature_map(signed, vmin=-0.1, vmax=0.2).axes[0]
    assert (limited.images[0].get_clim(), limited.images[0].get_cmap().name) == ((-0.1, 0.2), "viridis")
    assert "clipped" in limited.get_label()
    assert figures.plot_feature_map(signed, center=0.5).axes[0].images[0].get_clim()[1] > 0.5
    norm = mpl.colors.LogNorm(0.01, 1)
    assert figures.plot_feature_map(signed.abs(), norm=norm).axes[0].images[0].norm is norm


MANY = {
    "layer_grid": lambda ax: figures.plot_layer_grid({"m": {"a": wave(4, 7), "b": wave(4, 6)}}, image=PHOTO, ax=ax),
    "channels": lambda ax: figures.plot_channels(wave(6, 8), count=4, ax=ax),
    "histogram": lambda ax: figures.plot_histogram({"a": wave(4, 7), "b": wave(4, 7)}, ax=ax),
    "pca": lambda ax: figures.plot_pca({"a": wave(8, 7), "b": wave(8, 6)}, image=PHOTO, ax=ax),
    "contact_sheet": lambda ax: figures.plot_image_grid([PHOTO[0], PHOTO[0]], ["one", "two"], ax=ax),
}


@pytest.mark.parametrize("name", MANY)
def test_panels_take_the_place_of_axes(name: str) -> None:
    figure = mpl.figure.Figure()
    left, right = figure.subplots(1, 2)
    before = left.get_position().bounds
    assert MANY[name](left) is figure
    pixels(figure)
    assert len(left.child_axes) >= 2
    assert left.get_position().bounds == before
    assert not right.child_axes
    assert len(figures.alt_text(figure)) > 5


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.plot_cosine(wave(8, 10), (10, 0)),
        lambda: figures.plot_channels(wave(4, 7), which=[4]),
        lambda: figures.plot_cam(wave(4, 7), wave(4, 7), PHOTO, sample=1),
        lambda: figures.plot_pca({"a": wave(8, 7)}, sample=1),
        lambda: analysis.attention_map(torch.rand(1, 2, 17, 17), head=2, grid=(4, 4)),
        lambda: analysis.attention_map(torch.rand(1, 2, 17, 17), query=17, grid=(4, 4)),
    ],
)
def test_numbers_out_of_range_say_what_there_is(draw: Callable[[], object]) -> None:
    with pytest.raises(IndexError, match=r"there is no \w+ \d+: the \d+ \w+s are 0 to \d+"):
        draw()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.plot_overlay(wave(4, 7), PHOTO, opacity=2),
        lambda: figures.plot_pca({"a": wave(8, 4), "b": wave(7, 4)}),
        lambda: figures.plot_pca({"a": wave(2, 4)}),
        lambda: analysis.cosine_map(torch.zeros(3, 4, 4), (0, 0)),
        lambda: figures.plot_overlay(wave(4, 7), torch.rand(2, 3, 8, 8)),
        lambda: analysis.grad_cam(wave(4, 7), wave(4, 6)),
        lambda: analysis.attention_map(torch.zeros(3, 4, 4)),
        lambda: figures.plot_channels(torch.zeros(1, 197, 8)),
        lambda: figures.plot_channels(wave(4, 4), by="median"),  # type: ignore[arg-type]
        lambda: figures.plot_histogram({}),
        lambda: analysis.dead_channels(torch.zeros(3)),
        lambda: figures.plot_layer_grid({"net": {"one": wave(4, 4)}}, over=True),
    ],
)
def test_what_cannot_be_drawn_is_a_value_error(draw: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        draw()


if __name__ == "__main__":
    SNAPSHOTS.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        Image.fromarray(pixels(draw())).save(SNAPSHOTS / f"{name}.png", optimize=True)
