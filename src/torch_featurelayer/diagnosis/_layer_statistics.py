"""`Statistics`: what is known of the channels of each layer over a dataset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from typing import Any

import torch
from torch import Tensor

from .._exceptions import FeatureNotFoundError
from .._optional import need
from ._accumulate import histogram, quantile

_OUTLIER = 10.0  # times the median root mean square of the channels
_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


class LayerStatistics:
    """The statistics of the channels of one layer. Tensors are `[C]`, in float64 unless stated.

    Values that are not finite are counted in `nonfinite`, and left out of everything else.

    Args:
        layer: The address of the layer.
        state: The accumulated state.
        ids: The ids of the items that it refers to, by number.

    Attributes:
        layer: The address of the layer.
    """

    def __init__(self, layer: str, state: Mapping[str, Tensor], ids: Mapping[int, str]) -> None:
        self.layer, self._state, self._ids = layer, state, ids

    @property
    def positions(self) -> int:
        """The number of positions that each channel rests on: of images, pixels of the map; of texts, tokens."""
        return int((self._state["count"] + self._state["nonfinite"]).max())

    @property
    def count(self) -> Tensor:
        """The number of finite values, in int64."""
        return self._state["count"]

    @property
    def nonfinite(self) -> Tensor:
        """The number of NaN and infinite values, in int64."""
        return self._state["nonfinite"]

    @property
    def mean(self) -> Tensor:
        """The mean; NaN without values."""
        return torch.where(self.count > 0, self._state["mean"], math.nan)

    @property
    def variance(self) -> Tensor:
        """The variance of the population, divided by the number of values."""
        return self._state["second"] / self.count

    @property
    def std(self) -> Tensor:
        """The standard deviation: the root of the variance."""
        return self.variance.sqrt()

    @property
    def kurtosis(self) -> Tensor:
        """The kurtosis, 3 for a normal distribution; NaN for constant channels."""
        return self._state["fourth"] / self.count / self.variance**2

    @property
    def min(self) -> Tensor:
        """The smallest value."""
        return torch.where(self.count > 0, self._state["min"], math.nan)

    @property
    def max(self) -> Tensor:
        """The largest value."""
        return torch.where(self.count > 0, self._state["max"], math.nan)

    @property
    def zeros(self) -> Tensor:
        """The share of values that are zero, from 0 to 1."""
        return self._state["zeros"].double() / self.count

    @property
    def rms(self) -> Tensor:
        """The root mean square."""
        return (self.variance + self.mean**2).sqrt()

    @property
    def dead(self) -> Tensor:
        """The channels that had one value at all positions, such as a ReLU that is always zero, in int64."""
        return ((self._state["min"] == self._state["max"]) & (self.count > 1)).nonzero().flatten()

    @property
    def outliers(self) -> Tensor:
        """The channels whose root mean square is over ten times the median of those that are not zero, in int64."""
        rms = self.rms
        return (rms > _OUTLIER * rms[rms > 0].median()).nonzero().flatten()

    @property
    def covariance(self) -> Tensor:
        """The covariance `[C, C]` of the population.

        Raises:
            ValueError: If it was not accumulated.
        """
        if "products" not in self._state:
            raise ValueError("the covariance was not accumulated: call statistics with covariance=True")
        return self._state["products"] / self.positions

    def quantile(self, share: float) -> Tensor:
        """Returns a quantile of each channel, within 1/64 of its value.

        Magnitudes below 2**-20 of the largest value of the channel count as zero.

        Args:
            share: The share of values below it, from 0 to 1.

        Raises:
            ValueError: If it is not between 0 and 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a quantile is of a share from 0 to 1, not {share}")
        return quantile(self._state, share)

    def histogram(self, bins: int = 32) -> tuple[Tensor, Tensor]:
        """Returns the distribution of the values of each channel, in bins between its smallest and largest value.

        A value is at most 1/32 of itself from its place in the bins, as in `quantile`.

        Args:
            bins: The number of bins. Default: 32.

        Returns:
            The numbers of finite values in each bin `[C, bins]`, not rounded, and the edges of the bins
            `[C, bins + 1]`: new float64 tensors.

        Raises:
            ValueError: If `bins` is below 1.
        """
        if bins < 1:
            raise ValueError(f"a histogram needs one or more bins, not {bins}")
        return histogram(self._state, bins)

    def top(self, channel: int) -> list[tuple[str, float]]:
        """Returns the items with the largest value of a channel at any position: their ids and values, largest first.

        Args:
            channel: The number of the channel.
        """
        values, items = self._state["top_values"][channel].tolist(), self._state["top_items"][channel].tolist()
        return [(self._ids[item], value) for item, value in zip(items, values, strict=True) if item >= 0]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns a dict for each channel, as data frames accept them."""
        columns = {
            "count": self.count, "nonfinite": self.nonfinite, "mean": self.mean, "variance": self.variance,
            "kurtosis": self.kurtosis, "min": self.min, "max": self.max, "zeros": self.zeros,
            **{f"q{share:g}": self.quantile(share) for share in _QUANTILES},
        }  # fmt: skip
        dead, outliers = set(self.dead.tolist()), set(self.outliers.tolist())
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [
            {
                "layer": self.layer, "channel": channel, **dict(zip(columns, row, strict=True)),
                "dead": channel in dead, "outlier": channel in outliers, "top": [name for name, _ in self.top(channel)],
            }
            for channel, row in enumerate(rows)
        ]  # fmt: skip

    def __repr__(self) -> str:
        found = f"{len(self.count):,} channels over {self.positions:,} positions"
        return f"LayerStatistics({self.layer!r}: {found}, {len(self.dead)} dead, {len(self.outliers)} outliers)"


class Statistics(Mapping[str, LayerStatistics]):
    """The statistics of each layer, by its address.

    Args:
        layers: The statistics by layer.
        metadata: What they depend on: model, layers, data, versions.
        num_items: The number of items.
        errors: Pairs of the id of an item that has no features, and why.

    Attributes:
        metadata: What they depend on.
        num_items: The number of items, those without features included.
        errors: Pairs of the id of an item that has no features, and why.
    """

    def __init__(
        self,
        layers: Mapping[str, LayerStatistics],
        metadata: Mapping[str, Any],
        num_items: int,
        errors: tuple[tuple[str, str], ...],
    ) -> None:
        self._layers, self.metadata, self.num_items, self.errors = dict(layers), metadata, num_items, errors

    def __getitem__(self, layer: str) -> LayerStatistics:
        """Returns the statistics of a layer.

        Raises:
            FeatureNotFoundError: If there is no such layer.
        """
        if layer not in self._layers:
            raise FeatureNotFoundError(layer, list(self._layers))
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Returns a dict for each channel of each layer."""
        return [row for layer in self._layers.values() for row in layer.to_dicts()]

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Writes a row for each channel of each layer to a Parquet file.

        Args:
            path: The file.

        Raises:
            MissingExtraError: If pyarrow is not installed.
        """
        arrow, parquet = need("pyarrow", "store"), need("pyarrow.parquet", "store")
        parquet.write_table(arrow.Table.from_pylist(self.to_dicts()), fspath(path))

    def __repr__(self) -> str:
        return "\n".join(
            [f"Statistics of {self.num_items:,} items, {len(self.errors)} errors", *map(repr, self.values())]
        )
