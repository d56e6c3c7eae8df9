"""Features of a whole dataset on disk: safetensors shards, each committed by one rename.

Layout of a store:

    settings.json               what the features are: model, layers, preprocessing, versions
    shards/00000000.safetensors the features of some items, with their ids, errors and checksums
    manifest.parquet            every item, where its row is or why it has none (written at the end)

A shard holds everything of its items, so a store is whole after a crash at any
moment: what is not finished is not there. The manifest only repeats what the
shards say, for other tools.
"""

from __future__ import annotations

from .reader import Store, open_store, store_settings
from .rows import StoredLayer
from .shards import RowError
from .writer import StoreWriter

__all__ = ["RowError", "Store", "StoreWriter", "StoredLayer", "open_store", "store_settings"]
