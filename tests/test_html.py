"""Features in a notebook: a table of what they are, with small maps, whatever they hold."""

from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import torch_featurelayer as tl


class Rows(HTMLParser):
    """The texts of the cells of each row; of an image, its description."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            self.rows[-1][-1] += str(dict(attrs)["alt"])

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_what_each_feature_is() -> None:
    """Shape, dtype and range of what is finite, and how many values are not."""
    broken = torch.tensor([[1.0, float("nan"), -2.0, float("inf")]])
    feats = tl.Features(
        ["map", "<b>", "pair", "none"], [torch.rand(1, 3, 8, 8), broken, (broken, None), None], ["drop"]
    )
    header, *rows = Rows(feats._repr_html_()).rows
    assert header == ["name", "shape", "dtype", "range", "NaN or Inf", "map"]
    assert rows[0][:3] == ["map", "[1, 3, 8, 8]", "float32"]
    assert rows[0][4:] == ["0", "8 × 8 positions, norm of 3 channels"]
    assert rows[1] == ["<b>", "[1, 4]", "float32", "-2 to 1", "2", ""]
    assert rows[2] == ["pair", "([1, 4], None)"]
    assert "Not run: drop" in feats._repr_html_()


def test_the_map_is_the_norm_in_viridis() -> None:
    feat = torch.rand(2, 3, 9, 9)
    data = re.search(r"base64,([^\"]+)", tl.Features(["map"], [feat])._repr_html_())
    assert data is not None
    pixels = np.asarray(Image.open(BytesIO(b64decode(data[1]))).convert("RGB"), dtype=float)
    norm = feat[0].norm(dim=0).numpy()
    right = mpl.colormaps["viridis"]((norm - norm.min()) / (norm.max() - norm.min()))[..., :3] * 255
    assert pixels.shape == right.shape
    assert np.abs(pixels - right).max() < 20  # interpolated between nine colours


@pytest.mark.parametrize(
    "feat",
    [
        torch.rand(0, 3), torch.rand(1, 197, 192), torch.rand(1, 6, 5, 5, dtype=torch.complex64), torch.tensor(3),
        torch.zeros(1, 4, 2, 300), torch.ones(1, 2, 64, 64, dtype=torch.bfloat16), torch.rand(3, 4, device="meta"),
        torch.full((1, 3, 6, 6), float("nan")), torch.ones(4, dtype=torch.bool),
    ],
    ids=lambda feat: f"{feat.dtype}{list(feat.shape)}",
)  # fmt: skip
def test_anything_is_shown(feat: torch.Tensor) -> None:
    assert str(list(feat.shape)) in tl.Features(["feat"], [feat])._repr_html_()


def test_what_is_not_there_yet() -> None:
    """A record before the layer ran, and a gradient before `backward()`, say so."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with tl.capture(model, ["0", "1:grad_output"], keep="all") as record:
        assert Rows(record._repr_html_()).rows[1] == ["0", "not run"]
        model(torch.rand(1, 4))
        model(torch.rand(2, 4))
        assert Rows(record._repr_html_()).rows[1][:2] == ["0", "[2, 3]"]
        assert Rows(record._repr_html_()).rows[2] == ["1:grad_output", "no gradient yet"]
