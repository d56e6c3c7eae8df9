"""Hugging Face datasets as sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..._exceptions import DatasetError
from ..collating import Collator
from .columns import Split
from .source import IterableSource, MapSource, Numbers


def table_source(data: Any, collator: Collator, split: Split) -> MapSource:
    """Returns the source of a Hugging Face dataset."""
    _choose(split, _kinds(data), collator)
    return MapSource(Numbers(len(data)), data.__getitem__, collator, split=split)


def streamed_table_source(data: Any, collator: Collator, split: Split) -> IterableSource:
    """Returns the source of a streaming Hugging Face dataset, whose columns may be unknown before the first row."""
    kinds = _kinds(data)
    if kinds:
        _choose(split, kinds, collator)

    def rows() -> Iterator[tuple[str, Any]]:
        for place, row in enumerate(data):
            if not place and not kinds:
                _choose(split, dict.fromkeys(row), collator)
            yield str(place), row

    return IterableSource(rows(), collator, split)


def _kinds(data: Any) -> dict[str, Any]:
    """Returns the types of the columns by name; None for those of unknown type."""
    return dict(data.features or dict.fromkeys(data.column_names or []))


def _choose(split: Split, kinds: Mapping[str, Any], collator: Collator) -> None:
    """Checks the columns of a sample; without any, chooses them.

    Raises:
        DatasetError: If there is no such column.
    """
    for name in [split.column, *split.columns]:
        if name is not None and name not in kinds:
            raise DatasetError(f"column {name!r}", f"the columns are {', '.join(map(repr, kinds))}")
    split.column = split.column or _default_column(kinds, collator)


def _default_column(kinds: Mapping[str, Any], collator: Collator) -> str | tuple[str, ...]:
    """Returns the columns of a sample: the one of texts, the first of images, the arguments of the model, or the first.

    Raises:
        DatasetError: If there are several columns of texts.
    """
    if collator.takes_texts:
        texts = [name for name, kind in kinds.items() if getattr(kind, "dtype", "") in ("string", "large_string")]
        if len(texts) > 1:
            raise DatasetError(f"{len(texts)} columns of texts", f"pass column= one of {', '.join(map(repr, texts))}")
        return next(iter(texts or kinds))
    images = [name for name, kind in kinds.items() if type(kind).__name__ == "Image"]
    # Not the first of them alone: without its mask, padding would be taken for content.
    arguments = tuple(name for name in kinds if name in collator.keywords)
    return next(iter(images), None) or arguments or next(iter(kinds))
