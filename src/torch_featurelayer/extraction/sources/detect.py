"""Determines the source of a dataset from its type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)

from ..._exceptions import DatasetError
from ...store.folder import is_local
from .files import image_folder, is_tar, listed_images, samples_of_tars
from .source import IterableSource, MapSource, Prepare, pass_tensors

_COMPRESSED: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def make_source(data: Any, prepare: Prepare, column: str | None = None) -> MapSource | IterableSource:
    """Returns the source of a dataset; `extract` lists the datasets that are supported.

    Args:
        data: The dataset.
        prepare: Returns the model input `[1, ...]` of an image or a text.
        column: The column of a table that holds the samples. Default: None, the first column of images, or the first.

    Raises:
        EmptyDatasetError: If there are no items.
        FileNotFoundError: If the folder or file does not exist.
        DatasetError: If the object is not a dataset.
    """
    if isinstance(data, DataLoader):
        return _loader(data, prepare, column)
    if isinstance(data, (str, PathLike)):
        return _at(fspath(data), prepare)
    if isinstance(data, Mapping):
        return _dict_source(data, prepare)
    # Recognised by attributes, because importing `datasets` takes a second.
    if hasattr(data, "column_names") and hasattr(data, "__len__"):
        return _table(data, prepare, column)
    if hasattr(data, "column_names"):
        return _streamed_table(data, prepare, column)
    if isinstance(data, IterableDataset):
        return IterableSource(((str(place), sample) for place, sample in enumerate(data)), pass_tensors(prepare))
    if isinstance(data, Dataset):
        return _indexed_source(data, prepare)
    if isinstance(data, Tensor) or hasattr(data, "__array_interface__"):
        return _rows(data, prepare)
    if isinstance(data, Sequence):
        return _list_source(data, prepare)
    if isinstance(data, Iterable):
        return IterableSource(_pairs(data), pass_tensors(prepare))
    raise DatasetError(
        f"a {type(data).__name__}",
        "pass a folder of images, a .tar file, a list of files, samples or pairs, a tensor or array [N, ...], a "
        "Dataset, a DataLoader, a Hugging Face dataset, or an iterator of pairs of an id and a sample",
    )


def _loader(loader: DataLoader[Any], prepare: Prepare, column: str | None) -> MapSource | IterableSource:
    """Returns the source of the items that a DataLoader yields, in the order of its dataset.

    Batches are made by this package, in an order that an interrupted extraction can continue.

    Raises:
        DatasetError: If the DataLoader collates samples in its own way, or draws them at random.
    """
    if loader.collate_fn not in (default_collate, default_convert):
        raise DatasetError("a DataLoader with a collate_fn", "pass its dataset, and the function as preprocess=")
    source = make_source(loader.dataset, prepare, column)
    if isinstance(source, IterableSource):
        return source
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        raise DatasetError("a DataLoader with a batch_sampler", "pass its dataset, or a Subset of it")
    sampler: Any = loader.sampler
    if isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != len(source)):
        raise DatasetError("a DataLoader that draws items at random", "pass its dataset, or a Subset of it")
    if isinstance(sampler, (SequentialSampler, RandomSampler)):
        return source
    return source.select(sorted(int(index) for index in sampler))


def _at(path: str, prepare: Prepare) -> MapSource:
    """Returns the source of a path: a folder, a tar file, or one image."""
    if is_tar(path):
        return samples_of_tars([path], prepare)
    if path.endswith(_COMPRESSED):
        raise DatasetError(repr(path), "random access needs an uncompressed .tar file: unpack it first")
    if is_local(path) and Path(path).is_file():
        return listed_images([Path(path).name], [path], prepare)
    return image_folder(path, prepare)


def _dict_source(data: Mapping[Any, Any], prepare: Prepare) -> MapSource:
    """Returns the source of a dict from id to sample."""
    if any(hasattr(part, "column_names") for part in data.values()):
        splits = ", ".join(f"data[{name!r}]" for name in data)
        raise DatasetError(f"a {type(data).__name__}", f"pass one of its splits: {splits}")
    ids, samples = [str(name) for name in data], list(data.values())
    return MapSource(ids, samples.__getitem__, pass_tensors(prepare))


def _indexed_source(data: Any, prepare: Prepare) -> MapSource:
    """Returns the source of samples with random access; their indices are their ids."""
    return MapSource([str(place) for place in range(len(data))], data.__getitem__, pass_tensors(prepare))


def _rows(data: Any, prepare: Prepare) -> MapSource:
    """Returns the source of a tensor, or of an array of inputs or of images in uint8."""
    if not data.ndim:
        raise DatasetError("a single number", "a tensor or array must be [N, ...], with items in the first dimension")
    if isinstance(data, Tensor):
        return _indexed_source(data, prepare)
    is_images = str(data.dtype) == "uint8" and (data.ndim == 3 or (data.ndim == 4 and data.shape[3] in (3, 4)))
    return MapSource(
        [str(place) for place in range(len(data))],
        data.__getitem__ if is_images else partial(_tensor_row, data),
        pass_tensors(prepare),
    )


def _tensor_row(data: Any, place: int) -> Tensor:
    return torch.as_tensor(data[place])


def _list_source(data: Sequence[Any], prepare: Prepare) -> MapSource:
    """Returns the source of a list of files, of samples, of samples with labels, or of pairs of id and sample."""
    if data and all(isinstance(part, (str, PathLike)) for part in data):
        return _files([fspath(part) for part in data], prepare)
    if data and all(isinstance(part, (tuple, list)) and len(part) == 2 for part in data) and not _is_sample(data[0][0]):
        return MapSource(
            [str(name) for name, _ in data], [sample for _, sample in data].__getitem__, pass_tensors(prepare)
        )
    if data and not all(map(_is_sample, data)):
        odd = next(part for part in data if not _is_sample(part))
        raise DatasetError(
            f"a list with a {type(odd).__name__} in it",
            "a list must hold files, tensors, arrays, images, samples with labels, or pairs of id and sample",
        )
    return _indexed_source(data, prepare)


def _files(paths: list[str], prepare: Prepare) -> MapSource:
    if all(map(is_tar, paths)):
        return samples_of_tars(paths, prepare)
    if all(is_local(path) and not PurePosixPath(path).suffix and not Path(path).exists() for path in paths):
        raise DatasetError(
            f"a list of {len(paths)} texts, such as {paths[0][:40]!r}",
            "a list of str must hold paths of images; pass texts as pairs of id and text",
        )
    return listed_images(paths, paths, prepare)


def _is_sample(part: Any) -> bool:
    """Whether an object is a tensor, an array or an image, or a tuple that begins with one."""
    if isinstance(part, (tuple, list)) and part:
        part = part[0]
    return isinstance(part, Tensor) or hasattr(part, "__array_interface__")


def _pairs(data: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yields pairs of id and sample from an iterator of pairs, or of samples, which are numbered."""
    for place, part in enumerate(data):
        if isinstance(part, (tuple, list)) and len(part) == 2 and not _is_sample(part[0]):
            yield str(part[0]), part[1]
        elif _is_sample(part):
            yield str(place), part
        else:
            raise DatasetError(
                f"an iterator of {type(part).__name__}",
                "it must yield samples, or pairs of id and sample",
            )


def _table(data: Any, prepare: Prepare, column: str | None) -> MapSource:
    """Returns the source of a Hugging Face dataset."""
    name = _column(data, column)
    ids = [str(place) for place in range(len(data))]
    return MapSource(ids, partial(_cell, data, name), pass_tensors(prepare))


def _streamed_table(data: Any, prepare: Prepare, column: str | None) -> IterableSource:
    """Returns the source of a streaming Hugging Face dataset, whose columns may be unknown before the first row."""

    def cells() -> Iterator[tuple[str, Any]]:
        name = _column(data, column) if column or data.features else None
        for place, row in enumerate(data):
            name = name or next(iter(row))
            yield str(place), row[name]

    return IterableSource(cells(), pass_tensors(prepare))


def _column(data: Any, column: str | None) -> str:
    names = list(data.features or data.column_names or [])
    if column is not None:
        if names and column not in names:
            raise DatasetError(f"column {column!r}", f"the columns are {', '.join(map(repr, names))}")
        return column
    kinds = {name: type(kind).__name__ for name, kind in (data.features or {}).items()}
    return next((name for name, kind in kinds.items() if kind == "Image"), str(names[0]))


def _cell(data: Any, column: str, place: int) -> Any:
    return data[place][column]
