"""Statistics of the channels of one layer, accumulated over batches in constant memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import torch
from torch import Tensor

from .._exceptions import LayoutError

# Buckets of quantiles, as in HdrHistogram (Tene): 32 equal parts of each power of two, so that the middle of a bucket
# is within 1 / 64 of each value in it. They are the upper bits of a float32, which makes them fast; they add up in any
# order, and their number is fixed by the range of magnitudes: 2**-20 to 2**20 of the first values of a channel that are
# not zero, and higher if larger ones follow.
_PARTS: Final = 5  # bits
_SHIFT: Final = 23 - _PARTS  # of the 23 bits of a float32 after the first
_LOWEST, _HIGHEST = -20, 20
_BASE: Final = (127 + _LOWEST) << _PARTS
_SIDE: Final = (_HIGHEST - _LOWEST) << _PARTS  # buckets of one sign
BUCKETS: Final = 2 * _SIDE + 1  # and one for zero in the middle
_EXPONENTS: Final = (-126 - _LOWEST, 127 - _HIGHEST)  # with which all buckets are normal float32
_ROOM: Final = 10  # powers of two above the largest value, after the range has moved

ACCURACY: Final = 1 / 64
"""The relative error of quantiles."""

_BLOCK: Final = 1 << 22  # values that are added to the state at once, which bounds the memory
_CHUNK: Final = 1 << 17  # values that are computed with at once: all copies of them are in the processor's cache


class ChannelAccumulator:
    """The state of one layer: all that its statistics are computed from.

    Args:
        channels: The number of channels.
        top: The number of items to keep for each channel.
        covariance: Whether the covariance of channels is accumulated. Default: False.

    Attributes:
        state: The tensors of the state by name, which can be written to a file and read back.
    """

    def __init__(self, channels: int, top: int, *, covariance: bool = False) -> None:
        self.state: dict[str, Tensor] = {
            **{name: torch.zeros(channels, dtype=torch.float64) for name in ("mean", "second", "third", "fourth")},
            **{name: torch.zeros(channels, dtype=torch.int64) for name in ("count", "zeros", "nonfinite")},
            "min": torch.full((channels,), math.inf, dtype=torch.float64),
            "max": torch.full((channels,), -math.inf, dtype=torch.float64),
            "buckets": torch.zeros(channels, BUCKETS, dtype=torch.int64),
            "exponent": torch.zeros(channels, dtype=torch.int64),  # of the middle of the range of buckets
            "top_values": torch.full((channels, top), -math.inf),
            "top_items": torch.full((channels, top), -1, dtype=torch.int64),
        }
        if covariance:
            self.state["products"] = torch.zeros(channels, channels, dtype=torch.float64)

    @classmethod
    def restore(cls, state: Mapping[str, Tensor]) -> ChannelAccumulator:
        """Returns the accumulator of a state that was written to a file."""
        found = cls.__new__(cls)
        found.state = {"exponent": torch.zeros_like(state["count"]), **state}  # files of 0.2 have none
        return found

    def add(self, rows: Tensor, counts: Sequence[int], items: Sequence[int]) -> None:
        """Adds the values of some items.

        Args:
            rows: The values `[positions, C]` of all items, one after the other.
            counts: The number of positions of each item.
            items: The number of each item in the dataset.
        """
        values = rows.detach().cpu()
        if values.dtype is not torch.float64:
            values = values.float()
        if not len(values):
            return
        self._add_top(values, counts, items)
        for part in _split(values, _BLOCK):
            self._add_block(_Block.of(part))

    def _add_block(self, block: _Block) -> None:
        state = self.state
        _fit_range(state, block)
        block.add_to(state["buckets"], state["exponent"])
        state["zeros"] += block.zeros()
        state["nonfinite"] += block.left_out
        state["min"] = torch.minimum(state["min"], block.lower)
        state["max"] = torch.maximum(state["max"], block.upper)
        moments = block.moments()
        if "products" in state:
            self._add_products(block, moments[0])
        _merge_moments(state, block.count, moments)

    def _add_products(self, block: _Block, mean: Tensor) -> None:
        """Adds products of deviations; a value that is not finite counts as the mean of its channel."""
        n, m = self.state["count"].double(), block.count.double()
        delta = torch.where(m > 0, mean - self.state["mean"], 0.0) * (n * m / (n + m).clamp(min=1)).sqrt()
        off = block.values.double() - mean
        off = off if block.finite is None else off.where(block.finite, 0.0)
        self.state["products"] += off.T @ off + torch.outer(delta, delta)

    def _add_top(self, values: Tensor, counts: Sequence[int], items: Sequence[int]) -> None:
        """Keeps the items with the largest values of each channel; of equal ones, those that came first."""
        if len(set(counts)) == 1:
            best = values.view(len(counts), -1, values.shape[1]).amax(1).T
        else:
            parts = values.split(list(counts))  # type: ignore[no-untyped-call]
            best = torch.stack([part.amax(0) for part in parts if len(part)], 1)
        best = best.nan_to_num(-math.inf, -math.inf, -math.inf).float()
        own = torch.tensor([item for item, count in zip(items, counts, strict=True) if count])
        all_values = torch.cat([self.state["top_values"], best], 1)
        all_items = torch.cat([self.state["top_items"], own.expand(len(best), -1)], 1)
        top = self.state["top_values"].shape[1]
        order = all_values.argsort(dim=1, descending=True, stable=True)[:, :top]
        self.state["top_values"] = all_values.gather(1, order)
        self.state["top_items"] = all_items.gather(1, order)


@dataclass(frozen=True)
class _Block:
    """Some values of all channels, and what is known of each channel `[C]`.

    Attributes:
        values: The values `[positions, C]`; zero in the place of those that are not finite.
        finite: Which of them are finite; None if all are.
        count: The number of those that are.
        lower: The smallest of them; infinity if there are none.
        upper: The largest; minus infinity if there are none.
        center: A value near to their mean.
        scale: A power of two that makes their magnitudes at most one, so that their powers stay in range.
    """

    values: Tensor
    finite: Tensor | None
    count: Tensor
    lower: Tensor
    upper: Tensor
    center: Tensor
    scale: Tensor

    @classmethod
    def of(cls, values: Tensor) -> _Block:
        """Returns values as a block."""
        found = [(part.amin(0), part.amax(0), part.sum(0)) for part in _split(values, _CHUNK)]
        lowers, uppers, totals = (torch.stack(parts) for parts in zip(*found, strict=True))
        lower, upper, total = lowers.amin(0), uppers.amax(0), totals.sum(0, dtype=torch.float64)
        count, finite = torch.full_like(total, len(values), dtype=torch.int64), None
        if not total.isfinite().all():  # also after a sum that overflows, which costs time alone
            finite = values.isfinite()
            lower, upper = values.where(finite, math.inf).amin(0), values.where(finite, -math.inf).amax(0)
            values = values.where(finite, 0.0)
            count, total = finite.sum(0), values.sum(0, dtype=torch.float64)
        mean = (total / count.clamp(min=1)).to(values.dtype)
        center = torch.where(count > 0, mean.clamp(lower, upper), 0.0)  # of a constant channel, exactly its value
        largest = torch.maximum(lower.abs(), upper.abs()).where(count > 0, 1.0)
        scale = torch.ldexp(torch.ones_like(largest), -largest.frexp().exponent.clamp(-126, 128))
        return cls(values, finite, count, lower, upper, center, scale)

    def moments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the mean of each channel, and the sums of the second to fourth power of the deviations from it."""
        first, second, third, fourth = self._sums()
        step, scale = first / self.count.clamp(min=1), self.scale.double()
        return (
            self.center + step / scale,
            (second - step * first) / scale**2,
            (third - 3 * step * second + 2 * step**2 * first) / scale**3,
            (fourth - 4 * step * third + 6 * step**2 * second - 3 * step**3 * first) / scale**4,
        )

    def _sums(self) -> Tensor:
        """Returns the sums of the first four powers `[4, C]` of the scaled deviations from the center.

        They are so near to the mean that float32 keeps their digits.
        """
        found = torch.zeros(4, len(self.scale), dtype=torch.float64)
        center = self.center * self.scale
        finite = [None] if self.finite is None else _split(self.finite, _CHUNK)
        for part, mask in zip_longest(_split(self.values, _CHUNK), finite):
            off = (part * self.scale).sub_(center)
            if mask is not None:
                off.mul_(mask)
            squares = off * off
            found += torch.stack([off.sum(0), squares.sum(0), off.mul_(squares).sum(0), squares.square_().sum(0)])
        return found

    @property
    def left_out(self) -> Tensor:
        """The number of values that are not finite."""
        return len(self.values) - self.count

    def zeros(self) -> Tensor:
        """Returns the number of zeros of each channel, in int64."""
        parts = _split(self.values, _CHUNK)
        equal = torch.empty_like(parts[0])  # floats, because sums of bools are ten times slower; here they are exact
        found = [torch.eq(part, 0, out=equal[: len(part)]).sum(0) for part in parts]
        return torch.stack(found).long().sum(0) - self.left_out

    def add_to(self, buckets: Tensor, exponent: Tensor) -> None:
        """Adds the number of values in each bucket to the numbers `[C, BUCKETS]`, of ranges around `exponent`."""
        some, base = self.count > 0, _base(exponent)
        ends = self.lower.where(some, 0.0).clamp(max=0), self.upper.where(some, 0.0).clamp(min=0)
        levels = _level(torch.stack(ends), base)
        first, last = int(levels[0].min()), int(levels[1].max())
        used = buckets[:, _SIDE + first : _SIDE + last + 1]  # no value is in another one
        if self.values.numel() < used.numel() // 8:  # a table of counts would cost more than the values
            place = self._places(BUCKETS, _SIDE, base).long()
            buckets.view(-1).scatter_add_(0, place, place.new_ones(()).expand_as(place))
        else:
            places = self._places(used.shape[1], -first, base)
            used += torch.bincount(places, minlength=used.numel()).view_as(used)
        buckets[:, _SIDE] -= self.left_out  # they were replaced by zero

    def _places(self, width: int, zero: int, base: Tensor) -> Tensor:
        """Returns where each value is in a table of buckets `[C, width]`, whose number `zero` is that of zero."""
        start = torch.arange(len(self.count), dtype=torch.int32) * width + zero
        found = torch.empty(self.values.shape, dtype=torch.int32)
        for part, out in zip(_split(self.values, _CHUNK), _split(found, _CHUNK), strict=True):
            torch.add(_level(part, base), start, out=out)
        return found.view(-1)


def _split(values: Tensor, size: int) -> tuple[Tensor, ...]:
    """Returns rows `[positions, C]` in parts of about this many values."""
    return values.split(max(1, size // values.shape[1]))  # type: ignore[no-any-return, no-untyped-call]


def channels_last(layer: str, rows: Tensor, layout: str | None) -> tuple[Tensor, int]:
    """Returns the values `[positions, C]` of a feature `[N, ...]`, and the number of positions of a row.

    Args:
        layer: The address of the layer.
        rows: The feature; its items are in the first dimension, wherever the layout of the model has them.
        layout: The layout of the model's feature; not needed for `[N]` and `[N, C]`.

    Raises:
        LayoutError: If the dimension of the channels is unknown.
    """
    if rows.ndim <= 2:
        return rows.reshape(len(rows), -1), 1
    if layout is None or len(layout) != rows.ndim:
        raise LayoutError("the dimension of the channels is unknown", layer, shape=tuple(rows.shape))
    values = rows.movedim(1 + layout.replace("N", "").index("C"), -1)
    return values.reshape(-1, values.shape[-1]), math.prod(values.shape[1:-1])


def _merge_moments(state: dict[str, Tensor], count: Tensor, moments: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """Adds the central moments of a part (Pébay 2008, SAND2008-6212)."""
    n, m = state["count"].double(), count.double()
    total = (n + m).clamp(min=1)
    mean, second, third, fourth = moments
    delta = torch.where(count > 0, mean - state["mean"], 0.0)
    step = delta / total
    state["fourth"] += (
        fourth
        + delta * step**3 * n * m * (n * n - n * m + m * m)
        + 6 * step**2 * (n * n * second + m * m * state["second"])
        + 4 * step * (n * third - m * state["third"])
    )
    state["third"] += third + delta * step**2 * n * m * (n - m) + 3 * step * (n * second - m * state["second"])
    state["second"] += second + delta * step * n * m
    state["mean"] += step * m
    state["count"] += count


def _fit_range(state: dict[str, Tensor], block: _Block) -> None:
    """Moves the range of the buckets of each channel to the values that a block adds."""
    some, seen = block.count > 0, torch.maximum(state["min"].abs(), state["max"].abs()).where(state["count"] > 0, 0.0)
    largest = torch.maximum(block.lower.abs(), block.upper.abs()).where(some, 0.0)
    needed, before = largest.frexp().exponent.long(), state["exponent"]
    is_new = (largest > 0) & (seen == 0)
    is_outside = (largest > 0) & (seen > 0) & (needed > before + _HIGHEST)
    after = torch.where(is_outside, needed - _ROOM, torch.where(is_new, needed - 1, before)).clamp(*_EXPONENTS)
    if is_outside.any():
        state["buckets"] = _move(state["buckets"], (after - before).where(is_outside, 0))
    state["exponent"] = after


def _move(buckets: Tensor, powers: Tensor) -> Tensor:
    """Returns buckets of a range that is so many powers of two higher; those that are below it become zero."""
    number = torch.arange(-_SIDE, _SIDE + 1)
    moved = (number.abs() - (powers << _PARTS).unsqueeze(1)).clamp(min=0) * number.sign()
    return torch.zeros_like(buckets).scatter_add_(1, moved + _SIDE, buckets)


def quantile(state: Mapping[str, Tensor], share: float) -> Tensor:
    """Returns the quantile of each channel `[C]`, within the relative error `ACCURACY`; NaN without values."""
    totals = state["buckets"].cumsum(1)
    count = totals[:, -1]
    rank = (share * (count - 1).clamp(min=0).double()).floor().long()
    place = torch.searchsorted(totals, rank.unsqueeze(1), right=True).squeeze(1).clamp(max=BUCKETS - 1)
    low, high = _edges(place, state["exponent"])
    middle = (low + high) / 2
    bounded = torch.minimum(torch.maximum(middle, state["min"]), state["max"])
    return torch.where(count > 0, bounded, math.nan)


def histogram(state: Mapping[str, Tensor], bins: int) -> tuple[Tensor, Tensor]:
    """Returns the counts `[C, bins]` in equal bins from the smallest to the largest value, and the edges.

    The values of a bucket are spread evenly over it, as far as it is between the smallest and the largest value.
    """
    finite = (state["count"] > 0).unsqueeze(1)
    low = torch.where(finite, state["min"].unsqueeze(1), 0.0)
    high = torch.where(finite, state["max"].unsqueeze(1), 0.0)
    edges = torch.lerp(low, high, torch.linspace(0, 1, bins + 1, dtype=torch.float64))  # exact at both ends
    exponent = state["exponent"].unsqueeze(1)
    place = _level(edges, _base(exponent)).add_(_SIDE).long()
    start, end = (torch.minimum(torch.maximum(side, low), high) for side in _edges(place, exponent))
    share = torch.where(end > start, (edges - start) / (end - start), 1.0).clamp(0, 1)
    found = state["buckets"].double()
    below = (found.cumsum(1) - found).gather(1, place) + share * found.gather(1, place)
    below[:, :1], below[:, -1:] = 0.0, found.sum(1, keepdim=True)
    return below.diff(dim=1), edges


def _base(exponent: Tensor) -> Tensor:
    """Returns the upper bits of the largest float32 that counts as zero."""
    return (_BASE - 1 + (exponent << _PARTS)).int()


def _level(values: Tensor, base: Tensor) -> Tensor:
    """Returns the number of the bucket of each value, counted from that of zero."""
    bits = values.float().contiguous().view(torch.int32)
    level = (bits & 0x7FFFFFFF).bitwise_right_shift_(_SHIFT).sub_(base).clamp_(0, _SIDE)
    sign = bits >> 31  # -1 for negative values: `(level ^ -1) + 1` is `-level`, ten times faster than a `where`
    return level.bitwise_xor_(sign).sub_(sign)


def _edges(place: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the smallest and the largest value of buckets; both are zero for the bucket of zero."""
    number, base = place - _SIDE, _base(exponent)
    near, far = (((number.abs() + base + end) << _SHIFT).int().view(torch.float32).double() for end in (0, 1))
    near, far = (torch.where(number == 0, 0.0, side * number.sign()) for side in (near, far))
    return torch.minimum(near, far), torch.maximum(near, far)
