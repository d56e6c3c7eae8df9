"""Which items are alike: search in a store of features, and near-duplicates."""

from __future__ import annotations

from .duplicates import Pair, near_duplicates
from .index import FaissIndex, Index
from .search import Match, search

__all__ = ["FaissIndex", "Index", "Match", "Pair", "near_duplicates", "search"]
