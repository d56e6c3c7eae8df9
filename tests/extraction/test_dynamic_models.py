"""Models whose forward passes differ: in the number of calls, or the kernels that run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import VisionTransformer

import torch_featurelayer as tl
from tests import toys


@torch.no_grad()
def test_a_continued_store_has_the_bytes_of_an_uninterrupted_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit = VisionTransformer(32, 8, num_layers=3, num_heads=4, hidden_dim=128, mlp_dim=64).eval()
    data = list(torch.randn(24, 3, 32, 32))

    def extract(name: str, progress: Callable[[Any], None] | None = None) -> dict[str, bytes]:
        tl.extract(
            vit, ["encoder.ln"], data, tmp_path / name, reduce="mean", dtype=torch.float32, batch_size=4, shard_size=8,
            progress=progress,
        )  # fmt: skip
        return {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.safetensors")}

    def interrupt(progress: Any) -> None:
        if progress.done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract("continued", interrupt)
    assert extract("continued") == extract("whole")


def test_rows_of_a_dataset(tmp_path: Path) -> None:
    """Items for which a layer runs once, twice and three times, in batches of one."""
    model, items = toys.RepeatsByValue(), [torch.full((4,), float(count)) for count in (1, 3, 2, 1)]
    store = tl.extract(model, ["layer@-1"], items, tmp_path / "out", batch_size=1, dtype=torch.float32)
    right = [tl.FeatureLayer(model, "layer@-1")(item[None])[0][0] for item in items]
    assert torch.equal(torch.as_tensor(store["layer@-1"][:]), torch.stack(right))
