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
from ..collating import Collator, FunctionCollator, StackingCollator
from .columns import Columns, Split, by_place, check_columns, fits_column
from .files import image_folder, is_tar, listed_images, samples_of_tars
from .source import IterableSource, MapSource, Numbers
from .tables import streamed_table_source, table_source

_COMPRESSED: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def make_source(
    data: Any, collator: Collator, column: str | None = None, columns: Columns = ()
) -> MapSource | IterableSource:
    """Returns the source of a dataset; `extract` lists the datasets that are supported.

    Args:
        data: The dataset.
        collator: Makes model inputs from samples.
        column: The column or key that holds the samples. Default: None, chosen as `extract` says.
        columns: The columns to keep: names of columns of the dataset, or values for each item by name. Default: none.

    Raises:
        EmptyDatasetError: If there are no items.
        FileNotFoundError: If the folder or file does not exist.
        DatasetError: If the object is not a dataset, or has no such column.
    """
    check_columns(columns)
    if isinstance(columns, Mapping):
        return _with_columns(make_source(data, collator, column), columns)
    return _make_source(data, collator, column, tuple(columns))


def _make_source(
    data: Any, collator: Collator, column: str | None, columns: tuple[str, ...]
) -> MapSource | IterableSource:
    if isinstance(data, DataLoader):
        return _loader(data, collator, column, columns)
    split = Split(column, columns, whole=collator.takes_tuples)
    if isinstance(data, Mapping) and any(hasattr(part, "column_names") for part in data.values()):
        splits = ", ".join(f"data[{name!r}]" for name in data)
        raise DatasetError(f"a {type(data).__name__}", f"pass one of its splits: {splits}")
    _check_kind(data, collator)
    # Recognised by attributes, because importing `datasets` takes a second.
    if hasattr(data, "column_names") and hasattr(data, "__len__"):
        return table_source(data, collator, split)
    if hasattr(data, "column_names"):
        return streamed_table_source(data, collator, split)
    if isinstance(data, IterableDataset):
        return IterableSource(((str(place), sample) for place, sample in enumerate(data)), collator, split)
    if isinstance(data, Dataset):
        return _indexed_source(data, collator, split)
    if isinstance(data, (str, PathLike)):
        split.check_unnamed(data)
        return _at(fspath(data), collator)
    if isinstance(data, Mapping):
        return _dict_source(data, collator, split)
    if hasattr(data, "to_list"):  # a column of a table; its own indices are labels
        return _list_source(data.to_list(), collator, split)
    if all(hasattr(data, name) for name in ("shape", "ndim", "dtype")):
        return _rows(data, collator, split)
    if isinstance(data, Sequence):
        return _list_source(data, collator, split)
    if isinstance(data, Iterable):
        return IterableSource(_pairs(data, collator), collator, split)
    raise DatasetError(
        f"a {type(data).__name__}",
        "pass a folder of images, a .tar file, a list of files, samples or pairs, a tensor or array [N, ...], a "
        "Dataset, a DataLoader, a Hugging Face dataset, or an iterator of pairs of an id and a sample",
    )


def _check_kind(data: Any, collator: Collator) -> None:
    """Checks that the items of a collection can be read one by one, in an order, and as they are.

    Raises:
        DatasetError: If they cannot; it says how to convert the collection.
    """
    kind = f"a {type(data).__name__}"
    is_arrow = hasattr(data, "column_names") and not hasattr(data, "features")
    if is_arrow or (hasattr(data, "columns") and hasattr(data, "dtypes")):
        way = "datasets.Dataset.from_pandas(frame), .from_polars(frame) or datasets.Dataset(table)"
        raise DatasetError(kind, f"make a Hugging Face dataset of it: {way}")
    if isinstance(data, (str, PathLike)) and collator.takes_texts:
        raise DatasetError(f"the {kind[2:]} {fspath(data)[:40]!r}", "this model takes texts: pass a list of them")
    if isinstance(data, (set, frozenset)):
        raise DatasetError(kind, "a set has no order: pass a list")
    if isinstance(data, Tensor) and (data.is_nested or data.layout is not torch.strided):
        raise DatasetError("a nested or sparse tensor", "pass list(data.unbind()) or data.to_dense()")
    if hasattr(data, "mask") and hasattr(data, "filled"):
        raise DatasetError(kind, "its mask would be lost: pass data.filled(value)")


def _with_columns(source: MapSource | IterableSource, columns: Mapping[str, Sequence[Any]]) -> MapSource:
    """Adds columns to a source.

    Raises:
        DatasetError: If they have not one value for each item.
    """
    if isinstance(source, IterableSource):
        raise DatasetError("columns= of an iterator", "its length is not known; pass a list or Dataset")
    source.columns = {name: by_place(values) for name, values in columns.items()}
    for name, values in source.columns.items():
        if len(values) != len(source):
            raise DatasetError(f"column {name!r}", f"it has {len(values)} values for {len(source)} items")
    return source


def _loader(
    loader: DataLoader[Any], collator: Collator, column: str | None, columns: tuple[str, ...]
) -> MapSource | IterableSource:
    """Returns the source of the items that a DataLoader yields, in the order of its dataset.

    Samples are collated by the function of the DataLoader. Batches are in an order that an interrupted extraction can
    continue.

    Raises:
        DatasetError: If the DataLoader draws samples at random, or makes its batches in another way.
    """
    if loader.collate_fn not in (default_collate, default_convert):
        collator = FunctionCollator(loader.collate_fn)
    source = _make_source(loader.dataset, collator, column, columns)
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


def _at(path: str, collator: Collator) -> MapSource:
    """Returns the source of a path: a folder, a tar file, or one image."""
    if is_tar(path):
        return samples_of_tars([path], collator)
    if path.endswith(_COMPRESSED):
        raise DatasetError(repr(path), "random access needs an uncompressed .tar file: unpack it first")
    if is_local(path) and Path(path).is_file():
        return listed_images([Path(path).name], [path], collator)
    return image_folder(path, collator)


def _dict_source(data: Mapping[Any, Any], collator: Collator, split: Split) -> MapSource:
    """Returns the source of a dict from id to sample, or of the arguments of a model, such as a `BatchEncoding`."""
    if data and all(name in collator.keywords and isinstance(value, Tensor) for name, value in data.items()):
        return MapSource(Numbers(len(next(iter(data.values())))), partial(_row_of_each, data), collator, split=split)
    ids, samples = [str(name) for name in data], list(data.values())
    return MapSource(ids, samples.__getitem__, collator, split=split)


def _row_of_each(data: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    return {name: value[place] for name, value in data.items()}


def _indexed_source(data: Any, collator: Collator, split: Split) -> MapSource:
    """Returns the source of samples with random access; their indices are their ids.

    Raises:
        DatasetError: If it is not known how many there are.
    """
    if not hasattr(data, "__len__"):
        raise DatasetError(f"a {type(data).__name__}", "define __len__, or derive it from IterableDataset")
    return MapSource(Numbers(len(data)), data.__getitem__, collator, split=split)


def _rows(data: Any, collator: Collator, split: Split) -> MapSource:
    """Returns the source of a tensor, or of an array of inputs, of images in uint8, or of texts.

    Arrays are those of NumPy, and others that are read by slices, such as datasets of h5py and zarr.
    """
    if getattr(data.dtype, "kind", "") in ("O", "U", "T"):
        return _list_source(data.tolist(), collator, split)
    split.check_unnamed(data)
    if not data.ndim:
        raise DatasetError("a single number", "a tensor or array must be [N, ...], with items in the first dimension")
    ids, is_stacked = Numbers(data.shape[0]), isinstance(collator, StackingCollator) and collator.leaves_tensors
    if isinstance(data, Tensor):
        rows = data.__getitem__ if is_stacked and type(data) is Tensor and data.layout is torch.strided else None
        return MapSource(ids, data.__getitem__, collator, split=split, rows=rows)
    is_images = str(data.dtype) == "uint8" and (data.ndim == 3 or (data.ndim == 4 and data.shape[3] in (3, 4)))
    read = data.__getitem__ if is_images else partial(_tensor_row, data)
    is_plain = is_stacked and not is_images and data.dtype.kind in "fiub" and str(data.dtype) != "float64"
    rows = partial(_tensor_row, data) if is_plain else None
    return MapSource(ids, read, collator, split=split, rows=rows)


def _tensor_row(data: Any, place: int | slice) -> Tensor:
    return torch.as_tensor(data[place])


def _list_source(data: Sequence[Any], collator: Collator, split: Split) -> MapSource:
    """Returns the source of a list of files, of samples, of samples with labels, or of pairs of id and sample."""
    if collator.takes_texts and any(map(_is_text, data)):
        return _indexed_source(data, collator, split)
    if data and all(isinstance(part, (str, PathLike)) for part in data):
        split.check_unnamed(data)
        return _files([fspath(part) for part in data], collator)
    if data and all(isinstance(part, (tuple, list)) and len(part) == 2 for part in data) and not _is_sample(data[0][0]):
        return _pair_source(data, collator, split)
    # A function of the user collates samples of any type.
    if data and not isinstance(collator, FunctionCollator) and not all(map(_is_sample, data)):
        odd = next(part for part in data if not _is_sample(part))
        raise DatasetError(
            f"a list with a {type(odd).__name__} in it",
            "a list must hold files, tensors, arrays, images, dicts of tensors, samples with labels, or pairs of id "
            "and sample",
        )
    return _indexed_source(data, collator, split)


def _pair_source(data: Sequence[Any], collator: Collator, split: Split) -> MapSource:
    """Returns the source of pairs of id and sample.

    Raises:
        DatasetError: If they seem to be pairs of a text and the name of a class.
    """
    names, samples = [str(name) for name, _ in data], [sample for _, sample in data]
    if collator.takes_texts and all(isinstance(sample, str) for sample in samples):
        is_class = 2 * len(set(samples)) <= len(samples) and sum(map(len, samples)) < sum(map(len, names))
        if is_class:
            raise DatasetError(
                f"pairs such as {data[0]!r:.80}",
                "pairs of str are of id and text, and these repeat few short texts; pass the texts with "
                "columns={'label': labels}, or a dict from id to text",
            )
    return MapSource(names, samples.__getitem__, collator, split=split)


def _files(paths: list[str], collator: Collator) -> MapSource:
    if all(map(is_tar, paths)):
        return samples_of_tars(paths, collator)
    if all(is_local(path) and not PurePosixPath(path).suffix and not Path(path).exists() for path in paths):
        raise DatasetError(
            f"a list of {len(paths)} texts, such as {paths[0][:40]!r}",
            "this model takes images: a list of str must hold their paths. Load a model of texts with tl.models.load, "
            "or pass its tokenizer as preprocess=, or pass pairs of id and text",
        )
    return listed_images(paths, paths, collator)


def _is_sample(part: Any) -> bool:
    """Whether an object is a tensor, an array, an image or a dict of them, or a tuple that begins with one."""
    if isinstance(part, (tuple, list)) and part:
        part = part[0]
    return isinstance(part, (Tensor, Mapping)) or hasattr(part, "__array_interface__")


def _is_text(part: Any) -> bool:
    """Whether an object is a text, or a text with a label, rather than a pair of id and text."""
    if not isinstance(part, (tuple, list)):
        return isinstance(part, str)
    is_pair = len(part) == 2 and isinstance(part[0], str)
    return is_pair and fits_column(part[1]) and not isinstance(part[1], str)


def _pairs(data: Iterable[Any], collator: Collator) -> Iterator[tuple[str, Any]]:
    """Yields pairs of id and sample from an iterator of pairs, or of samples, which are numbered."""
    for place, part in enumerate(data):
        if collator.takes_texts and _is_text(part):
            yield str(place), part
        elif isinstance(part, (tuple, list)) and len(part) == 2 and not _is_sample(part[0]):
            yield str(part[0]), part[1]
        elif _is_sample(part):
            yield str(place), part
        else:
            raise DatasetError(
                f"an iterator of {type(part).__name__}",
                "it must yield samples, or pairs of id and sample",
            )
