"""Stores: the features of a dataset on disk, as safetensors shards that are each committed by one rename.

Layout of a store:

    metadata.json                  the identity of the features: model, layers, preprocessing, versions
    shards/00000000.safetensors    the features of some items, and these items with digests, errors and columns
    manifest/00000000.items.arrow  all items, as a table that other tools read (written at the end)
    manifest/00000000.shards.arrow the numbers of items and rows of each shard

A shard holds everything about its items, so a store is consistent after a crash at any moment: an unfinished shard does
not exist. The manifest repeats the items of the shards, so that a store opens without reading them.
"""

from __future__ import annotations

from .ids import Ids
from .items import Item, RowError
from .metadata import differences
from .reader import Store, open_store, store_metadata
from .rows import StoredLayer
from .shards import BOXES, CLASSES, SCORES, SPANS, TOKEN_IDS, Shard
from .writer import StoreWriter

__all__ = [
    "BOXES",
    "CLASSES",
    "SCORES",
    "SPANS",
    "TOKEN_IDS",
    "Ids",
    "Item",
    "RowError",
    "Shard",
    "Store",
    "StoreWriter",
    "StoredLayer",
    "differences",
    "open_store",
    "store_metadata",
]
