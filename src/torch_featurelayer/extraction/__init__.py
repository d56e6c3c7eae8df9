"""Extraction of a dataset to a store of features, which can be interrupted at any moment.

A source (`sources`) reads items into batches (`batches`), a `FeatureRunner` computes their features, an `ExtractionJob`
writes them as shards in any process, and a backend (`backends`) distributes the shards over processes.
"""

from __future__ import annotations

from ._extract import extract
from ._plan import Plan, PlanRow, plan
from .identity import named
from .progress import Progress
from .query import extract_like

__all__ = ["Plan", "PlanRow", "Progress", "extract", "extract_like", "named", "plan"]
