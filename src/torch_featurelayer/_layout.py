"""Layouts: which dimension of a feature holds items, channels and positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ._exceptions import LayoutError


@dataclass(frozen=True, slots=True)
class Layout:
    """What the dimensions of a tensor are.

    Attributes:
        channel: The dimension of the channels.
        batch: The dimension of the items; None for a tensor of one item without that dimension.
        ndim: The number of dimensions. All others are positions.

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
        """Reads a layout from letters: N for items, C for channels, any other capital for a dimension of positions.

        Raises:
            LayoutError: If there is not exactly one C, or a letter twice.
        """
        letters = text.upper()
        if not letters.isalpha() or letters.count("C") != 1 or len(set(letters)) != len(letters):
            raise LayoutError(
                f"layout={text!r} is not a layout",
                hint="Write one letter for each dimension: N for items, C for channels, "
                "and other letters for positions, such as 'NCHW', 'NHWC', 'NTC', 'NCT' or 'TNC'.",
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
        """Refuses a tensor of another number of dimensions.

        Raises:
            LayoutError: If it does not fit.
        """
        if tensor.ndim != self.ndim:
            raise LayoutError(
                f"layout {str(self)!r} has {self.ndim} dimensions, and this feature is {list(tensor.shape)}",
                shape=tuple(tensor.shape),
            )

    def channels_first(self, tensor: Tensor) -> Tensor:
        """Returns a view of a tensor as `[N, C, *positions]`, or `[C, *positions]` without items."""
        self.check(tensor)
        front = [self.channel] if self.batch is None else [self.batch, self.channel]
        order = (*front, *self.positions)
        return tensor if order == tuple(range(self.ndim)) else tensor.permute(order)


def layout_for(layout: str | Mapping[str, str] | None, layer: str) -> str | None:
    """Returns the layout of one layer, from one for all or a dict by layer."""
    return layout.get(layer) if isinstance(layout, Mapping) else layout


def map_layout(shape: Sequence[int], image_size: tuple[int, int] | None = None) -> Layout:
    """Finds the layout of a feature map from its shape alone, where only one reading is possible.

    A reading is possible if its height and width have the proportions of the image; without an image, if one is at
    most four times the other, and if the other reading is square, only that one.

    Args:
        shape: The shape of the map: `[N, C, H, W]` or `[N, H, W, C]`.
        image_size: Height and width of the image, in pixels.

    Raises:
        LayoutError: If both readings are possible, or neither.
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
    """Whether a map of some size can be one of an image: the same proportions, but for a position more or less."""
    height, width = size
    if image_size is None:
        return max(size) <= 4 * min(size)
    rows, columns = image_size
    return abs(height * columns - width * rows) <= max(rows, columns)
