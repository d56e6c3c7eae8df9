"""Which kind of dataset something is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..._exceptions import DatasetError
from ...store.folder import is_local
from .files import image_folder, image_of, is_tar, samples_of_tars
from .items import Items, Prepare, Stream, ready_or

_COMPRESSED: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def source_of(data: Any, prepare: Prepare, column: str | None = None) -> Items | Stream:
    """Returns the items of a dataset; `extract` lists what it may be.

    Args:
        data: The dataset.
        prepare: Makes a model's input `[1, ...]` from an image or a text.
        column: Which column of a table is the sample; None: the first that holds images, else the first.

    Raises:
        EmptyDatasetError: If there is no item.
        FileNotFoundError: If there is no such folder or file.
        DatasetError: If it is no dataset.
    """
    if isinstance(data, DataLoader):
        data = data.dataset
    if isinstance(data, (str, PathLike)):
        return _at(fspath(data), prepare)
    if isinstance(data, Mapping):
        return _named(data, prepare)
    if hasattr(data, "column_names") and hasattr(data, "__len__"):
        return _table(data, prepare, column)
    if hasattr(data, "column_names"):
        return _streamed_table(data, prepare, column)
    if isinstance(data, IterableDataset):
        return Stream(((str(place), sample) for place, sample in enumerate(data)), ready_or(prepare))
    if isinstance(data, Dataset):
        return _numbered(data, prepare)
    if isinstance(data, Tensor) or hasattr(data, "__array_interface__"):
        return _rows(data, prepare)
    if isinstance(data, Sequence):
        return _listed(data, prepare)
    if isinstance(data, Iterable):
        return Stream(_pairs(data), ready_or(prepare))
    raise DatasetError(
        f"a {type(data).__name__}",
        "give a folder of images, a .tar, a list of files, samples or pairs, a tensor or array [N, ...], a Dataset, "
        "a DataLoader, a Hugging Face dataset, or an iterator of pairs of an id and a sample",
    )


def _at(path: str, prepare: Prepare) -> Items:
    """Reads a path: a folder, a tar, or one image."""
    if is_tar(path):
        return samples_of_tars([path], prepare)
    if path.endswith(_COMPRESSED):
        raise DatasetError(
            repr(path), "items are read here and there, which needs an uncompressed .tar: unpack it first"
        )
    if is_local(path) and Path(path).is_file():
        return Items([Path(path).name], partial(image_of, [path]), prepare)
    return image_folder(path, prepare)


def _named(data: Mapping[Any, Any], prepare: Prepare) -> Items:
    """A dict from id to sample."""
    if any(hasattr(part, "column_names") for part in data.values()):
        splits = ", ".join(f"data[{name!r}]" for name in data)
        raise DatasetError(f"a {type(data).__name__}", f"choose one of its splits: {splits}")
    ids, samples = [str(name) for name in data], list(data.values())
    return Items(ids, samples.__getitem__, ready_or(prepare))


def _numbered(data: Any, prepare: Prepare, version: str = "") -> Items:
    """Samples that are found by number; their numbers are their ids."""
    return Items([str(place) for place in range(len(data))], data.__getitem__, ready_or(prepare), version)


def _rows(data: Any, prepare: Prepare) -> Items:
    """A tensor of inputs, or an array of inputs or images `[N, H, W]`, `[N, H, W, 3]` in uint8."""
    if not data.ndim:
        raise DatasetError("a single number", "the first dimension of a tensor or array is that of the items, [N, ...]")
    if isinstance(data, Tensor):
        return _numbered(data, prepare)
    is_images = str(data.dtype) == "uint8" and (data.ndim == 3 or (data.ndim == 4 and data.shape[3] in (3, 4)))
    return Items(
        [str(place) for place in range(len(data))],
        data.__getitem__ if is_images else partial(_tensor_row, data),
        ready_or(prepare),
    )


def _tensor_row(data: Any, place: int) -> Tensor:
    return torch.as_tensor(data[place])


def _listed(data: Sequence[Any], prepare: Prepare) -> Items:
    """A list of files, of samples, of samples with labels, or of pairs of an id and a sample."""
    if data and all(isinstance(part, (str, PathLike)) for part in data):
        return _files([fspath(part) for part in data], prepare)
    if data and all(isinstance(part, (tuple, list)) and len(part) == 2 for part in data) and not _is_sample(data[0][0]):
        return Items([str(name) for name, _ in data], [sample for _, sample in data].__getitem__, ready_or(prepare))
    if data and not all(map(_is_sample, data)):
        odd = next(part for part in data if not _is_sample(part))
        raise DatasetError(
            f"a list with a {type(odd).__name__} in it",
            "a list holds files, tensors, arrays, images, samples with their labels, or pairs of an id and a sample",
        )
    return _numbered(data, prepare)


def _files(paths: list[str], prepare: Prepare) -> Items:
    if all(map(is_tar, paths)):
        return samples_of_tars(paths, prepare)
    if all(is_local(path) and not PurePosixPath(path).suffix and not Path(path).exists() for path in paths):
        raise DatasetError(
            f"a list of {len(paths)} texts, such as {paths[0][:40]!r}",
            "a list of str holds the paths of images; give texts as pairs of an id and a text",
        )
    return Items(paths, partial(image_of, paths), prepare)


def _is_sample(part: Any) -> bool:
    """Whether something is a tensor, an array or an image, or begins with one."""
    if isinstance(part, (tuple, list)) and part:
        part = part[0]
    return isinstance(part, Tensor) or hasattr(part, "__array_interface__")


def _pairs(data: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yields what an iterator gives: pairs of an id and a sample, or samples, which are numbered."""
    for place, part in enumerate(data):
        if isinstance(part, (tuple, list)) and len(part) == 2 and not _is_sample(part[0]):
            yield str(part[0]), part[1]
        elif _is_sample(part):
            yield str(place), part
        else:
            raise DatasetError(
                f"an iterator that gives a {type(part).__name__}",
                "it must give samples, or pairs of an id and a sample",
            )


def _table(data: Any, prepare: Prepare, column: str | None) -> Items:
    """A Hugging Face dataset."""
    name = _column(data, column)
    ids = [str(place) for place in range(len(data))]
    return Items(ids, partial(_cell, data, name), ready_or(prepare), str(getattr(data, "_fingerprint", "")))


def _streamed_table(data: Any, prepare: Prepare, column: str | None) -> Stream:
    """A streaming Hugging Face dataset, which may not know its columns before the first row."""

    def cells() -> Iterator[tuple[str, Any]]:
        name = _column(data, column) if column or data.features else None
        for place, row in enumerate(data):
            name = name or next(iter(row))
            yield str(place), row[name]

    return Stream(cells(), ready_or(prepare))


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
