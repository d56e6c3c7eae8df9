"""Tables that print in a terminal, with rich, and in a notebook."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from html import escape
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from ._exceptions import FeatureNotFoundError
from ._optional import need

Row = TypeVar("Row")

_MARGIN = 3  # characters between cells


class Table(Sequence[Row], Generic[Row]):
    """Rows, which are dataclasses. A row can be indexed by its position or its name."""

    _columns: ClassVar[tuple[str, ...]]
    _importance: ClassVar[tuple[str, ...]]  # of columns, where not all fit
    _numbers: ClassVar[tuple[str, ...]]  # columns that are aligned at the right
    _folded: ClassVar[tuple[str, ...]]  # columns that are wrapped: a shortened path could not be used as an address

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = tuple(rows)

    @abstractmethod
    def _name(self, row: Row) -> str:
        """Returns the name of a row."""

    @abstractmethod
    def _cells(self, row: Row) -> tuple[str, ...]:
        """Returns the text of a row for each column."""

    def _remarks(self) -> list[str]:
        """Returns the lines below the table. Default: none."""
        return []

    def _with(self, rows: Iterable[Row]) -> Self:
        """Returns a table of other rows."""
        return type(self)(rows)

    @overload
    def __getitem__(self, key: int | str) -> Row: ...
    @overload
    def __getitem__(self, key: slice) -> Self: ...
    def __getitem__(self, key: int | str | slice) -> Row | Self:
        """Returns the row at a position or of a name, or the table of a slice.

        Raises:
            FeatureNotFoundError: If there is no row of this name.
            IndexError: If there is no such position.
        """
        if isinstance(key, slice):
            return self._with(self._rows[key])
        if isinstance(key, int):
            return self._rows[key]
        for row in self._rows:
            if self._name(row) == key:
                return row
        raise FeatureNotFoundError(key, [self._name(row) for row in self._rows])

    def __len__(self) -> int:
        return len(self._rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns a dict for each row, with the attributes of the row as keys, as data frames accept them."""
        return [asdict(row) for row in self._rows]  # type: ignore[call-overload]

    def __str__(self) -> str:
        cells = self._all_cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)
        return "\n".join([*lines, *self._remarks()])

    def __repr__(self) -> str:
        return str(self)

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        """Yields a table for rich: with the columns that fit the width, and complete paths."""
        shown = self._fitting(options.max_width)
        table = need("rich.table", "cli").Table(box=need("rich.box", "cli").SIMPLE)
        for column in shown:
            overflow = "fold" if column in self._folded else "ellipsis"
            justify = "right" if column in self._numbers else "left"
            table.add_column(column, overflow=overflow, no_wrap=overflow != "fold", justify=justify)
        for row in self._rows:
            cells = dict(zip(self._columns, self._cells(row), strict=True))
            table.add_row(*(cells[column].replace("[", "\\[") for column in shown))
        yield table
        if left_out := [column for column in self._columns if column not in shown]:
            yield f"Columns that do not fit: {', '.join(left_out)}."
        yield from (each.replace("[", "\\[") for each in self._remarks())

    def _all_cells(self) -> list[tuple[str, ...]]:
        return [self._columns, *(self._cells(row) for row in self._rows)]

    def _fitting(self, width: int) -> list[str]:
        """Returns the columns that fit a width, chosen by importance, in their order."""
        columns = zip(*self._all_cells(), strict=True)
        widths = dict(zip(self._columns, (max(map(len, column)) for column in columns), strict=True))
        free, shown = width - _MARGIN, [self._importance[0]]
        for column in self._importance:
            free -= widths[column] + _MARGIN
            if free >= 0 and column not in shown:
                shown.append(column)
        return [column for column in self._columns if column in shown]

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{column}</th>' for column in self._columns)
        lines = ("".join(f"<td>{escape(cell)}</td>" for cell in self._cells(row)) for row in self._rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        remarks = "".join(f"<p>{escape(each)}</p>" for each in self._remarks())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remarks}"
