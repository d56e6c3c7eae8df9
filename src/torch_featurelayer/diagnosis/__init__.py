"""Finds the layer where something goes wrong."""

from ._diff import diff, record_run
from ._diff_table import DiffRow, DiffTable
from ._guard import guard
from ._layer_statistics import LayerStatistics, Statistics
from ._rows import row_statistics
from ._statistics import open_statistics, statistics

__all__ = [
    "DiffRow",
    "DiffTable",
    "LayerStatistics",
    "Statistics",
    "diff",
    "guard",
    "open_statistics",
    "record_run",
    "row_statistics",
    "statistics",
]
