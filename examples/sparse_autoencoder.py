"""A sparse autoencoder, trained straight from a store of features.

The features of one layer of EfficientNet-Lite0 at every position of many crops are taken apart into directions of which
a few are active at a time; the crops that a direction answers to most show what it stands for. The store is the data
set: rows are read as they are needed, and what does not fit in memory stays on disk. Source: Gao et al., "Scaling and
evaluating sparse autoencoders", 2024 (top-k); Bricken et al., "Towards Monosemanticity", 2023.

    python -m examples.sparse_autoencoder [--epochs 6] [--out directions.jpg]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import typer
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

import torch_featurelayer as tl
from examples._photos import NAMES, crops

LAYER = "_blocks.10"


class SparseAutoencoder(nn.Module):
    """Writes a vector `[N, D]` as a sum of a few of many directions, plus a mean."""

    def __init__(self, mean: Tensor, directions: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.mean = nn.Parameter(mean.clone())
        self.decoder = nn.Parameter(nn.functional.normalize(torch.randn(directions, len(mean)), dim=1))
        self.encoder = nn.Parameter(self.decoder.detach().T.clone())
        self.bias = nn.Parameter(torch.zeros(directions))

    def encode(self, vectors: Tensor) -> Tensor:
        """Returns how much each direction is active: `[N, directions]`, zero but for the few greatest."""
        strengths = ((vectors - self.mean) @ self.encoder + self.bias).relu()
        best = strengths.topk(self.active, dim=1)
        return torch.zeros_like(strengths).scatter(1, best.indices, best.values)

    def forward(self, vectors: Tensor) -> Tensor:
        return self.encode(vectors) @ self.decoder + self.mean


def make_store(folder: Path, each: int) -> tuple[tl.store.Store, list[Image.Image]]:
    """Extracts the maps of crops of the photos, a row each: `[112, 14, 14]`."""
    loaded, images = tl.models.load("efficientnet-lite0"), [crop for name in NAMES for crop in crops(name, each, 224)]
    pairs = [(str(number), image) for number, image in enumerate(images)]
    return tl.extract(loaded, LAYER, pairs, folder, shard_size=64), images


def vectors_of(maps: Tensor) -> Tensor:
    """Returns the vectors at all positions: `[N, C, H, W]` to `[N·H·W, C]`."""
    return maps.float().permute(0, 2, 3, 1).flatten(0, 2)


def train(store: tl.store.Store, epochs: int, directions: int = 448, active: int = 12) -> SparseAutoencoder:
    """Trains on the rows of a store, in batches of maps."""
    model = SparseAutoencoder(vectors_of(store[LAYER][:32]).mean(0), directions, active)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loader = DataLoader(store[LAYER], batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(0))
    for _ in range(epochs):
        for maps in loader:
            vectors = vectors_of(maps)
            loss = (model(vectors) - vectors).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.decoder.data = nn.functional.normalize(model.decoder.data, dim=1)
    return model


@torch.no_grad()
def explained(model: SparseAutoencoder, store: tl.store.Store, rows: slice) -> float:
    """Returns the share of the variance that the few directions bring back."""
    vectors = vectors_of(store[LAYER][rows])
    left = (model(vectors) - vectors).square().sum()
    return 1 - (left / (vectors - vectors.mean(0)).square().sum()).item()


@torch.no_grad()
def answers(model: SparseAutoencoder, store: tl.store.Store, size: int = 14) -> Tensor:
    """Returns how much each direction is active at every position: `[N, size, size, directions]`."""
    parts = [model.encode(vectors_of(store[LAYER][start : start + 32])) for start in range(0, len(store), 32)]
    return torch.cat(parts).reshape(len(store), size, size, -1)


def best_patches(strengths: Tensor, images: list[Image.Image], direction: int, count: int) -> list[Image.Image]:
    """Returns the parts of different images around the positions a direction answers to most."""
    each, places = strengths[..., direction].flatten(1).max(1)
    found = []
    for number in each.topk(count).indices.tolist():
        row, column = divmod(places[number].item(), strengths.shape[2])
        x, y = column * 16 + 8, row * 16 + 8
        found.append(images[number].crop((x - 40, y - 40, x + 40, y + 40)))
    return found


def main(out: Path = Path("directions.jpg"), each: int = 40, epochs: int = 6) -> None:
    """Draws what six directions answer to."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        store, images = make_store(Path(folder), each)
        model = train(store, epochs)
        strengths = answers(model, store)
        print(f"{model.active} of {len(model.bias)} directions bring back {explained(model, store, slice(None)):.0%}")
    used = (strengths > 0).flatten(0, 2).float().mean(0)
    rare = [direction for direction in strengths.flatten(0, 2).amax(0).argsort(descending=True).tolist()
            if 0.002 < used[direction] < 0.05][:6]  # fmt: skip
    patches = [patch for direction in rare for patch in best_patches(strengths, images, direction, 8)]
    titles = [f"direction {direction}" if not place else "" for direction in rare for place in range(8)]
    tl.figures.plot_image_grid(patches, titles, columns=8).savefig(out, dpi=60)


if __name__ == "__main__":
    typer.run(main)
