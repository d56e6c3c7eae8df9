"""Figures: what is drawn is the feature, and what is not shown of it is said."""

from __future__ import annotations

from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import torch_featurelayer as tl
from torch_featurelayer import Features, figures

FEAT = torch.randn(2, 5, 6, 8)


def drawn(figure: Figure, ax: int = 0) -> np.ndarray:
    return figure.axes[ax].images[0].get_array()


@pytest.mark.parametrize(
    ("channel", "right"),
    [
        ("mean", FEAT[1].sum(0) / 5),
        ("max", torch.from_numpy(FEAT[1].numpy().max(0))),
        ("norm", torch.linalg.vector_norm(FEAT[1], dim=0)),
        (3, FEAT[1, 3]),
        (-1, FEAT[1, 4]),
    ],
)
def test_what_stands_for_the_channels(channel: str | int, right: torch.Tensor) -> None:
    grid = drawn(figures.plot_feature_map(FEAT, channel=channel, sample=1, layout="NCHW"))
    np.testing.assert_allclose(grid, right.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.bool])
def test_any_dtype_and_a_graph(dtype: torch.dtype) -> None:
    feat = FEAT.abs().to(dtype)
    np.testing.assert_allclose(drawn(figures.plot_feature_map(feat, layout="NCHW")), feat[0].float().mean(0), rtol=1e-6)
    figures.plot_feature_map(FEAT.clone().requires_grad_(), layout="NCHW")


def test_the_pixels_are_viridis_from_least_to_greatest() -> None:
    """The rendered corners have the two ends of the colour map: nothing is smoothed, nothing is upside down."""
    grid = torch.full((4, 4), 0.5)
    grid[0, 0], grid[3, 3] = 0.0, 1.0
    buffer = BytesIO()
    figures.plot_feature_map(grid).savefig(buffer, dpi=50)
    pixels = np.asarray(Image.open(buffer).convert("RGB"))
    height, width = pixels.shape[:2]
    ends = [tuple(int(255 * part) for part in mpl.colormaps["viridis"](value)[:3]) for value in (0.0, 1.0)]
    assert np.abs(pixels[height // 8, width // 8].astype(int) - ends[0]).max() <= 2
    assert np.abs(pixels[-height // 8, -width // 8].astype(int) - ends[1]).max() <= 2


def test_clipping_is_said_and_true() -> None:
    grid = torch.arange(100.0).reshape(10, 10)
    figure = figures.plot_feature_map(grid, percentiles=(10, 90))
    assert figure.axes[0].images[0].get_clim() == pytest.approx((9.9, 89.1))
    assert "0 to 99, colours from 9.9 to 89.1, 20.0% clipped" in figures.alt_text(figure)
    assert "20.0% clipped" in figure.axes[0].texts[0].get_text()


def test_what_is_not_a_number_is_grey_and_counted() -> None:
    grid = torch.arange(16.0).reshape(4, 4)
    grid[0, 0], grid[1, 1] = float("nan"), float("inf")
    figure = figures.plot_feature_map(grid)
    assert "2 not finite (grey)" in figure.alt_text
    assert figure.axes[0].images[0].get_clim() == (1.0, 15.0)
    assert np.ma.masked_invalid(drawn(figure)).mask.sum() == 2
    assert figures.plot_feature_map(torch.full((2, 2), float("nan"))).alt_text


def test_alt_text_names_the_peak() -> None:
    grid = torch.zeros(3, 4)
    grid[2, 1] = 5
    assert (
        "Feature map layer4: 3 by 4 positions, largest at row 2, column 1; 0 to 5."
        in figures.plot_feature_map(grid, title="layer4").alt_text
    )


def test_draws_into_an_axes_of_the_users() -> None:
    figure = Figure()
    ax = figure.subplots()
    before = ax.get_position().bounds
    assert figures.plot_feature_map(FEAT, ax=ax, layout="NCHW") is figure
    figure.savefig(BytesIO())
    assert len(figure.axes) == 1
    assert ax.get_position(original=True).bounds == before  # the colour bar takes no room from the user's axes
    assert ax.child_axes[0].get_ylabel() == "mean of 5 channels"


@pytest.mark.parametrize(
    ("feat", "options", "error", "says"),
    [
        (torch.zeros(3), {}, tl.LayoutError, r"not \[3\]"),
        (torch.zeros(1, 3, 0, 4), {}, ValueError, "with values"),
        ((FEAT, FEAT), {}, ValueError, "not a tuple"),
        (FEAT, {"channel": "sum"}, ValueError, "not 'sum'"),
        (FEAT, {"channel": 5}, IndexError, "there is no channel 5: the 5 channels are 0 to 4"),
        (FEAT, {"sample": 2}, IndexError, "there is no sample 2: the 2 samples are 0 to 1"),
    ],
)
def test_what_has_no_map_is_refused(feat: object, options: dict, error: type[Exception], says: str) -> None:
    layout = "NCHW" if feat is FEAT else None
    with pytest.raises(error, match=says):
        figures.plot_feature_map(feat, layout=layout, **options)


def test_depths_is_a_row_a_model() -> None:
    """The image first, then the layers in order, sizes in the titles, rows of different length."""
    first, second = Features(["a", "b"], [FEAT, FEAT[..., ::2]]), {"c": FEAT}
    figure = figures.plot_layer_grid(
        {"One": first, "Two": second}, image=torch.rand(1, 3, 10, 12), channel=0, layout="NCHW"
    )
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["image\n", "a\n5×6×8", "b\n5×6×4", "image\n", "c\n5×6×8", ""]
    np.testing.assert_array_equal(drawn(figure, 2), FEAT[0, 0, :, ::2])
    assert "One, b (5×6×4): Feature map" in figure.alt_text
    assert "Two, c" in figure.alt_text
    for rows in ({}, {"One": {}}):
        with pytest.raises(ValueError, match="at least one"):
            figures.plot_layer_grid(rows)


def test_shows_itself_in_a_notebook_with_its_text() -> None:
    html = figures.plot_feature_map(FEAT, title='<"a">', layout="NCHW")._repr_html_()
    assert html.startswith('<img src="data:image/png;base64,')
    assert "&lt;&quot;a&quot;&gt;" in html


def test_matplotlib_is_left_as_it_was() -> None:
    """No global state: neither pyplot is imported nor are its settings changed."""
    before = dict(mpl.rcParams)
    figures.plot_layer_grid({"One": {"a": FEAT}}, layout="NCHW").savefig(BytesIO())
    assert dict(mpl.rcParams) == before
