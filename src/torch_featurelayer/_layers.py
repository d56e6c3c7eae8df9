"""The table of everything that can be addressed in one run of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer in one run.

    Attributes:
        path: Its path; `""` is the model.
        type: The name of its class.
        calls: How often it was called; 0 where it did not run.
        output: The structure of what its last call returned, with the shapes of tensors.
        dtypes: Of the tensors in it.
        operations: How often each functional operation ran directly inside it, over all calls.
        parameters: How many numbers its parameters hold, those of the layers inside included.
        seconds: How long its calls took, layers inside included.
        share: That, over the time of the whole run, from 0 to 1.
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
        """Returns the texts of this row, one for each column."""
        operations = ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in self.operations.items())
        dtypes, time = ", ".join(self.dtypes), f"{self.share:.1%}" if self.calls else ""
        return self.path, self.type, str(self.calls), self.output, dtypes, operations, f"{self.parameters:,}", time


class LayerTable(Sequence[LayerRow]):
    """Rows in the order of definition; prints as a table in a terminal, with rich, and in a notebook.

    A row is found by its position or its path.
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
            FeatureNotFoundError: There is no layer of that path.
            IndexError: There is no such position.
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
        """Returns one dict a row, keyed as `LayerRow`: what a data frame takes."""
        return [asdict(row) for row in self._rows]

    def __str__(self) -> str:
        cells = [_COLUMNS, *(row.cells() for row in self._rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)

    __repr__ = __str__

    def __rich__(self) -> Any:
        """Returns a table for rich's `print`."""
        table = need("rich.table", "demo").Table(box=need("rich.box", "demo").SIMPLE)
        for column in _COLUMNS:
            numbers = column in ("calls", "parameters", "time")
            whole = numbers or column in ("path", "output")
            table.add_column(column, overflow="fold", no_wrap=whole, justify="right" if numbers else "left")
        for row in self._rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row.cells()))
        return table

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
        lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row.cells()) for row in self._rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def layers(model: nn.Module, *args: Any, **kwargs: Any) -> LayerTable:
    """Runs a model once, and returns the table of its layers.

    Args:
        model: Any `nn.Module`; it runs in the mode it is in.
        *args: What the model is called with.
        **kwargs: What the model is called with.

    Returns:
        A row for each path, the model (`""`) first; a layer under two names has a row for each.

    Raises:
        NotAModuleError: `model` is not an `nn.Module`.

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
