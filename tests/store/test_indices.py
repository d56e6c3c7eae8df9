"""Indices of the rows of a store mean what they mean to NumPy, or are an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import torch_featurelayer as tl
from torch_featurelayer.store import StoredLayer, StoreWriter

ROWS = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
INDICES: dict[str, Any] = {
    "an integer": 2,
    "a NumPy integer": np.int64(-1),
    "a scalar": torch.tensor(3),
    "a slice": slice(1, 6),
    "a slice backwards": slice(5, None, -2),
    "a list": [4, -1, 4],
    "an array": np.array([6, 0]),
    "a tensor": torch.tensor([6, 0], dtype=torch.int32),
    "a range": range(1, 7, 2),
    "a table of indices": torch.tensor([[0, 1], [6, 6]]),
    "a mask": np.arange(7) > 3,
    "a list of flags": [True, False] * 3 + [True],
    "nothing": [],
    "a row and a place": (3, 1),
    "a row and the last place": (np.int64(3), ..., -1),
    "a column": (slice(None), 1),
    "a part of a column": (slice(1, 5), slice(0, 2), 1),
    "rows and a column": ([1, 5], 2),
    "columns": (slice(None), [2, 0]),
    "an ellipsis": ...,
    "an ellipsis and a place": (..., 0),
    "a new dimension": (None, 2),
    "no index": (),
}


@pytest.fixture
def layer(tmp_path: Path) -> StoredLayer:
    with StoreWriter.open(tmp_path, {}) as writer:
        writer.write(0, {"a": ROWS[:4]}, list("abcd"))
        writer.write(1, {"a": ROWS[4:]}, list("efg"))
    return tl.open_store(tmp_path)["a"]


@pytest.mark.parametrize("kind", INDICES)
def test_as_numpy(kind: str, layer: StoredLayer) -> None:
    index = INDICES[kind]
    found = layer[index]
    right = ROWS.numpy()[np.asarray(index) if isinstance(index, Tensor) else index]
    assert found.shape == right.shape
    assert np.array_equal(found.numpy(), right)


@pytest.mark.parametrize("index", [0.5, "a", True, torch.tensor([0.0, 1.0]), 1j, np.array(True), object])
def test_what_is_no_index(index: Any, layer: StoredLayer) -> None:
    """It is not cut off to one."""
    with pytest.raises(TypeError, match=r"rows must be an index, a slice, indices or a boolean mask, not .*item\(id\)"):
        layer[index]


@pytest.mark.parametrize("index", [7, -8, [0, 7], np.array([-8])])
def test_rows_that_do_not_exist(index: Any, layer: StoredLayer) -> None:
    with pytest.raises(IndexError, match="does not exist: the store has 7 rows"):
        layer[index]


def test_lists_of_several_dimensions_are_not_combined(layer: StoredLayer) -> None:
    with pytest.raises(IndexError, match="index the rows first"):
        layer[[0, 1], [2, 0]]


@pytest.mark.usefixtures("layer")
def test_a_column_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(tl.FeatureNotFoundError, match=r"no column 'labels'\. There are no columns\."):
        tl.open_store(tmp_path).column("labels")


def test_items_by_place(layer: StoredLayer) -> None:
    for place in (1, np.int64(1), -6, "b"):
        assert torch.equal(layer.item(place), ROWS[1:2])  # type: ignore[arg-type]
    for wrong in (7, 1.5, "h"):
        with pytest.raises(LookupError, match="no item with features has the id or place"):
            layer.item(wrong)  # type: ignore[arg-type]
