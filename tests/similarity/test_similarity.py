"""Search is exact: what a direct product over all rows gives, ids and scores."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

import torch_featurelayer as tl
from torch_featurelayer.similarity import FaissIndex, Index, near_duplicates, search, vectors
from torch_featurelayer.store import Store, StoreWriter


def stored(folder: Path, rows: Tensor, shard: int = 7) -> Store:
    with StoreWriter.open(folder, {}) as writer:
        for number, part in enumerate(rows.split(shard)):
            writer.write(number, {"fc": part}, [f"{number * shard + place}.png" for place in range(len(part))])
    return tl.open_store(folder)


def direct(rows: Tensor, query: Tensor, k: int) -> tuple[list[int], Tensor]:
    scores = cosine_similarity(rows.flatten(1).double(), query.flatten()[None].double())
    best = torch.argsort(scores, descending=True, stable=True)[:k]
    return best.tolist(), scores[best]


@pytest.mark.parametrize("shape", [(16,), (4, 3, 3)])
@pytest.mark.parametrize("chunk", [5, 8192])
def test_search_is_a_direct_product(
    shape: tuple[int, ...], chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the chunks it is read in, from the disk or from memory, one query or many."""
    monkeypatch.setattr(vectors, "CHUNK", chunk)
    torch.manual_seed(0)
    rows, queries = torch.randn(50, *shape), torch.randn(3, *shape)
    store = stored(tmp_path, rows)
    index = Index(store)
    many = index.search_many(queries, 6)
    for query, together in zip(queries, many, strict=True):
        right, scores = direct(rows, query, 6)
        for found in (search(store, query, k=6), index.search(query, 6), together):
            assert [match.row for match in found] == right
            assert [match.id for match in found] == [f"{row}.png" for row in right]
            torch.testing.assert_close(
                torch.tensor([match.score for match in found]).double(), scores, rtol=0, atol=1e-6
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-30, -14, 25])
def test_rows_of_any_length(exponent: int, dtype: torch.dtype, tmp_path: Path) -> None:
    """Gradients, and values whose squares leave float32; every other row is of the usual length."""
    torch.manual_seed(0)
    rows = torch.randn(20, 8, dtype=torch.float64)
    right, scores = direct(rows, rows[3] * 2, 4)
    store = stored(tmp_path, (rows * torch.tensor([10.0**exponent, 1.0]).repeat(10)[:, None]).to(dtype))
    for found in (search(store, rows[3], k=4), Index(store).search(rows[3] * 10.0**exponent, 4)):
        assert [match.row for match in found] == right
        assert [match.score for match in found] == pytest.approx(scores.tolist(), abs=1e-6)


def test_dot_product(tmp_path: Path) -> None:
    rows = torch.randn(20, 4)
    found = search(stored(tmp_path, rows), torch.ones(1, 4), k=3, metric="dot")
    assert [match.row for match in found] == rows.sum(1).topk(3).indices.tolist()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 12), own=st.integers(0, 11), k=st.integers(1, 15))
def test_an_item_is_not_its_own_match(count: int, own: int, k: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    own %= count
    rows = torch.randn(count, 5)
    store = stored(tmp_path_factory.mktemp("store"), rows, 4)
    right = [row for row in direct(rows, rows[own], count)[0] if row != own][:k]
    assert [match.row for match in search(store, f"{own}.png", k=k)] == right
    assert [match.row for match in Index(store).search(f"{own}.png", k)] == right


def test_equal_rows_come_in_order(tmp_path: Path) -> None:
    store = stored(tmp_path, torch.ones(20, 3))
    assert [match.row for match in search(store, torch.ones(3), k=4)] == [0, 1, 2, 3]


def test_mistakes_are_said(tmp_path: Path) -> None:
    store = stored(tmp_path, torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"a query \[4\] cannot be compared with rows of 3 values"):
        search(store, torch.ones(4))
    with pytest.raises(LookupError, match=r"no item has the id 'none.png'"):
        search(store, "none.png")
    with pytest.raises(ValueError, match="metric must be"):
        search(store, torch.ones(3), metric="euclid")  # type: ignore[arg-type]
    with pytest.raises(tl.FeatureNotFoundError):
        search(store, torch.ones(3), "layer4")
    with StoreWriter.open(tmp_path / "two", {}) as writer:
        writer.write(0, {"a": torch.ones(1, 2), "b": torch.ones(1, 2)}, ["x"])
    with pytest.raises(ValueError, match="name a layer: the layers of the store are 'a', 'b'"):
        search(tl.open_store(tmp_path / "two"), torch.ones(2))


def test_faiss_finds_what_is_near(tmp_path: Path) -> None:
    """Looking at all cells it is exact; at one, it still finds a row itself."""
    torch.manual_seed(0)
    rows = torch.randn(600, 8)
    store = stored(tmp_path, rows, 256)
    index = FaissIndex(store, cells=10, probes=10)
    assert len(index) == 600
    query = torch.randn(8)
    assert [match.row for match in index.search(query, 5)] == direct(rows, query, 5)[0]
    assert FaissIndex(store, cells=10, probes=1).search(rows[17], 1)[0].row == 17


def test_near_duplicates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair once, the earlier id first, most alike first, across chunks."""
    monkeypatch.setattr(vectors, "CHUNK", 4)
    torch.manual_seed(0)
    rows = torch.randn(15, 32)
    rows[9] = rows[2] * 3
    rows[14] = rows[2] + 0.05 * torch.randn(32)
    found = near_duplicates(stored(tmp_path, rows), threshold=0.9)
    pairs = [(pair.first, pair.second) for pair in found]
    assert pairs[0] == ("2.png", "9.png")
    assert sorted(pairs) == [("2.png", "14.png"), ("2.png", "9.png"), ("9.png", "14.png")]
    assert found[0].score == pytest.approx(1)
