"""Which kind of dataset something is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from os import PathLike, fspath
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset

from .files import image_folder, image_of, is_tar, samples_of_tars
from .items import Items, Prepare, Stream, ready_or


def source_of(data: Any, prepare: Prepare, column: str | None = None) -> Items | Stream:
    """Returns the items of a dataset; `extract` says what it may be.

    Args:
        data: The dataset.
        prepare: Makes a model's input `[1, ...]` from an image or a text.
        column: Which column of a table is the sample; None: the first that holds images, else the first.

    Raises:
        EmptyDatasetError: There is no item.
        FileNotFoundError: There is no such folder or file.
        TypeError: It is no dataset.
    """
    if isinstance(data, DataLoader):
        data = data.dataset
    if isinstance(data, (str, PathLike)):
        path = fspath(data)
        return samples_of_tars([path], prepare) if is_tar(path) else image_folder(path, prepare)
    if hasattr(data, "column_names") and hasattr(data, "__len__"):
        return _table(data, prepare, column)
    if isinstance(data, IterableDataset):
        return Stream(((str(place), sample) for place, sample in enumerate(data)), ready_or(prepare))
    if isinstance(data, Dataset):
        return Items([str(place) for place in range(len(data))], data.__getitem__, ready_or(prepare))  # type: ignore[arg-type]
    if isinstance(data, Sequence):
        return _listed(data, prepare)
    if isinstance(data, Iterable):
        return Stream(iter(data), ready_or(prepare))
    raise TypeError(f"a dataset is a folder, a tar, a list of files, a Dataset or pairs, not {type(data).__name__}")


def _listed(data: Sequence[Any], prepare: Prepare) -> Items:
    if data and all(isinstance(part, (str, PathLike)) for part in data):
        paths = [fspath(part) for part in data]
        if all(map(is_tar, paths)):
            return samples_of_tars(paths, prepare)
        return Items(paths, partial(image_of, paths), prepare)
    ids, samples = [str(name) for name, _ in data], [sample for _, sample in data]
    return Items(ids, samples.__getitem__, ready_or(prepare))


def _table(data: Any, prepare: Prepare, column: str | None) -> Items:
    """A Hugging Face dataset."""
    name = column or _column(data)
    ids = [str(place) for place in range(len(data))]
    return Items(ids, partial(_cell, data, name), ready_or(prepare), str(getattr(data, "_fingerprint", "")))


def _column(data: Any) -> str:
    kinds = {name: type(kind).__name__ for name, kind in data.features.items()}
    images: Iterator[str] = (name for name, kind in kinds.items() if kind == "Image")
    return next(images, data.column_names[0])


def _cell(data: Any, column: str, place: int) -> Any:
    return data[place][column]
