"""Maps of tokens: the attention of a head, and statistics of each token in each stage."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import analysis
from .._exceptions import FeatureNotFoundError
from .inputs import image_size
from .options import position_at
from .session import Explorer


def attention_map(
    explorer: Explorer, model: int, picture: int, layer: str, head: int, position: tuple[float, float] | None
) -> Tensor:
    """Returns the attention of one position to all others, `[H, W]`, or `[1, T]` of a text.

    Args:
        explorer: The models and the inputs.
        model: The number of the model.
        picture: The number of the image or text.
        layer: The layer with attention.
        head: The number of the head.
        position: The position in the image, each from 0 to 1; None for the first token, such as a class token.

    Raises:
        FeatureNotFoundError: If the layer has no attention.
        LayoutError: If its tokens are not a map of the image.
        IndexError: If there is no such head.
    """
    weights, query = attention_from(explorer, model, picture, layer, position)
    if not 0 <= head < weights.shape[1]:
        raise IndexError(f"there is no head {head}: {layer!r} has {weights.shape[1]}")
    loaded = explorer.models[model]
    size = image_size(loaded, explorer.pictures[picture].source)
    if size is None:
        return weights[0, head, query][None]
    return analysis.attention_map(weights, query=query, head=head, image_size=size, patch=loaded.patch)


def attention_from(
    explorer: Explorer, model: int, picture: int, layer: str, position: tuple[float, float] | None
) -> tuple[Tensor, int]:
    """Returns the attention weights of a layer `[1, heads, queries, keys]`, and the token at a position.

    Raises:
        FeatureNotFoundError: If the layer has no attention.
        LayoutError: If its tokens are not a map of the image.
    """
    found = explorer.attention(model, picture)
    if layer not in found:
        raise FeatureNotFoundError(layer, list(found))
    weights, loaded = found[layer], explorer.models[model]
    size = image_size(loaded, explorer.pictures[picture].source)
    if position is None:
        return weights, 0
    if size is None:
        return weights, position_at(weights.new_empty(1, 1, weights.shape[2]), *position)[1]
    grid = analysis.attention_map(weights, image_size=size, patch=loaded.patch)
    row, column = position_at(grid[None], *position)
    return weights, weights.shape[2] - grid.numel() + row * grid.shape[1] + column


def heat_map(
    explorer: Explorer, model: int, picture: int, of: str, channel: int, x: float | None
) -> tuple[list[str], Tensor]:
    """Returns a statistic of each token in each stage of a model of texts: the layers, and values `[L, T]`.

    Args:
        explorer: The models and the inputs.
        model: The number of the model.
        picture: The number of the text.
        of: `"norm"`, `"mean"`, `"max"` or `"channel"` of the channels, or `"cosine"` to the token at `x`.
        channel: The number of the channel; NaN where a layer does not have it.
        x: The horizontal position of the token, from 0 to 1; None for the last token.

    Raises:
        ValueError: If there is no such statistic.
    """
    maps = explorer.run(model, picture).maps
    layers = [stage for stage in explorer.models[model].stages if stage in maps]
    statistics: dict[str, Callable[[Tensor], Tensor]] = {
        "norm": lambda feat: torch.linalg.vector_norm(feat, dim=0),
        "mean": lambda feat: feat.mean(0),
        "max": lambda feat: feat.amax(0),
        "channel": lambda feat: feat[channel] if channel < len(feat) else torch.full_like(feat[0], torch.nan),
        "cosine": lambda feat: _cosines(feat, 1.0 if x is None else x),
    }
    if of not in statistics:
        raise ValueError(f"no statistic {of!r}: the statistics are {', '.join(statistics)}")
    return layers, torch.stack([statistics[of](maps[layer])[0] for layer in layers])


def _cosines(maps: Tensor, x: float) -> Tensor:
    """Returns the cosine of each position of `[C, 1, T]` to that of a token."""
    return analysis.cosine_map(maps[None], position_at(maps, x, 0.0), layout="NCHW")
