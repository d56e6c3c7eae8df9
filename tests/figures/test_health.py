"""`plot_health` and `plot_top_items` draw the numbers of the statistics."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from torch_featurelayer import figures


@pytest.fixture(scope="module")
def found() -> tl.Statistics:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3))
    model[0].bias.data[:2] = -100  # type: ignore[union-attr, index, operator]
    model[2].weight.data[4] *= 1000  # type: ignore[union-attr, index, operator]
    return tl.statistics(model, ["0", "1", "2"], torch.randn(20, 3, 8, 8))


def test_all_layers(found: tl.Statistics) -> None:
    figure = figures.plot_health(found)
    size, zeros, kurtosis, counts = figure.axes
    assert list(size.lines[0].get_ydata()) == pytest.approx([float(each.rms.median()) for each in found.values()])
    assert list(zeros.lines[0].get_ydata()) == pytest.approx([float(each.zeros.median()) for each in found.values()])
    assert kurtosis.get_yscale() == "log"
    assert [bar.get_height() for bar in counts.patches] == [0, 2 / 8, 0, 2 / 8, 0, 1 / 6]
    assert [label.get_text() for label in counts.get_xticklabels()] == ["0", "1", "2"]
    assert size.get_title() == "20 items, 320 to 720 positions per channel"
    assert "2 dead and 3 outlier channels in 3 layers" in figures.alt_text(figure)
    with pytest.raises(ValueError, match="at least one layer"):
        figures.plot_health({})


def test_top_items(found: tl.Statistics) -> None:
    loaded: list[str] = []

    def load(name: str) -> torch.Tensor:
        loaded.append(name)
        return torch.zeros(3, 4, 4)

    figure = figures.plot_top_items(found["2"], [4, 1], load, count=3)
    best = [*found["2"].top(4)[:3], *found["2"].top(1)[:3]]
    assert loaded == [name for name, _ in best]
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[0] == f"2, channel 4: {best[0][1]:.3g}\n{best[0][0]}"
    assert len(titles) == 6
    bad = tl.statistics(nn.Sequential(nn.Identity()), "0", torch.full((3, 2), torch.nan))
    with pytest.raises(ValueError, match="no item excites channels"):
        figures.plot_top_items(bad["0"], [0], load)
