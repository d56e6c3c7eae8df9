"""Finds the layer where something goes wrong."""

from ._diff import diff, record_run
from ._diff_table import DiffRow, DiffTable
from ._guard import guard

__all__ = ["DiffRow", "DiffTable", "diff", "guard", "record_run"]
