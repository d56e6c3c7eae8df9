"""Do two networks see alike, and where?

The stages of EfficientNet-Lite0, trained, against its own and against those with random weights: linear CKA and RSA
over crops of six photos. A trained stage is like its neighbours; random ones are like the trained ones at the start,
and less and less with depth. Sources: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019;
Kriegeskorte et al., "Representational similarity analysis", 2008.

    python -m examples.compare_models [--each 20] [--out alike.png]
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from torch import Tensor, nn

import torch_featurelayer as tl
from examples._photos import NAMES, crops
from examples._untrained import forget

Measure = Callable[[Tensor, Tensor], float]


def stages_of(model: nn.Module, layers: tuple[str, ...], images: Tensor) -> list[Tensor]:
    """Returns the features of each stage, one vector `[N, C]` for each image."""
    extract = tl.FeatureLayers(model, layers, reduce="mean")
    with torch.no_grad():
        batches = [list(extract.features(batch)) for batch in images.split(20)]
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def alike(one: list[Tensor], other: list[Tensor], measure: Measure) -> Tensor:
    """Returns how alike every stage of one is to every stage of the other: `[stages, stages]`."""
    return torch.tensor([[measure(x, y) for y in other] for x in one])


def measure(each: int) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Returns the stages' names, and the matrices of trained against trained, and of trained against random."""
    loaded = tl.models.load("efficientnet-lite0")
    images = torch.cat([loaded.preprocess(crop) for name in NAMES for crop in crops(name, each, 224)])
    trained = stages_of(loaded.model, loaded.stages, images)
    forget(loaded.model)
    untrained = stages_of(loaded.model, loaded.stages, images)
    similarity = tl.similarity
    return loaded.stages, {
        "CKA, trained and trained": alike(trained, trained, similarity.cka),
        "CKA, trained and random": alike(trained, untrained, similarity.cka),
        "RSA, trained and trained": alike(trained, trained, similarity.rsa),
        "RSA, trained and random": alike(trained, untrained, similarity.rsa),
    }


def drawn(stages: tuple[str, ...], matrices: dict[str, Tensor]) -> Figure:
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for ax, (title, matrix) in zip(figure.subplots(1, len(matrices)), matrices.items(), strict=True):
        shown = ax.imshow(matrix, vmin=0, vmax=1, cmap="viridis", origin="lower")
        ax.set_title(title, fontsize="small")
        ax.set_xticks(range(len(stages)), stages, rotation=60, fontsize="x-small")
        ax.set_yticks(range(len(stages)), stages, fontsize="x-small")
        for row, values in enumerate(matrix.tolist()):
            for column, value in enumerate(values):
                colour = "white" if value < 0.6 else "black"
                ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    figure.colorbar(shown, ax=figure.axes, shrink=0.8)
    return figure


def main(out: Path = Path("alike.png"), each: int = 20) -> None:
    """Draws the four matrices."""
    drawn(*measure(each)).savefig(out, dpi=100)


if __name__ == "__main__":
    typer.run(main)
