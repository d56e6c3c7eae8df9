"""From a feature to the map that is drawn: layout, sample, channels."""

from __future__ import annotations

from typing import Any, Final, Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from .._exceptions import LayoutError
from .._layout import Layout, map_layout

Channel: TypeAlias = Literal["mean", "max", "norm"] | int
LayoutName: TypeAlias = str | None

_MOST_OFF: Final = 2  # how far the proportions of a map may be from those of its image


class ByLayer(Protocol):
    """Features by layer: a `Features`, or a dict."""

    def items(self) -> Any:
        """Returns pairs of name and feature."""


def maps_of(feat: Any, layout: LayoutName = None, image_size: tuple[int, int] | None = None) -> Tensor:
    """Returns a feature as maps `[N, C, H, W]`: a view.

    Args:
        feat: `[N, C, H, W]`, or another order of these dimensions.
        layout: The order, such as `"NHWC"`; None: the one that the shape allows.
        image_size: Height and width of the image, where they are known: maps have its proportions.

    Raises:
        ValueError: If it is no tensor of four dimensions, or empty.
        LayoutError: If its order is not known, or it is no map of the image.
    """
    if not isinstance(feat, Tensor) or not feat.numel():
        shape = list(feat.shape) if isinstance(feat, Tensor) else f"a {type(feat).__name__}"
        raise ValueError(f"a feature map is [N, C, H, W] and not empty; this is {shape}")
    if layout is not None:
        known = Layout.parse(layout)
        known.check(feat)
        made = known.channels_first(feat) if known.batch is not None else known.channels_first(feat)[None]
    elif feat.ndim == 4:
        made = map_layout(feat.shape, image_size).channels_first(feat)
    else:
        raise LayoutError(
            f"a feature map is [N, C, H, W], and this is {list(feat.shape)}",
            shape=tuple(feat.shape),
            hint="Tokens [N, T, C] are made maps by tokens_to_map(feat, image_size=...); one map [C, H, W] needs "
            "layout='CHW'.",
        )
    if made.ndim != 4:
        raise LayoutError(f"a feature map has two dimensions of positions, and {layout!r} has not")
    _check_proportions(made, image_size)
    return made


def _check_proportions(maps: Tensor, image_size: tuple[int, int] | None) -> None:
    """Refuses what is no map, such as heads × tokens: it would be stretched over the image all the same."""
    if image_size is None:
        return
    (height, width), (rows, columns) = maps.shape[-2:], image_size
    off = (height * columns) / (width * rows)
    if not 1 / _MOST_OFF <= off <= _MOST_OFF:
        raise LayoutError(
            f"{height} × {width} positions are no map of an image of {rows} × {columns} pixels",
            shape=tuple(maps.shape),
            hint="Heads × tokens, or regions of interest, cannot be drawn over the image.",
        )


def grid_of(
    feat: Any,
    channel: Channel = "mean",
    sample: int = 0,
    layout: LayoutName = None,
    image_size: tuple[int, int] | None = None,
) -> Tensor:
    """Returns the `[H, W]` map of one sample, in float32 on the host.

    Raises:
        ValueError: If it is no map, or there is no such way to reduce channels.
        LayoutError: If the order of its dimensions is not known.
        IndexError: If there is no such sample or channel.
    """
    if isinstance(feat, Tensor) and feat.ndim == 2 and feat.numel():
        return feat.detach().to("cpu", torch.float32)
    maps = maps_of(feat, layout, image_size).detach()
    values = pick(maps, sample, "sample").to("cpu", torch.float32)
    if isinstance(channel, int):
        return pick(values, channel, "channel")
    if channel == "mean":
        return values.mean(0)
    if channel == "max":
        return values.amax(0)
    if channel == "norm":
        return values.square().sum(0).sqrt()
    raise ValueError(f"channel is 'mean', 'max', 'norm' or a number, not {channel!r}")


def pick(values: Tensor, number: int, kind: str) -> Tensor:
    """Returns the part of a tensor at a position of its first dimension.

    Raises:
        IndexError: If there is none.
    """
    if not -len(values) <= number < len(values):
        raise IndexError(f"there is no {kind} {number}: the {len(values)} {kind}s are 0 to {len(values) - 1}")
    return values[number]


def describe_channels(feat: Tensor, channel: Channel, layout: LayoutName, image_size: tuple[int, int] | None) -> str:
    """Describes how channels were reduced, for a colour bar; empty for a map without channels."""
    if feat.ndim == 2:
        return ""
    count = maps_of(feat, layout, image_size).shape[1]
    return f"channel {channel} of {count}" if isinstance(channel, int) else f"{channel} of {count} channels"


def channels_first(feat: Any, layout: LayoutName = None) -> Tensor:
    """Returns a feature as `[N, C, *positions]`: vectors `[N, C]`, maps, or whatever a layout is given for.

    Raises:
        ValueError: If it is no tensor, or has no channels.
        LayoutError: If the order of its dimensions is not known.
    """
    if not isinstance(feat, Tensor) or feat.ndim < 2 or not feat.numel():
        shape = list(feat.shape) if isinstance(feat, Tensor) else f"a {type(feat).__name__}"
        raise ValueError(f"a feature with channels is [N, C, *positions] and not empty; this is {shape}")
    if layout is not None:
        return Layout.parse(layout).channels_first(feat)
    if feat.ndim == 2:
        return feat
    if feat.ndim == 4:
        return map_layout(feat.shape).channels_first(feat)
    raise LayoutError(
        f"which dimension of this feature {list(feat.shape)} holds the channels is not known", shape=tuple(feat.shape)
    )
