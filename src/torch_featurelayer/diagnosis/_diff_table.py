"""The table of `diff`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .._table import Table

_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One call of a layer in both runs.

    Attributes:
        name: The path of the layer in the first run, with the number of its call after the first (`"block@1"`); `""`
            for the model.
        other: The same in the second run.
        type: The name of its class.
        error: The norm of the difference, relative to that of the first output. Infinite if one output has NaN or
            infinite values where the other has not; NaN if shapes differ.
        cosine: The cosine of the angle between the outputs.
        largest: The largest absolute difference.
        where: Its index, after that of the tensor if the layer returns several.
        shapes: The shapes of the first run and of the second, if they differ; otherwise the shape once.
        dtypes: The dtypes, in the same way.
        is_leaf: Whether the layer has no layers inside, or parameters of its own.
    """

    name: str
    other: str
    type: str
    error: float
    cosine: float
    largest: float
    where: tuple[int, ...]
    shapes: tuple[str, ...]
    dtypes: tuple[str, ...]
    is_leaf: bool

    def exceeds(self, rtol: float) -> bool:
        """Whether the error is above a tolerance, or cannot be computed because the shapes differ.

        Args:
            rtol: The relative error.
        """
        return not self.error <= rtol


class DiffTable(Table[DiffRow]):
    """Rows in the order in which the layers of the first run ended: a layer before those around it.

    It prints as a table in a terminal and in a notebook. A row can be indexed by its position or its name.

    Args:
        rows: The rows.
        rtol: The relative error above which a layer differs.
        only_a: The names of calls of the first run alone. Default: none.
        only_b: The names of calls of the second run alone. Default: none.
        notes: What a reader must know, such as different modes. Default: none.

    Attributes:
        rtol: The relative error above which a layer differs.
        only_a: The names of calls of the first run alone.
        only_b: The names of calls of the second run alone.
        notes: What a reader must know.
    """

    _columns = ("layer", "type", "error", "cosine", "largest", "at", "shape", "dtype")
    _importance = ("layer", "error", "cosine", "largest", "type", "at", "dtype", "shape")
    _numbers = ("error", "cosine", "largest")
    _folded = ("layer",)

    def __init__(
        self,
        rows: Iterable[DiffRow],
        rtol: float,
        only_a: Iterable[str] = (),
        only_b: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        super().__init__(rows)
        self.rtol, self.only_a, self.only_b, self.notes = rtol, tuple(only_a), tuple(only_b), tuple(notes)

    def first(self, rtol: float | None = None) -> DiffRow | None:
        """Returns the first row with an error above a tolerance.

        Args:
            rtol: The relative error. Default: None, that of the table.

        Returns:
            The row; None if no error is above the tolerance.
        """
        limit = self.rtol if rtol is None else rtol
        return next((row for row in self if row.exceeds(limit)), None)

    def __iter__(self) -> Iterator[DiffRow]:
        return iter(self._rows)

    def _remarks(self) -> list[str]:
        row = self.first()
        found = f"first above {self.rtol:g}: {_shown(row.name)}" if row else f"no layer above {self.rtol:g}"
        only = [
            f"only in {which}: {_listed(names)}" for which, names in (("a", self.only_a), ("b", self.only_b)) if names
        ]
        return [found, *only, *self.notes]

    def _with(self, rows: Iterable[DiffRow]) -> DiffTable:
        return DiffTable(rows, self.rtol, self.only_a, self.only_b, self.notes)

    def _name(self, row: DiffRow) -> str:
        return row.name

    def _cells(self, row: DiffRow) -> tuple[str, ...]:
        name = _shown(row.name) if row.other == row.name else f"{_shown(row.name)} = {_shown(row.other)}"
        numbers = [f"{row.error:.1e}", f"{row.cosine:.6f}", f"{row.largest:.2g}"]
        return name, row.type, *numbers, str(list(row.where)), " → ".join(row.shapes), " → ".join(row.dtypes)


def _shown(name: str) -> str:
    return name or "(the model)"


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(_shown, names[:_MOST_NAMED])) + more
