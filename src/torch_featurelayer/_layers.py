"""`layers`: the table of all layers in one forward pass of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, overload

from torch import nn

from ._exceptions import FeatureNotFoundError
from ._optional import need
from .address import check_model
from .engine import profile_model

__all__ = ["LayerRow", "LayerTable", "layers"]

_COLUMNS = ("path", "type", "calls", "output", "dtype", "operations", "parameters", "time")
_IMPORTANCE = ("path", "output", "type", "operations", "calls", "parameters", "time", "dtype")
_MARGIN = 3  # characters between cells


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer in one forward pass.

    Attributes:
        path: The path of the layer; `""` for the model.
        type: The name of its class.
        calls: The number of its calls; 0 if it did not run.
        output: The structure of the output of its last call, with the shapes of tensors.
        dtypes: The dtypes of the tensors in that output.
        operations: The number of times that each functional operation ran directly inside it, over all calls.
        parameters: The number of values in its parameters, including those of the layers inside.
        seconds: The duration of its calls in seconds, including the layers inside.
        share: The duration divided by that of the forward pass, from 0 to 1.
    """

    path: str
    type: str
    calls: int
    output: str
    dtypes: tuple[str, ...]
    operations: dict[str, int]
    parameters: int
    seconds: float
    share: float

    def cells(self) -> tuple[str, ...]:
        """Returns the text of this row for each column."""
        operations = ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in self.operations.items())
        dtypes, time = ", ".join(self.dtypes), f"{self.share:.1%}" if self.calls else ""
        return self.path, self.type, str(self.calls), self.output, dtypes, operations, f"{self.parameters:,}", time


class LayerTable(Sequence[LayerRow]):
    """Rows in the order of definition, which print as a table in a terminal, with rich, and in a notebook.

    A row can be indexed by its position or its path.
    """

    def __init__(self, rows: Iterable[LayerRow]) -> None:
        self._rows = tuple(rows)

    @overload
    def __getitem__(self, key: int | str) -> LayerRow: ...
    @overload
    def __getitem__(self, key: slice) -> LayerTable: ...
    def __getitem__(self, key: int | str | slice) -> LayerRow | LayerTable:
        """Returns the row at a position or of a path, or the table of a slice.

        Raises:
            FeatureNotFoundError: If there is no layer of this path.
            IndexError: If there is no such position.
        """
        if isinstance(key, slice):
            return LayerTable(self._rows[key])
        if isinstance(key, int):
            return self._rows[key]
        for row in self._rows:
            if row.path == key:
                return row
        raise FeatureNotFoundError(key, [row.path for row in self._rows])

    def __len__(self) -> int:
        return len(self._rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns a dict for each row, with the attributes of `LayerRow` as keys, as data frames accept them."""
        return [asdict(row) for row in self._rows]

    def __str__(self) -> str:
        cells = [_COLUMNS, *(row.cells() for row in self._rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)

    __repr__ = __str__

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        """Yields a table for rich: with the columns that fit the width, and complete paths."""
        shown = self._fitting(options.max_width)
        table = need("rich.table", "cli").Table(box=need("rich.box", "cli").SIMPLE)
        for column in shown:
            is_number = column in ("calls", "parameters", "time")
            # A shortened path could not be used as an address, so paths are folded and other cells are not wrapped.
            overflow = "fold" if column in ("path", "operations") else "ellipsis"
            table.add_column(
                column, overflow=overflow, no_wrap=overflow != "fold", justify="right" if is_number else "left"
            )
        for row in self._rows:
            cells = dict(zip(_COLUMNS, row.cells(), strict=True))
            table.add_row(*(cells[column].replace("[", "\\[") for column in shown))
        yield table
        if left_out := [column for column in _COLUMNS if column not in shown]:
            yield f"Columns that do not fit: {', '.join(left_out)}."

    def _fitting(self, width: int) -> list[str]:
        """Returns the columns that fit a width, chosen by importance, in their order."""
        cells = [_COLUMNS, *(row.cells() for row in self._rows)]
        widths = dict(zip(_COLUMNS, (max(map(len, column)) for column in zip(*cells, strict=True)), strict=True))
        free = width - _MARGIN
        shown = ["path"]
        for column in _IMPORTANCE:
            free -= widths[column] + _MARGIN
            if free >= 0 and column != "path":
                shown.append(column)
        return [column for column in _COLUMNS if column in shown]

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
        lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row.cells()) for row in self._rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def layers(model: nn.Module, *args: Any, **kwargs: Any) -> LayerTable:
    """Runs a model once and returns the table of its layers.

    Args:
        model: The model, any `nn.Module`. It runs in its present mode.
        *args: The positional arguments of the model.
        **kwargs: The keyword arguments of the model.

    Returns:
        A table with a row for each path, the model (`""`) first; a layer under two names has two rows.

    Raises:
        NotAModuleError: If the model is not an `nn.Module`.

    Examples:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
        >>> table = layers(model, torch.ones(1, 4))
        >>> [(row.path, row.type, row.output, row.operations) for row in table[1:]]
        [('0', 'Linear', '[1, 3]', {'linear': 1}), ('1', 'ReLU', '[1, 3]', {'relu': 1})]
    """
    seen = profile_model(check_model(model), args, kwargs)
    whole = seen[id(model)].seconds
    return LayerTable(
        LayerRow(
            path,
            type(module).__name__,
            (entry := seen[id(module)]).calls,
            entry.output,
            entry.dtypes,
            dict(entry.operations),
            sum(parameter.numel() for parameter in module.parameters()),
            entry.seconds,
            entry.seconds / whole if whole else 0.0,
        )
        for path, module in model.named_modules(remove_duplicate=False)
    )
