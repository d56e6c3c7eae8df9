"""`plot_diff` draws the numbers of the table, and marks the first layer above its tolerance."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl
from torch_featurelayer import figures


def models() -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
    other = copy.deepcopy(model)
    other[2][0].bias.data += 0.1  # type: ignore[index, union-attr]
    return model, other, torch.randn(8, 4)


def test_curves_and_the_first_layer() -> None:
    table = tl.diff(*models())
    figure = figures.plot_diff(table)
    (ax,) = figure.axes
    errors, angles, tolerance, mark = ax.lines
    leaves = [row for row in table if row.is_leaf]
    assert [row.name for row in leaves] == ["0", "1", "2.0", "2.1"]
    assert list(errors.get_ydata()) == [max(row.error, 1e-9) for row in leaves]
    assert list(angles.get_ydata()) == [max(1 - row.cosine, 1e-9) for row in leaves]
    assert set(tolerance.get_ydata()) == {1e-5}
    assert set(mark.get_xdata()) == {2}
    assert ax.get_title() == "first layer above 1e-05: 2.0"
    assert "first layer above 1e-05: 2.0" in figures.alt_text(figure)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2.0", "2.1"]
    assert len(figures.plot_diff(table, leaves=False).axes[0].lines[0].get_ydata()) == len(table)  # type: ignore[arg-type]


def test_no_difference_and_nothing_to_draw() -> None:
    model, _, x = models()
    table = tl.diff(model, model, x)
    assert figures.plot_diff(table).axes[0].get_title() == "no layer differs by more than 1e-05"
    with pytest.raises(ValueError, match="at least one row"):
        figures.plot_diff(table[:0])


def test_what_cannot_be_measured_is_a_cross() -> None:
    model, other, x = models()
    other[1] = nn.Flatten(0)  # type: ignore[index]
    other[2] = nn.Sequential(nn.Unflatten(0, (8, 4)), nn.Tanh())  # type: ignore[index]
    table = tl.diff(model, other, x)
    assert math.isnan(table["1"].error)
    ax = figures.plot_diff(table).axes[0]
    assert any(line.get_marker() == "x" for line in ax.lines)
    assert ax.get_title() == "first layer above 1e-05: 1"
