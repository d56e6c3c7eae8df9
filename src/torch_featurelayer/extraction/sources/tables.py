"""Hugging Face datasets as sources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..._exceptions import DatasetError
from ..collating import Collator
from .columns import Split
from .source import IterableSource, MapSource, Numbers


def table_source(data: Any, collator: Collator, split: Split) -> MapSource:
    """Returns the source of a Hugging Face dataset."""
    split.column = _column(data, split.column, collator)
    for name in split.columns:
        _column(data, name, collator)
    return MapSource(Numbers(len(data)), data.__getitem__, collator, split=split)


def streamed_table_source(data: Any, collator: Collator, split: Split) -> IterableSource:
    """Returns the source of a streaming Hugging Face dataset, whose columns may be unknown before the first row."""
    if split.column or data.features:
        split.column = _column(data, split.column, collator)

    def rows() -> Iterator[tuple[str, Any]]:
        for place, row in enumerate(data):
            split.column = split.column or next(iter(row))
            yield str(place), row

    return IterableSource(rows(), collator, split)


def _column(data: Any, column: str | None, collator: Collator) -> str:
    """Returns the column that holds the samples: by default the first of images, the one of texts, or the first.

    Raises:
        DatasetError: If there is no such column, or there are several columns of texts.
    """
    features = data.features or {}
    names: list[str] = list(features or data.column_names or [])
    if column is not None:
        if names and column not in names:
            raise DatasetError(f"column {column!r}", f"the columns are {', '.join(map(repr, names))}")
        return column
    if collator.takes_texts:
        texts = [name for name in names if getattr(features.get(name), "dtype", "") in ("string", "large_string")]
        if len(texts) > 1:
            raise DatasetError(f"{len(texts)} columns of texts", f"pass column= one of {', '.join(map(repr, texts))}")
        return texts[0] if texts else names[0]
    images = (name for name in names if type(features.get(name)).__name__ == "Image")
    return next(images, names[0])
