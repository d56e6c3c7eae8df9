"""Similarity of items, images and layers; search in a store of features, and near-duplicates."""

from __future__ import annotations

from .assess import Assessment, assess
from .cka import cka
from .cosine import cosine
from .duplicates import Pair, near_duplicates
from .index import FaissIndex, Index
from .minibatch import MinibatchCKA
from .perceptual import perceptual_distance
from .procrustes import procrustes
from .rsa import rsa
from .search import Match, search

__all__ = [
    "Assessment",
    "FaissIndex",
    "Index",
    "Match",
    "MinibatchCKA",
    "Pair",
    "assess",
    "cka",
    "cosine",
    "near_duplicates",
    "perceptual_distance",
    "procrustes",
    "rsa",
    "search",
]
