"""Pairs the layers of two runs and measures how much their outputs differ."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from difflib import SequenceMatcher
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from .._sharded import whole_tensor
from ._diff_table import DiffRow, DiffTable
from ._runs import LayerCall, Run

Match: TypeAlias = Callable[[str], str | None] | Mapping[str, str] | Literal["order"]

_MOST_NAMED: Final = 5
_PIECE: Final = 1 << 18  # values that are compared at once (benchmarks.diagnosis)
_ROW: Final = 1 << 12  # values whose squares are added in their own dtype


class Comparison:
    """Compares two runs.

    Args:
        first: The first run.
        match: How layers are paired.
    """

    def __init__(self, first: Run, match: Match | None) -> None:
        self._first, self._match = first, match
        self._rows: dict[LayerCall, DiffRow] = {}  # of calls of the first run
        # By the name and call in the second run; there are none in order.
        self._partners: defaultdict[tuple[str | None, int], list[LayerCall]] = defaultdict(list)
        if match != "order":
            rename = _renaming(match)
            for call in first.calls:
                self._partners[rename(call.name), call.call].append(call)

    def add(self, other: LayerCall) -> None:
        """Compares a call of the second run with its partners in the first, and releases the outputs of all.

        Called when each call ends, it lets the second run hold no outputs. Layers must be paired by name: pairs in
        order are known when both runs have ended.
        """
        for one in self._partners.get((other.name, other.call), ()):
            self._rows[one] = _row(one, other)
            one.release()
        other.release()

    def table(self, second: Run, rtol: float) -> DiffTable:
        """Returns the table of both runs; calls that were not added are compared now.

        Raises:
            ValueError: If no layer of one run is paired with one of the other.
        """
        first, is_in_order = self._first, self._match == "order"
        pairs = _in_order(first.calls, second.calls) if is_in_order else self._by_name(second)
        if not pairs:
            names = [", ".join(_listed_names(run.calls)) for run in (first, second)]
            raise ValueError(f"no layer of a ({names[0]}) is a layer of b ({names[1]}): pair them with match=")
        rows = [self._rows.get(one) or _row(one, other) for one, other in pairs]
        paired = [set(side) for side in zip(*pairs, strict=True)]
        left = [
            [_address(call) for call in run.calls if call not in known and (call.is_leaf or not is_in_order)]
            for run, known in zip((first, second), paired, strict=True)
        ]
        return DiffTable(rows, rtol, left[0], left[1], _notes(first, second))

    def _by_name(self, second: Run) -> list[tuple[LayerCall, LayerCall]]:
        """Pairs the calls, in the order of the first run."""
        others = {one: other for other in second.calls for one in self._partners.get((other.name, other.call), ())}
        return [(one, others[one]) for one in self._first.calls if one in others]


def _notes(first: Run, second: Run) -> list[str]:
    notes = list(dict.fromkeys([*first.notes, *second.notes]))
    if first.is_training != second.is_training:
        modes = ["training" if run.is_training else "eval" for run in (first, second)]
        notes.append(f"a ran in {modes[0]} mode and b in {modes[1]} mode")
    elif first.is_training:
        notes.append("both ran in training mode, with the same seeds")
    return notes


def _renaming(match: Any) -> Callable[[str], str | None]:
    if match is None:
        return lambda name: name
    if callable(match):
        return match  # type: ignore[no-any-return]
    if not isinstance(match, Mapping):
        raise TypeError(f"match must be a dict from name to name, a function or 'order', not {match!r}")
    # The longest first, so that a name inside another one has its own.
    known = sorted(match.items(), key=lambda pair: -len(pair[0]))

    def rename(name: str) -> str:
        for old, new in known:
            if name == old or name.startswith(f"{old}."):
                return f"{new}{name[len(old) :]}"
        return name

    return rename


def _in_order(first: list[LayerCall], second: list[LayerCall]) -> list[tuple[LayerCall, LayerCall]]:
    """Pairs leaves: those of one class and shape, then those of one shape between them."""
    one, other = ([call for call in calls if call.is_leaf] for calls in (first, second))
    found, start, begin = [], 0, 0
    for stop, end, size in _blocks(one, other, lambda call: (call.type, *_shapes(call))):
        between, beside = one[start:stop], other[begin:end]
        for place, at, count in _blocks(between, beside, _shapes):
            found += [*zip(between[place : place + count], beside[at : at + count], strict=True)]
        found += [*zip(one[stop : stop + size], other[end : end + size], strict=True)]
        start, begin = stop + size, end + size
    return found


def _blocks(
    one: list[LayerCall], other: list[LayerCall], key: Callable[[LayerCall], tuple[Any, ...]]
) -> list[tuple[int, int, int]]:
    """Returns the starts and the length of the blocks that two sequences share; the last is empty, at their ends."""
    matcher = SequenceMatcher(None, [*map(key, one)], [*map(key, other)], autojunk=False)
    return [(block.a, block.b, block.size) for block in matcher.get_matching_blocks()]


def _shapes(call: LayerCall) -> tuple[Any, ...]:
    return tuple(tuple(output.shape) for output in call.outputs)


def _row(one: LayerCall, other: LayerCall) -> DiffRow:
    shapes, dtypes = ([_outline(call, which) for call in (one, other)] for which in ("shape", "dtype"))
    error, cosine, largest = math.nan, math.nan, math.nan
    where: tuple[int, ...] = ()
    if shapes[0] == shapes[1]:
        error, cosine, largest, where = _measure(one.outputs, other.outputs)
    texts = [tuple(dict.fromkeys(each)) for each in (shapes, dtypes)]
    return DiffRow(
        _address(one), _address(other), one.type, error, cosine, largest, where, texts[0], texts[1], one.is_leaf
    )


class _Sums(NamedTuple):
    """Sums over pairs of values, and the largest difference.

    Attributes:
        off: The sum of the squares of the differences.
        own: The sum of the squares of the first values.
        others: The sum of the squares of the second values.
        largest: The largest absolute difference.
        place: Its position in the flat values.
        is_bad: Whether a NaN or infinite value differs.
    """

    off: float
    own: float
    others: float
    largest: float
    place: int
    is_bad: bool = False


def _measure(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[float, float, float, tuple[int, ...]]:
    """Returns the relative error, the cosine, the largest difference and its index."""
    pairs = [(_real(one), _real(other)) for one, other in zip(first, second, strict=True)]
    sums = [_sum_up(one.flatten(), other.flatten()) for one, other in pairs]
    off, own, others = (sum(column) for column in list(zip(*sums, strict=True))[:3])
    number = max(range(len(sums)), key=lambda place: sums[place].largest)
    largest = sums[number].largest
    where: tuple[int, ...] = ()
    if largest:
        place = torch.tensor(sums[number].place, device="cpu")  # the model may run with another default device
        index = torch.unravel_index(place, pairs[number][0].shape)
        where = ((number,) if len(sums) > 1 else ()) + tuple(map(int, index))
    is_bad = any(each.is_bad for each in sums)
    error = math.inf if is_bad or (off and not own) else math.sqrt(off / own) if off else 0.0
    # The product of both, from the squares of both and of their difference.
    cosine = (own + others - off) / 2 / math.sqrt(own * others) if own and others else float(own == others)
    return error, max(min(cosine, 1.0), -1.0), largest, where


def _sum_up(one: Tensor, other: Tensor) -> _Sums:
    """Compares flat values in pieces that fit a cache: passes over whole outputs cost more than a forward pass."""
    off = own = others = largest = 0.0
    place, is_bad = 0, False
    for start in range(0, len(one), _PIECE):
        first, second = (_wide(each[start : start + _PIECE]) for each in (one, other))
        found = _sum_piece(first, second)
        if not all(map(math.isfinite, found)):
            found = _sum_odd_piece(first, second)
        off, own, others, is_bad = off + found.off, own + found.own, others + found.others, is_bad or found.is_bad
        if found.largest > largest:
            largest, place = found.largest, start + int((second - first).abs().nan_to_num(0, 0, 0).argmax())
    return _Sums(off, own, others, largest, place, is_bad)


def _sum_piece(one: Tensor, other: Tensor) -> _Sums:
    """Returns the sums of finite values; not finite for others, and for squares that do not fit their dtype."""
    if torch.equal(one, other):  # it stops at the first difference
        own = _sum_squares(one)
        return _Sums(0.0, own, own, 0.0, 0)
    change = other - one
    low, high = torch.aminmax(change)
    off, own, others = map(_sum_squares, (change, one, other))
    largest = max(-float(low), float(high))
    # Squares of very small values vanish.
    return _Sums(off, own, others, largest if off or not largest else math.nan, 0)


def _sum_odd_piece(one: Tensor, other: Tensor) -> _Sums:
    same = (one == other) | (one.isnan() & other.isnan())
    is_bad = bool((~same & ~(one.isfinite() & other.isfinite())).any())
    # What is equal differs by nothing, infinite values included.
    one, other = (each.masked_fill(same & ~each.isfinite(), 0).nan_to_num().double() for each in (one, other))
    change = other - one
    off, own, others = (float(each.square().sum()) for each in (change, one, other))
    return _Sums(off, own, others, float(change.abs().max()), 0, is_bad)


def _sum_squares(values: Tensor) -> float:
    """Returns the sum of squares: of rows in the dtype of the values, and of their sums in float64."""
    whole = len(values) - len(values) % _ROW
    rows = [values[:whole].view(-1, _ROW), values[whole:].view(1, -1)]
    return sum(float(torch.linalg.vector_norm(each, dim=1).double().square().sum()) for each in rows if each.numel())


def _real(tensor: Tensor) -> Tensor:
    """Returns real values on the CPU."""
    value = whole_tensor(tensor)
    value = value.dequantize() if value.is_quantized else value
    return (torch.view_as_real(value.resolve_conj()) if value.is_complex() else value).cpu()


def _wide(values: Tensor) -> Tensor:
    """Returns values in float32 or wider."""
    return values.to(torch.float64 if values.dtype in (torch.float64, torch.int64) else torch.float32)


def _outline(call: LayerCall, which: str) -> str:
    texts = [
        str(list(getattr(each, which))) if which == "shape" else str(each.dtype).removeprefix("torch.")
        for each in call.outputs
    ]
    return ", ".join(texts if which == "shape" else dict.fromkeys(texts))


def _address(call: LayerCall) -> str:
    return f"{call.name}@{call.call}" if call.call else call.name


def _listed_names(calls: list[LayerCall]) -> list[str]:
    return [_address(call) or "(the model)" for call in calls[:_MOST_NAMED]]
