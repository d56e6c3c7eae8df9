"""Which items are alike: search in a store of features, near-duplicates, and layers compared."""

from __future__ import annotations

from .cka import cka
from .duplicates import Pair, near_duplicates
from .index import FaissIndex, Index
from .search import Match, search

__all__ = ["FaissIndex", "Index", "Match", "Pair", "cka", "near_duplicates", "search"]
