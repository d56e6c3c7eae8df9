"""Options that are numbers of things: too few are an error, and never an empty result."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from torch_featurelayer.diagnosis import row_statistics
from torch_featurelayer.similarity import Index, search

MAPS = torch.rand(1, 8, 6, 6)
ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def extracted(out: Path, **options: Any) -> Any:
    return tl.extract(nn.Sequential(nn.Linear(4, 3)), "0", ROWS, out, **options)


@pytest.mark.parametrize("name", ["batch_size", "shard_size", "num_threads", "num_actors"])
@pytest.mark.parametrize("count", [0, -1])
def test_extract(name: str, count: int, tmp_path: Path) -> None:
    backend = "ray" if name == "num_actors" else None
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not {count}"):
        extracted(tmp_path / "out", backend=backend, **{name: count})
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_whole(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"shard_size must be a whole number, not 2\.0"):
        extracted(tmp_path / "out", shard_size=2.0)
    with pytest.raises(ValueError, match="num_workers must be at least 0, not -1"):
        extracted(tmp_path / "out", num_workers=-1)
    assert len(extracted(tmp_path / "out", shard_size=np.int64(2), batch_size=np.int32(4), num_workers=0)) == 6


def test_other_functions(tmp_path: Path) -> None:
    store = extracted(tmp_path / "out")
    model = nn.Sequential(nn.Linear(4, 3))
    calls = {
        "k": [partial(search, store, ROWS[0, :3], k=0), partial(Index(store).search, ROWS[0, :3], k=-1)],
        "count": [partial(tl.analysis.top_channels, MAPS, 0), partial(tl.figures.plot_channels, MAPS, count=-1)],
        "bins": [partial(tl.figures.plot_histogram, {"0": MAPS}, bins=0)],
        "columns": [partial(tl.figures.plot_histogram, {"0": MAPS}, columns=0)],
        "top": [partial(tl.statistics, model, "0", ROWS, top=-1), partial(row_statistics, store["0"], top=-1)],
        "batch_size": [
            partial(tl.statistics, model, "0", ROWS, batch_size=0),
            partial(tl.plan, model, "0", ROWS, batch_size=0),
            lambda: next(store["0"].rows(0)),
        ],
    }
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(ValueError, match=f"{name} must be at least [01], not"):
                function()


def test_no_channels() -> None:
    with pytest.raises(ValueError, match="plot_channels needs at least one channel"):
        tl.figures.plot_channels(MAPS, which=[])


def test_a_model_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'0' has no values: the model is on the device 'meta'"):
        tl.extract(nn.Sequential(nn.Linear(4, 3, device="meta")), "0", ROWS, tmp_path / "out")
