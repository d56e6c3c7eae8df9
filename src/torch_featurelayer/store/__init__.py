"""Stores: the features of a dataset on disk, as safetensors shards that are each committed by one rename.

Layout of a store:

    metadata.json               the identity of the features: model, layers, preprocessing, versions
    shards/00000000.safetensors the features of some items, with their ids, digests, errors and checksums
    manifest.parquet            the row of every item, or the reason why it has none (written at the end)

A shard holds everything about its items, so a store is consistent after a crash at any moment: an unfinished shard does
not exist. The manifest repeats the contents of the shards for other tools.
"""

from __future__ import annotations

from .reader import Store, open_store, store_metadata
from .rows import StoredLayer
from .shards import RowError, Shard
from .writer import StoreWriter

__all__ = ["RowError", "Shard", "Store", "StoreWriter", "StoredLayer", "open_store", "store_metadata"]
