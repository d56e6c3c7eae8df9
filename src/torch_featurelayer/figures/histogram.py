"""How activations are distributed, and which channels are dead."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ._figure import FeatureFigure


def dead_channels(feat: Tensor) -> list[int]:
    """Returns the channels that are never above zero, in any of the samples given.

    Args:
        feat: `[N, C, *positions]`. On few samples a channel may only seem dead.

    Raises:
        ValueError: There is no channel.
    """
    if feat.ndim < 2 or not feat.numel():
        raise ValueError(f"channels are the second dimension: [N, C, *positions], not {list(feat.shape)}")
    greatest = feat.detach().movedim(1, 0).flatten(1).amax(1)
    return (greatest <= 0).nonzero().flatten().tolist()


def histogram(feats: Mapping[str, Tensor], *, bins: int = 60, columns: int = 3) -> FeatureFigure:
    """Draws the distribution of the activations of layers, with the number of dead channels.

    Args:
        feats: `[N, C, *positions]` by layer: a `Features`, or a dict.
        bins: How many bars.
        columns: How many layers stand side by side.

    Returns:
        A new figure; each part says on how many images it rests. What is not finite is left out and counted.

    Raises:
        ValueError: There is no layer, or it has no channels.
    """
    layers = dict(feats.items())
    if not layers:
        raise ValueError("histogram needs at least one layer")
    columns = min(columns, len(layers))
    rows = math.ceil(len(layers) / columns)
    figure = FeatureFigure(figsize=(3 * columns, 2.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(layers) :]:
        ax.set_axis_off()
    for ax, (layer, feat) in zip(axes, layers.items(), strict=False):
        values = feat.detach().flatten().to("cpu", torch.float32)
        finite = values[values.isfinite()]
        images = f"{len(feat)} image{'s' if len(feat) != 1 else ''}"
        said = f"{len(dead_channels(feat))} of {feat.shape[1]} channels dead on {images}"
        if len(finite) < len(values):
            said += f", {len(values) - len(finite)} values not finite"
        ax.hist(finite.numpy(), bins=bins, log=True, color="#31688e")
        ax.axvline(0, color="0.3", linewidth=0.8)
        ax.set_title(f"{layer}\n{said}", fontsize="x-small")
        ax.tick_params(labelsize="x-small")
        ax.set_label(f"{layer}: {said}; mean {finite.mean():.3g}, {finite.min():.3g} to {finite.max():.3g}.")
    axes[0].set_ylabel("activations (log)", fontsize="x-small")
    return figure
