"""Extraction on a CUDA device: the features of the CPU, copies beside the computation, and late errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import torch_featurelayer as tl
from torch_featurelayer.extraction.row_buffer import RowBuffer, Rows

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


IMAGES = torch.randn(50, 3, 24, 24, generator=torch.Generator().manual_seed(1))


class Decoded(Dataset[Tensor]):
    """Samples that worker processes make."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, place: int) -> Tensor:
        return IMAGES[place]


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("data", [IMAGES, Decoded(), DataLoader(Decoded(), batch_size=8, num_workers=2)])
@pytest.mark.parametrize("options", [{}, {"dtype": None, "reduce": None}, {"num_workers": 2}], ids=str)
def test_features_are_those_of_the_cpu(data: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """From memory, from workers with pinned memory; whole and reduced."""
    fixed: dict[str, Any] = {"reduce": "mean", "batch_size": 8, "shard_size": 20, **options}
    right = tl.extract(network(), ["1", "2"], data, tmp_path / "cpu", **fixed)
    found = tl.extract(network(), ["1", "2"], data, tmp_path / "cuda", device="cuda", **fixed)
    for layer in ("1", "2"):
        torch.testing.assert_close(found[layer][:], right[layer][:], rtol=2e-3, atol=2e-3)
    assert found.verify() == 50


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    """Rows that are copied on a side stream are complete before they are written."""
    stores = [
        tl.extract(network(), "2", IMAGES, tmp_path / str(turn), device="cuda", shard_size=16) for turn in range(3)
    ]
    assert torch.equal(stores[0]["2"][:], stores[1]["2"][:])
    assert torch.equal(stores[0]["2"][:], stores[2]["2"][:])


def test_rows_wait_in_pinned_memory() -> None:
    """Many batches of large rows: each is copied before its memory is used again."""
    buffer = RowBuffer(4)
    for number in range(20):
        rows = torch.full((8, 1 << 16), float(number), device="cuda")
        buffer.add(
            range(8 * number, 8 * number + 8), Rows({"a": rows}, [1] * 8, torch.zeros(8, dtype=torch.int64)), "x"
        )
        del rows
    held = buffer.content([tl.store.Item(str(number)) for number in range(160)]).features["a"]
    assert held.is_pinned()
    assert torch.equal(held[:, 0], torch.arange(20.0).repeat_interleave(8))
    assert torch.equal(held[:, -1], held[:, 0])


def test_an_overflow_is_found_at_the_end_of_a_shard(tmp_path: Path) -> None:
    """Float16 ends at 65,504; the check does not wait for the device after each batch, and misses nothing."""
    rows = torch.ones(50, 4)
    rows[17] = 1e6
    with pytest.raises(tl.FeatureOverflowError, match="float16"):
        tl.extract(nn.Sequential(nn.Identity()), "0", rows, tmp_path / "out", device="cuda", shard_size=25)
    rows[17] = torch.inf  # not an overflow: the model's own value
    store = tl.extract(nn.Sequential(nn.Identity()), "0", rows, tmp_path / "other", device="cuda", shard_size=25)
    assert store.nonfinite == {"17": 4}


@pytest.mark.parametrize("options", [{"autocast": torch.bfloat16}, {"precision": torch.bfloat16}], ids=str)
def test_bfloat16(options: dict[str, Any], tmp_path: Path) -> None:
    right = tl.extract(network(), "2", IMAGES, tmp_path / "cpu", reduce="mean")
    store = tl.extract(network(), "2", IMAGES, tmp_path / "cuda", device="cuda", reduce="mean", **options)
    torch.testing.assert_close(store["2"][:].float(), right["2"][:].float(), rtol=0.05, atol=0.02)


def test_an_item_that_the_model_rejects(tmp_path: Path) -> None:
    """The items around it are stored."""

    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if (x[:, 0] > 8).any():
                raise ValueError("too large")
            return x * 2

    rows = torch.arange(40.0).view(10, 4)
    rows[:, 0] = 0
    rows[6, 0] = 9
    store = tl.extract(nn.Sequential(Picky()), "0", rows, tmp_path / "out", device="cuda", batch_size=4)
    assert [error.id for error in store.errors] == ["6"]
    assert torch.equal(store["0"][:].float(), 2 * torch.cat([rows[:6], rows[7:]]))
