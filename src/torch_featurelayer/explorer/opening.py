"""Opens the dataset of the explorer: a store, a file of statistics, or a folder whose features are computed first."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from .._exceptions import StoreMismatchError
from .._optional import need
from ..diagnosis import open_statistics, statistics
from ..extraction import extract
from ..extraction.collating import make_collator
from ..extraction.identity import digest, hash_weights
from ..extraction.query import model_differences
from ..extraction.sources import MapSource, make_source
from ..models import LoadedModel
from ..store import open_store, store_metadata
from .dataset import TOP, Dataset

Progress = Callable[[str], None]


def open_dataset(
    loaded: LoadedModel,
    data: str | PathLike[str],
    *,
    layers: Iterable[str] | None = None,
    samples: str | PathLike[str] | None = None,
    cache: str | PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Opens the dataset of a model.

    Args:
        loaded: The model.
        data: A store of `extract`; a file of `statistics`; or items: a folder or tar file of images, or a text file
            with a text in each line. Statistics and pooled features of items are computed first, and kept in `cache`.
        layers: The layers to compute for items. Default: None, the stages of the model.
        samples: The items of a store or of statistics, if they are not where they were. Default: None.
        cache: The folder for what is computed. Default: None, that of the user's caches.
        progress: A function that is called with a line of text as items are computed. Default: None.

    Returns:
        The dataset.

    Raises:
        StoreMismatchError: If the store or the statistics are of another model.
        FileNotFoundError: If there is no such file or folder, or the items are not where they were.
        StoreCorruptError: If a file is neither statistics nor items.
    """
    path = Path(data)
    if store_metadata(data):
        store = open_store(data)
        _check_model(loaded, fspath(data), store.metadata)
        source = _items(loaded, samples or store.metadata["data"], fspath(data))
        return Dataset(path.name, source, store=store, layouts=loaded.layouts)
    if path.suffix == ".safetensors":
        found = open_statistics(path)
        _check_model(loaded, fspath(data), found.metadata)
        return Dataset(path.name, _items(loaded, samples or found.metadata["data"], fspath(data)), found)
    return _compute(loaded, path, tuple(layers or loaded.stages), cache, progress or _silent)


def _compute(
    loaded: LoadedModel, path: Path, layers: tuple[str, ...], cache: str | PathLike[str] | None, progress: Progress
) -> Dataset:
    """Computes statistics and features of items, or continues, or reads what is there."""
    source, data = _items(loaded, path, None), _samples(path)
    key = digest(fspath(path.resolve()), loaded.name, hash_weights(loaded.model), list(layers), source.fingerprint)
    folder = (Path(cache) if cache else _user_cache()) / key[:16]

    def run() -> Dataset:
        found = statistics(
            loaded, layers, data, folder / "statistics.safetensors", top=TOP,
            progress=lambda count: progress(f"statistics: {count} of {len(source)} items"),
        )  # fmt: skip
        store = extract(
            loaded, layers, data, folder / "store", reduce="mean", dtype=None,
            progress=lambda state: progress(f"features: {state.done} of {state.items} items"),
        )  # fmt: skip
        return Dataset(path.name, source, found, store)

    try:
        return run()
    except StoreMismatchError:  # an item or a version has changed: what was computed here is computed again
        shutil.rmtree(folder)
        return run()


def _items(loaded: LoadedModel, samples: Any, path: str | None) -> MapSource:
    """Returns the items.

    Raises:
        FileNotFoundError: If they are not where they were.
    """
    collator = make_collator(loaded.model, loaded.preprocess, None, is_default=True, max_length=None)
    try:
        source = make_source(_samples(Path(samples)), collator)
    except (FileNotFoundError, ValueError, TypeError) as error:
        if path is None:
            raise
        raise FileNotFoundError(
            f"the items of {path!r} are not at {fspath(samples)!r}: pass the folder or file that they are in"
        ) from error
    if not isinstance(source, MapSource):
        raise TypeError(f"{fspath(samples)!r} can be read only once")
    return source


def _samples(path: Path) -> Any:
    """Returns what `extract` takes: the texts of a text file, or the path."""
    if path.suffix != ".txt":
        return fspath(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]


def _check_model(loaded: LoadedModel, path: str, metadata: Mapping[str, Any]) -> None:
    """Checks that features are of a model.

    Raises:
        StoreMismatchError: If they are of another one.
    """
    if found := model_differences(loaded, metadata):
        names = (metadata.get("model"), loaded.name)  # which may differ for the same model
        raise StoreMismatchError(path, {**({"model": names} if names[0] != names[1] else {}), **found})


def _user_cache() -> Path:
    found: Path = need("platformdirs", "explore").user_cache_path("torch-featurelayer") / "explore"
    return found


def _silent(_: str) -> None:
    """Shows nothing."""
