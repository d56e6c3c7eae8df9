"""Sources: items of a dataset with their ids, in an order that does not change."""

from __future__ import annotations

from .columns import Columns
from .detect import make_source
from .source import IterableSource, MapSource

__all__ = ["Columns", "IterableSource", "MapSource", "make_source"]
