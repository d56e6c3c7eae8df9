"""Layouts: which dimensions of a feature hold items, channels and positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ._exceptions import LayoutError


@dataclass(frozen=True, slots=True)
class Layout:
    """The meaning of the dimensions of a tensor.

    Attributes:
        channel: The dimension of the channels.
        batch: The dimension of the items; None for a tensor of one item without that dimension.
        ndim: The number of dimensions. All other dimensions are positions.

    Examples:
        >>> Layout.parse("NHWC")
        Layout(channel=3, batch=0, ndim=4)
        >>> str(Layout(channel=1, batch=0, ndim=3))
        'NCT'
    """

    channel: int
    batch: int | None
    ndim: int

    @classmethod
    def parse(cls, text: str) -> Layout:
        """Parses a layout: N for items, C for channels, any other letter for a dimension of positions.

        Raises:
            LayoutError: If the text has not exactly one C, or has a letter twice.
        """
        letters = text.upper() if isinstance(text, str) else ""
        if not letters.isalpha() or letters.count("C") != 1 or len(set(letters)) != len(letters):
            raise LayoutError(
                f"{text!r} is not a layout",
                hint="Give one letter for each dimension: N for items, C for channels, and other letters for "
                "positions, such as 'NCHW', 'NHWC', 'NTC', 'NCT' or 'TNC'.",
            )
        return cls(letters.index("C"), letters.index("N") if "N" in letters else None, len(letters))

    @property
    def positions(self) -> tuple[int, ...]:
        """The dimensions of the positions, in order."""
        return tuple(dim for dim in range(self.ndim) if dim not in (self.channel, self.batch))

    def __str__(self) -> str:
        count = len(self.positions)
        names = iter({1: "T", 2: "HW", 3: "THW"}.get(count, "ABDEFG"[:count]))
        return "".join(
            "C" if dim == self.channel else "N" if dim == self.batch else next(names) for dim in range(self.ndim)
        )

    def check(self, tensor: Tensor) -> None:
        """Checks that a tensor has the number of dimensions of this layout.

        Raises:
            LayoutError: If it has another number of dimensions.
        """
        if tensor.ndim != self.ndim:
            raise LayoutError(
                f"layout {str(self)!r} has {self.ndim} dimensions, but this feature is {list(tensor.shape)}",
                shape=tuple(tensor.shape),
            )

    def channels_first(self, tensor: Tensor) -> Tensor:
        """Returns a view of a tensor as `[N, C, *positions]`, or `[C, *positions]` without items."""
        self.check(tensor)
        front = [self.channel] if self.batch is None else [self.batch, self.channel]
        order = (*front, *self.positions)
        return tensor if order == tuple(range(self.ndim)) else tensor.permute(order)

    def tokens_first(self, tensor: Tensor) -> Tensor:
        """Returns a tensor as `[N, T, C]`, with its positions in one dimension: a view if that is possible.

        N is 1 without items.
        """
        moved = self.channels_first(tensor).flatten(-len(self.positions)).transpose(-1, -2)
        return moved if self.batch is not None else moved.unsqueeze(0)


def layout_for(layout: str | Mapping[str, str] | None, layer: str) -> str | None:
    """Returns the layout of one layer, from one layout for all layers or a dict from layer to layout."""
    return layout.get(layer) if isinstance(layout, Mapping) else layout


def map_layout(shape: Sequence[int], image_size: tuple[int, int] | None = None) -> Layout:
    """Determines the layout of a feature map from its shape, if only one is possible.

    A layout is possible if height and width have the proportions of the image. Without an image, it is possible if
    neither exceeds four times the other; if only one of the layouts has a square map, that one is taken.

    Args:
        shape: The shape of the map: `[N, C, H, W]` or `[N, H, W, C]`.
        image_size: The height and width of the image in pixels. Default: None.

    Raises:
        LayoutError: If both layouts are possible, or neither.
    """
    readings = {"NCHW": (shape[2], shape[3]), "NHWC": (shape[1], shape[2])}
    likely = [name for name, size in readings.items() if _fits(size, image_size)]
    square = [name for name in likely if readings[name][0] == readings[name][1]]
    if image_size is None and len(square) == 1:
        likely = square
    if len(likely) != 1:
        raise LayoutError(
            f"a tensor of shape {list(shape)} may be "
            + " or ".join(f"{name!r} ({height} × {width})" for name, (height, width) in readings.items()),
            shape=tuple(shape),
            readings=tuple(readings),
        )
    return Layout.parse(likely[0])


def _fits(size: tuple[int, int], image_size: tuple[int, int] | None) -> bool:
    """Whether a map of this size can belong to an image: the same proportions, within one position."""
    height, width = size
    if image_size is None:
        return max(size) <= 4 * min(size)
    rows, columns = image_size
    return abs(height * columns - width * rows) <= max(rows, columns)
