"""From a dataset to a store of features, that may be interrupted at any moment.

`sources` says what the items are, `batches` reads them ahead, a `runner` gives the
features of a batch, a `job` makes shards of them in any process, and `engines`
share the shards out.
"""

from __future__ import annotations

from ._extract import extract
from .progress import Progress
from .query import features_like

__all__ = ["Progress", "extract", "features_like"]
