"""The columns of a dataset: the one that holds the samples, and those that are kept with each item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from torch import Tensor

from ..._exceptions import DatasetError
from ...store.items import RESERVED
from .reading import to_unicode

_NAMED: Final = "only tables and samples that are dicts have columns by name; pass columns={name: values}"

Columns = Sequence[str] | Mapping[str, Sequence[Any]]


class Entry(NamedTuple):
    """What a dataset holds for an item.

    Attributes:
        sample: The sample.
        columns: The values of its columns by name.
    """

    sample: Any
    columns: Mapping[str, Any] = {}


class Split:
    """Returns the sample and the columns of what a dataset returns; a class, so that worker processes can unpickle it.

    Args:
        column: The key of the sample, if datasets return dicts; several, if the sample is a dict of them.
        columns: The keys of the columns to keep.
        whole: Whether the sample is all that the dataset returns, rather than the first part of a tuple.
    """

    def __init__(self, column: str | None, columns: tuple[str, ...], *, whole: bool) -> None:
        self.column: str | tuple[str, ...] | None = column
        self.columns, self._whole = columns, whole

    def __call__(self, sample: Any) -> Entry:
        """Splits a sample; `sample` is what the dataset returns."""
        if not isinstance(sample, Mapping):
            self.check_unnamed(sample)
            entry = split_label(sample)
        else:
            kept = {name: to_value(_get(sample, name)) for name in self.columns}
            entry = Entry(self._sample(sample), kept)
        return Entry(sample, entry.columns) if self._whole else entry

    def _sample(self, sample: Mapping[str, Any]) -> Any:
        if isinstance(self.column, tuple):
            return {name: _get(sample, name) for name in self.column}
        return sample if self.column is None else _get(sample, self.column)

    def check_unnamed(self, data: Any) -> None:
        """Checks that no column is asked for of data without names.

        Raises:
            DatasetError: If one is.
        """
        if self.column is not None:
            raise DatasetError(f"column {self.column!r} of a {type(data).__name__}", _NAMED)
        if self.columns:
            raise DatasetError(f"columns={list(self.columns)!r} of a {type(data).__name__}", _NAMED)


def check_columns(columns: Columns) -> None:
    """Checks the names of columns.

    Raises:
        DatasetError: If a name is one of those that every store has.
    """
    if isinstance(columns, str):
        raise DatasetError(f"columns={columns!r}", f"pass a list of names: columns=[{columns!r}]")
    if not isinstance(columns, Iterable):
        raise DatasetError(f"columns={columns!r}", "pass a list of names, or a dict from name to values")
    if taken := RESERVED.intersection(columns):
        raise DatasetError(f"a column {min(taken)!r}", "every store has a column of this name; rename yours")


def by_place(values: Any) -> Sequence[Any]:
    """Returns values that are read by their place; the Series of a table that was shuffled or cut has other labels.

    Raises:
        DatasetError: If they are no values of items.
    """
    if not hasattr(values, "__iter__"):
        raise DatasetError(f"the values {values!r} of a column", "pass a value for each item, in a list or array")
    is_by_place = isinstance(values, (Sequence, Tensor)) or hasattr(values, "__array_interface__")
    return values if is_by_place else list(values)


def split_label(sample: Any) -> Entry:
    """Returns a sample and its label, of a dataset whose samples are `(sample, label)`.

    Raises:
        DatasetError: If a further part seems to be the mask of padding, which would be lost.
    """
    if not isinstance(sample, (tuple, list)) or not sample:
        return Entry(sample)
    if any(_is_mask(part, sample[0]) for part in sample[1:]):
        raise DatasetError("token ids with a mask in a tuple", "return {'input_ids': ids, 'attention_mask': mask}")
    has_label = len(sample) == 2 and fits_column(sample[1])
    return Entry(sample[0], {"label": to_value(sample[1])} if has_label else {})


def _is_mask(part: Any, ids: Any) -> bool:
    """Whether a tensor looks like the mask of the padding of token ids `[T]`."""
    if not isinstance(part, Tensor) or not isinstance(ids, Tensor) or part.ndim != 1 or part.shape != ids.shape:
        return False
    if ids.is_floating_point() or part.is_floating_point():
        return False
    values = part.tolist()
    return set(values) == {0, 1} and 1 in (values[0], values[-1])


def fits_column(value: Any) -> bool:
    """Whether a value fits a column: a number, a text, or a list or array of numbers, such as several labels."""
    if hasattr(value, "tolist"):
        return getattr(value, "ndim", 2) <= 1
    return _is_scalar(value) or (isinstance(value, list) and all(map(_is_scalar, value)))


def to_value(value: Any) -> Any:
    """Returns the numbers of an array, text that is valid Unicode, and other values unchanged."""
    if isinstance(value, str):
        return to_unicode(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _get(sample: Mapping[str, Any], name: str) -> Any:
    if name not in sample:
        raise DatasetError(f"column {name!r}", f"the columns are {', '.join(map(repr, sample))}")
    return sample[name]
