"""`Dataset`: the items of a dataset, the statistics of a model's channels over them, and their features."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor

from .._exceptions import FeatureNotFoundError
from .._optional import need
from ..address import parse
from ..analysis._scaling import scale_down
from ..diagnosis import LayerStatistics, row_statistics
from ..diagnosis._accumulate import channels_last
from ..extraction.sources import MapSource
from ..similarity import Index, search
from ..store import Store, StoredLayer

Projection: TypeAlias = Literal["pca", "umap"]

_BINS: Final = 24  # of histograms
TOP: Final = 24  # items that are kept for each channel
_FOLDER: Final = "folder"  # the column of the folders that files are in
_CHUNK: Final = 1 << 22  # values that are read at once
_MOST_VALUES: Final = 1 << 28  # of a layer that are held in memory for neighbours
_INDICES: Final = 2  # layers whose vectors stay in memory


class Dataset:
    """The items of a dataset, with statistics of the channels of a model, or its features, or both.

    Items are numbered in the order of the source.

    Args:
        name: The name on the page, which is never a path of this machine.
        source: The items.
        statistics: The statistics by layer. Default: none, computed from the rows of the store.
        store: The features. Default: None.
        layouts: The layout of the feature of each layer, for stores of whole feature maps. Default: none.
    """

    def __init__(
        self,
        name: str,
        source: MapSource,
        statistics: Mapping[str, LayerStatistics] | None = None,
        store: Store | None = None,
        layouts: Mapping[str, str | None] | None = None,
    ) -> None:
        self.name, self._source, self.store = name, source, store
        self._statistics = dict(statistics or {})
        self._from_rows: dict[str, LayerStatistics] = {}
        self._layouts = layouts or {}
        self._numbers = {name: number for number, name in enumerate(source.ids)}
        self._indices: OrderedDict[str, Index] = OrderedDict()
        self._points: dict[tuple[str, str], Tensor] = {}
        self._histograms: dict[str, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._source)

    @property
    def kind(self) -> str:
        """What it was opened from: `"items"`, `"statistics"` or a `"store"`."""
        if self.store is None:
            return "statistics"
        return "items" if self._statistics else "store"

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the items."""
        return self._source.ids

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers with statistics or features."""
        stored = () if self.store is None else self.store.layers
        return tuple(dict.fromkeys((*self._statistics, *stored)))

    @property
    def comparable(self) -> tuple[str, ...]:
        """The layers by which items can be compared: those with one row for each item."""
        store = self.store
        return () if store is None else tuple(name for name in store.layers if len(store[name]) == len(store.ids))

    def sample(self, number: int) -> Any:
        """Reads an item: an image or a text.

        Raises:
            IndexError: If there is no such item.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"there is no item {number}: there are {len(self)}")
        return self._source.sample_at(number)

    def statistics(self, layer: str) -> LayerStatistics:
        """Returns the statistics of a layer; those of a store are of its rows.

        Raises:
            FeatureNotFoundError: If the layer has neither statistics nor features.
            LayoutError: If the dimension of the channels of a stored feature is unknown.
        """
        if layer in self._statistics:
            return self._statistics[layer]
        if layer not in self._from_rows:
            if layer not in self.layers:
                raise FeatureNotFoundError(layer, list(self.layers))
            self._from_rows[layer] = row_statistics(self._stored(layer), self._layout(layer), top=TOP)
        return self._from_rows[layer]

    def histogram(self, layer: str) -> tuple[Tensor, Tensor]:
        """Returns the distribution of each channel, as `LayerStatistics.histogram`; computed once."""
        if layer not in self._histograms:
            self._histograms[layer] = self.statistics(layer).histogram(_BINS)
        return self._histograms[layer]

    def top(self, layer: str, channel: int) -> list[tuple[int, float]]:
        """Returns the items with the largest value of a channel: their numbers and values, largest first.

        Raises:
            IndexError: If there is no such channel.
        """
        found = self.statistics(layer)
        if not 0 <= channel < len(found.count):
            raise IndexError(f"there is no channel {channel}: {layer!r} has {len(found.count)}")
        return [(self._numbers[name], value) for name, value in found.top(channel) if name in self._numbers]

    def neighbours(self, layer: str, query: Tensor | int, count: int) -> list[tuple[int, float]]:
        """Returns the items with the most similar features of a layer: their numbers and cosines.

        Args:
            layer: The layer.
            query: A feature in the shape of a row, or the number of an item, which is then left out.
            count: The number of results.

        Raises:
            LookupError: If there is no store, or it does not have the layer or the item.
        """
        rows, store = self._stored(layer), self.store
        wanted = self.ids[query] if isinstance(query, int) else query
        if store is not None and math.prod(rows.shape) > _MOST_VALUES:
            matches = search(store, wanted, layer, count)
        else:
            matches = self._index(layer).search(wanted, count)
        return [(self._numbers[match.id], match.score) for match in matches]

    def points(self, layer: str, projection: Projection = "pca") -> Tensor:
        """Returns the features of a layer in two dimensions, `[items, 2]`; NaN for items without features.

        Of whole feature maps, the means over positions are used.

        Args:
            layer: The layer.
            projection: `"pca"` (default), the first two principal components, or `"umap"` (McInnes et al., 2018,
                arXiv:1802.03426).

        Raises:
            LookupError: If there is no store, or it does not have the layer.
            ValueError: If items have several rows, or there is no such projection.
            MissingExtraError: If umap-learn is not installed (extra `umap`).
        """
        if projection not in _PROJECTIONS:
            raise ValueError(f"projection must be one of {', '.join(_PROJECTIONS)}, not {projection!r}")
        if (layer, projection) not in self._points:
            rows = self._stored(layer)
            store: Any = self.store
            if layer not in self.comparable:
                raise ValueError(f"{layer!r} has several rows for an item: extract it with reduce='mean'")
            vectors = torch.cat([*self._vectors(layer, rows)])
            finite = vectors.isfinite().all(1)
            numbers = torch.tensor([self._numbers.get(name, -1) for name in store.ids])
            kept = finite & (numbers >= 0)
            found = torch.full((len(self), 2), math.nan)
            found[numbers[kept]] = _PROJECTIONS[projection](vectors[kept])
            self._points[layer, projection] = found
        return self._points[layer, projection]

    def _layout(self, layer: str) -> str | None:
        return self._layouts.get(parse(layer).path)

    def _vectors(self, layer: str, rows: StoredLayer) -> Iterator[Tensor]:
        """Yields the rows of a layer as vectors, a part at a time."""
        size = max(1, _CHUNK // max(1, math.prod(rows.shape[1:])))
        for start in range(0, len(rows), size):
            part = rows[start : start + size].float()
            layout = self._layout(layer)
            if part.ndim > 2 and layout is not None and len(layout) == part.ndim:
                values, positions = channels_last(layer, part, layout)
                part = values.reshape(len(part), positions, -1).mean(1)
            yield part.flatten(1)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the store, and `"folder"` if the items are in several folders."""
        stored = () if self.store is None else self.store.columns
        return (*stored, *([_FOLDER] if len(set(self._folders())) > 1 else []))

    def column(self, name: str) -> list[Any]:
        """Returns the value of a column for each item; None for items without one.

        Raises:
            FeatureNotFoundError: If there is no such column.
        """
        if name == _FOLDER:
            return self._folders()
        if self.store is None:
            raise FeatureNotFoundError(name, list(self.columns), "column")
        values = dict(zip(self.store.ids, self.store.column(name).tolist(), strict=True))
        return [values.get(item) for item in self.ids]

    def _folders(self) -> list[Any]:
        return [str(PurePosixPath(name).parent) for name in self.ids]

    def _stored(self, layer: str) -> StoredLayer:
        """Returns the features of a layer.

        Raises:
            FeatureNotFoundError: If there are none.
        """
        if self.store is None or layer not in self.store:
            raise FeatureNotFoundError(layer, [] if self.store is None else list(self.store.layers))
        return self.store[layer]

    def _index(self, layer: str) -> Index:
        if layer not in self._indices:
            store: Any = self.store
            self._indices[layer] = Index(store, layer)
            while len(self._indices) > _INDICES:
                self._indices.popitem(last=False)
        self._indices.move_to_end(layer)
        return self._indices[layer]


def _pca(vectors: Tensor) -> Tensor:
    """Returns the first two principal components of vectors `[N, D]`: `[N, 2]`."""
    centred = vectors - vectors.mean(0)
    if min(centred.shape) < 2:
        return torch.nn.functional.pad(centred[:, :1], (0, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scaled = scale_down(centred, (0, 1))
        _, _, axes = torch.pca_lowrank(scaled, q=min(8, *centred.shape), center=False, niter=8)
    axes = axes[:, :2]
    # A component has no sign of its own: its largest entry is positive.
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return centred @ (axes * signs)


def _umap(vectors: Tensor) -> Tensor:
    umap = need("umap", "umap")
    size = min(15, len(vectors) - 1)
    # With a seed, UMAP runs in one thread; it warns unless that is asked for.
    found = umap.UMAP(n_neighbors=size, random_state=0, n_jobs=1).fit_transform(scale_down(vectors, (0, 1)).numpy())
    return torch.from_numpy(found).float()


_PROJECTIONS: Final = {"pca": _pca, "umap": _umap}
