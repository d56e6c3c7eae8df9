"""Steps that all functions share: a feature to maps, one sample, one channel."""

from __future__ import annotations

from typing import Any, Final, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from .._exceptions import LayoutError
from .._layout import Layout, map_layout

Channel: TypeAlias = Literal["mean", "max", "norm"] | int
LayoutName: TypeAlias = str | None

_LARGEST_RATIO: Final = 2  # between the proportions of a map and those of its image


class ByLayer(Protocol):
    """Features by layer: a `Features`, or a dict from name to tensor."""

    def items(self) -> Any:
        """Returns pairs of name and feature."""


def by_layer(feats: ByLayer) -> dict[str, Any]:
    """Returns features by layer as a dict.

    Raises:
        TypeError: If they are not a `Features` or a dict.
    """
    if not hasattr(feats, "items"):
        raise TypeError(
            f"expected a Features or a dict from layer to tensor, not a {type(feats).__name__}. "
            'For one tensor, pass {"layer": feat}.'
        )
    return dict(feats.items())


def to_maps(feat: Any, layout: LayoutName = None, image_size: tuple[int, int] | None = None) -> Tensor:
    """Returns a feature as maps `[N, C, H, W]`: a view.

    Args:
        feat: The feature, `[N, C, H, W]` or in another order of dimensions.
        layout: The order of the dimensions, such as `"NHWC"`. Default: None, the only order that the shape allows.
        image_size: The height and width of the image, if they are known: maps have its proportions. Default: None.

    Raises:
        ValueError: If the feature is empty or not a tensor.
        LayoutError: If the order of its dimensions is unknown, or it is not a map of the image.
    """
    if not isinstance(feat, Tensor) or not feat.numel():
        shape = f"a tensor {list(feat.shape)}" if isinstance(feat, Tensor) else f"a {type(feat).__name__}"
        raise ValueError(f"a feature map is a tensor [N, C, H, W] with values, not {shape}")
    if layout is not None:
        known = Layout.parse(layout)
        known.check(feat)
        made = known.channels_first(feat) if known.batch is not None else known.channels_first(feat)[None]
    elif feat.ndim == 4:
        made = map_layout(feat.shape, image_size).channels_first(feat)
    else:
        raise LayoutError(
            f"a feature map is [N, C, H, W], not {list(feat.shape)}",
            shape=tuple(feat.shape),
            hint="For tokens [N, T, C], call analysis.tokens_to_map(feat, image_size=...); for one map [C, H, W], pass "
            "layout='CHW'.",
        )
    if made.ndim != 4:
        raise LayoutError(f"a feature map has two dimensions of positions, which layout={layout!r} has not")
    _check_proportions(made, image_size)
    return made


def _check_proportions(maps: Tensor, image_size: tuple[int, int] | None) -> None:
    """Checks that a map has the proportions of its image: otherwise it is not a map, such as heads × tokens."""
    if image_size is None:
        return
    (height, width), (rows, columns) = maps.shape[-2:], image_size
    ratio = (height * columns) / (width * rows)
    if not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
        raise LayoutError(
            f"{height} × {width} positions are not a map of an image of {rows} × {columns} pixels",
            shape=tuple(maps.shape),
            hint="Heads × tokens, or regions of interest, cannot be drawn over the image.",
        )


def token_grid(
    feat: Any,
    channel: Channel = "mean",
    sample: int = 0,
    layout: LayoutName = None,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    """Returns the map of one sample, `[H, W]` in float32 on the CPU.

    Args:
        feat: The feature, `[N, C, H, W]` or `[H, W]`.
        channel: `"mean"` (default), `"max"`, `"norm"`, or the number of a channel.
        sample: The index of the sample. Default: 0.
        layout: The order of the dimensions. Default: None, the only order that the shape allows.
        image_size: The height and width of the image. Default: None.

    Raises:
        ValueError: If the feature is not a map, or there is no such reduction of channels.
        LayoutError: If the order of the dimensions is unknown.
        IndexError: If there is no such sample or channel.
    """
    if isinstance(feat, Tensor) and feat.ndim == 2 and feat.numel():
        return feat.detach().to("cpu", torch.float32)
    maps = to_maps(feat, layout, image_size).detach()
    values = pick(maps, sample, "sample").to("cpu", torch.float32)
    if isinstance(channel, int):
        return pick(values, channel, "channel")
    if channel == "mean":
        return values.mean(0)
    if channel == "max":
        return values.amax(0)
    if channel == "norm":
        return values.square().sum(0).sqrt()
    raise ValueError(f"channel must be 'mean', 'max', 'norm' or a number, not {channel!r}")


def pick(values: Tensor, number: int, kind: str) -> Tensor:
    """Returns the element of a tensor at an index of its first dimension.

    Raises:
        IndexError: If there is no such element.
    """
    if not -len(values) <= number < len(values):
        raise IndexError(f"there is no {kind} {number}: the {len(values)} {kind}s are 0 to {len(values) - 1}")
    return values[number]


def describe_channels(feat: Tensor, channel: Channel, layout: LayoutName, image_size: tuple[int, int] | None) -> str:
    """Describes how channels were reduced, for the label of a colour bar; empty for a map without channels."""
    if feat.ndim == 2:
        return ""
    count = to_maps(feat, layout, image_size).shape[1]
    return f"channel {channel} of {count}" if isinstance(channel, int) else f"{channel} of {count} channels"


def channels_first(feat: Any, layout: LayoutName = None) -> Tensor:
    """Returns a feature as `[N, C, *positions]`: a view.

    Args:
        feat: Vectors `[N, C]`, maps, or a tensor of any shape with its layout.
        layout: The order of the dimensions. Default: None, the only order that the shape allows.

    Raises:
        ValueError: If the feature is empty, or not a tensor with channels.
        LayoutError: If the order of the dimensions is unknown.
    """
    if not isinstance(feat, Tensor) or feat.ndim < 2 or not feat.numel():
        shape = f"a tensor {list(feat.shape)}" if isinstance(feat, Tensor) else f"a {type(feat).__name__}"
        raise ValueError(f"a feature with channels is a tensor [N, C, *positions] with values, not {shape}")
    if layout is not None:
        return Layout.parse(layout).channels_first(feat)
    if feat.ndim == 2:
        return feat
    if feat.ndim == 4:
        return map_layout(feat.shape).channels_first(feat)
    raise LayoutError(
        f"the dimension of the channels of this feature {list(feat.shape)} is unknown", shape=tuple(feat.shape)
    )
