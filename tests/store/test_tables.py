"""Other tools read the same values: parquet in DuckDB and pandas, Lance, DataLoaders, the manifest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas
import pyarrow.parquet
import pytest
import torch
from torch.utils.data import DataLoader

import torch_featurelayer as tl
from torch_featurelayer.store import Item, Store, StoreWriter


@pytest.fixture
def store(tmp_path: Path) -> Store:
    torch.manual_seed(0)
    with StoreWriter.open(tmp_path / "store", {"model": "net"}) as writer:
        for number in range(3):
            ids = [f"{number}-{place}" for place in range(4)]
            features = {"fc": torch.randn(4, 5).half(), "map": torch.randn(4, 2, 3)}
            labels = [Item(name, columns={"label": place}) for place, name in enumerate(ids)]
            writer.write(number, features, [*labels, Item(f"{number}-x", error="broken", columns={"label": 9})])
        writer.write(3, {}, [Item("3-x", error="empty")])
        writer.finish()
    return tl.open_store(tmp_path / "store")


def test_parquet(store: Store, tmp_path: Path) -> None:
    """Vectors as float32 of fixed length, whole shapes in the metadata; DuckDB computes with them."""
    store.to_parquet(tmp_path / "all.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["id", "label", "fc", "map"]
    assert table["label"].to_pylist() == [0, 1, 2, 3] * 3
    assert table["id"].to_pylist() == list(store.ids)
    assert table.schema.field("map").metadata == {b"shape": b"[2, 3]"}
    assert np.array_equal(np.stack(table["map"].to_numpy()), store["map"].numpy().reshape(12, 6))
    rows = duckdb.sql(f"SELECT list_sum(fc) FROM '{tmp_path / 'all.parquet'}'").fetchall()  # noqa: S608
    torch.testing.assert_close(torch.tensor(rows)[:, 0], store["fc"][:].float().sum(1))
    store.to_parquet(tmp_path / "one.parquet", "fc")
    assert pyarrow.parquet.read_schema(tmp_path / "one.parquet").names == ["id", "label", "fc"]
    with pytest.raises(tl.FeatureNotFoundError):
        store.to_parquet(tmp_path / "none.parquet", "nothing")


LANCE = """
import sys, lance
import torch_featurelayer as tl
store = tl.open_store(sys.argv[1])
store.to_lance(sys.argv[2])
table = lance.dataset(sys.argv[2]).to_table()
assert table["id"].to_pylist() == list(store.ids)
assert table["fc"].to_pylist() == store["fc"][:].tolist()
"""


@pytest.mark.slow
def test_lance(store: Store, tmp_path: Path) -> None:
    """In a process of its own: once imported, lance warns at every fork, and data loaders fork."""
    command = [sys.executable, "-c", LANCE, store.path, str(tmp_path / "all.lance")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_manifest_says_what_became_of_each_item(store: Store) -> None:
    """An Arrow file that other tools read; also in the same bytes each time."""
    path = Path(store.path) / "manifest" / "00000000.items.arrow"
    table = pandas.read_feather(path)
    assert table.columns.tolist() == ["id", "digest", "error", "rows", "nonfinite", "label"]
    assert table["id"][table["error"].isna()].tolist() == list(store.ids)
    assert table["rows"].sum() == 12
    assert {row.id: row.error for row in table.itertuples() if isinstance(row.error, str)} == {
        error.id: error.reason for error in store.errors
    }
    assert store.manifest.to_pandas().equals(table)
    assert store.columns == ("label",)
    assert store.column("label").tolist() == [0, 1, 2, 3] * 3
    first = path.read_bytes()
    with StoreWriter.open(store.path, {"model": "net"}) as writer:
        writer.finish()
    assert path.read_bytes() == first


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loaders(workers: int, store: Store) -> None:
    """A layer and whole rows are datasets, in worker processes too."""
    batches = list(DataLoader(store["fc"], batch_size=5, num_workers=workers))
    assert torch.equal(torch.cat(batches), store["fc"][:])
    rows = list(DataLoader(store.samples(), batch_size=5, num_workers=workers))
    assert torch.equal(torch.cat([row["map"] for row in rows]), store["map"][:])
    assert [name for row in rows for name in row["id"]] == list(store.ids)
    assert set(store.samples("fc")[0]) == {"id", "label", "fc"}
