"""Which items are alike: search in a store of features, near-duplicates, and layers compared."""

from __future__ import annotations

from .cka import cka
from .duplicates import Pair, near_duplicates
from .index import FaissIndex, Index
from .minibatch import MinibatchCKA
from .procrustes import procrustes
from .rsa import rsa
from .search import Match, search

__all__ = [
    "FaissIndex",
    "Index",
    "Match",
    "MinibatchCKA",
    "Pair",
    "cka",
    "near_duplicates",
    "procrustes",
    "rsa",
    "search",
]
