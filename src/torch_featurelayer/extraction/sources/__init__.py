"""Sources: items of a dataset with their ids, in an order that does not change."""

from __future__ import annotations

from .detect import make_source
from .source import IterableSource, MapSource, Prepare

__all__ = ["IterableSource", "MapSource", "Prepare", "make_source"]
