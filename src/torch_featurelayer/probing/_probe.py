"""`tl.probe`: how well each layer tells classes apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Final

import numpy
import torch

from .._optional import need
from .._table import Table
from ..analysis._scaling import unit_vectors
from ..store import Store, open_store
from ._data import read_features, read_labels

_CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """The probes of one layer.

    Each accuracy is over all items, each of them predicted by a probe that was not fitted to it.

    Attributes:
        layer: The address of the layer.
        size: The number of values of a feature.
        linear: The accuracy of logistic regression, from 0 to 1.
        linear_interval: Its 95 % confidence interval.
        knn: The accuracy of the nearest neighbours.
        knn_interval: Its 95 % confidence interval.
        selectivity: The linear accuracy minus that of the same probe with shuffled labels.
        baseline: The linear accuracy of the same layer of another store, such as one of random weights; NaN without
            one.
        p_value: The probability of a difference from the best layer as large as observed, or larger, if the layers
            were equally good (McNemar's exact test, Holm's correction for all layers); 1 for the best layer.
    """

    layer: str
    size: int
    linear: float
    linear_interval: tuple[float, float]
    knn: float
    knn_interval: tuple[float, float]
    selectivity: float
    baseline: float
    p_value: float


class ProbeTable(Table[ProbeRow]):
    """The probes of the layers, in the order of the store. It prints as a table with a sentence.

    Args:
        rows: The rows of the table.
        classes: The names of the classes.
        items: The number of items.
        chance: The accuracy of always predicting the largest class.
    """

    _columns = ("layer", "linear", "95 %", "kNN", "selectivity", "baseline", "p", "size")
    _importance = ("layer", "linear", "95 %", "kNN", "p", "selectivity", "baseline", "size")
    _numbers = ("linear", "kNN", "selectivity", "baseline", "p", "size")
    _folded = ("layer",)

    def __init__(self, rows: Iterable[ProbeRow], classes: Sequence[str], items: int, chance: float) -> None:
        super().__init__(rows)
        self.classes, self.items, self.chance = tuple(classes), items, chance

    def _name(self, row: ProbeRow) -> str:
        return row.layer

    def _cells(self, row: ProbeRow) -> tuple[str, ...]:
        interval = " to ".join(f"{end:.1%}" for end in row.linear_interval)
        baseline = "" if numpy.isnan(row.baseline) else f"{row.baseline:.1%}"
        numbers = f"{row.knn:.1%}", f"{row.selectivity:+.1%}", baseline, f"{row.p_value:.2g}", f"{row.size:,}"
        return row.layer, f"{row.linear:.1%}", interval, *numbers

    def _with(self, rows: Iterable[ProbeRow]) -> ProbeTable:
        return ProbeTable(rows, self.classes, self.items, self.chance)

    @property
    def best(self) -> ProbeRow:
        """The layer with the largest linear accuracy; the first of several."""
        return max(self._rows, key=lambda row: row.linear)

    @property
    def equals(self) -> tuple[ProbeRow, ...]:
        """The layers that do not differ significantly from the best one (p of 0.05 or more)."""
        return tuple(row for row in self._rows if row is not self.best and row.p_value >= 1 - _CONFIDENCE)

    @property
    def summary(self) -> str:
        """One sentence that names the best layer and those that do not differ from it."""
        best, others = self.best, self.equals
        interval = " to ".join(f"{end:.1%}" for end in best.linear_interval)
        text = f"{best.layer} is best: {best.linear:.1%} ({interval}) of {self.items:,} items, chance {self.chance:.1%}"
        if not others:
            return f"{text}; every other layer is significantly worse." if len(self) > 1 else f"{text}."
        names = ", ".join(row.layer for row in others)
        return f"{text}; {names} {'does' if len(others) == 1 else 'do'} not differ significantly from it."

    def _remarks(self) -> list[str]:
        return [self.summary]


def probe(
    store: Store | str | PathLike[str],
    label: str | Sequence[Any] = "label",
    *,
    layers: Sequence[str] | None = None,
    folds: int = 5,
    neighbours: int = 5,
    baseline: Store | str | PathLike[str] | None = None,
    seed: int = 0,
) -> ProbeTable:
    """Measures how well each layer of a store tells the classes of its items apart.

    A linear probe is logistic regression on standardised features; a kNN probe takes the class of most of the nearest
    neighbours by cosine distance. Both are cross-validated, and do not change the model. The selectivity [1]_ tells
    what a layer knows from what its probe learns by heart.

    Args:
        store: A store with one row for each item, or its folder.
        label: The column of the classes, or a class for each item in the order of `store.ids`. Default: `"label"`.
        layers: The layers. Default: None, all layers of the store.
        folds: The number of folds of the cross-validation, stratified by class. Default: 5.
        neighbours: The number of neighbours. Default: 5.
        baseline: A store of the same items from another model, such as the same network with random weights, whose
            layers are probed too. Default: None.
        seed: The seed of folds and shuffled labels. Default: 0.

    Returns:
        A `ProbeTable`, whose `summary` names the best layer and those that do not differ from it.

    Raises:
        FeatureNotFoundError: If the store has no such column or layer.
        ValueError: If an item has no label, a class has fewer items than there are folds, items have several rows,
            values are not finite, or the stores have other items.
        MissingExtraError: If scikit-learn is not installed.

    References:
        .. [1] Hewitt and Liang, "Designing and Interpreting Probes with Control Tasks", 2019,
           https://arxiv.org/abs/1909.03368
    """
    store = store if isinstance(store, Store) else open_store(store)
    other = open_store(baseline) if baseline is not None and not isinstance(baseline, Store) else baseline
    if other is not None and other.ids != store.ids:
        raise ValueError("the baseline must have the same items in the same order as the store")
    labels = read_labels(store, label, folds)
    splits = _split(labels, folds, seed)
    shuffled = numpy.random.default_rng(seed).permutation(labels)
    names = list(layers or _by_depth(store))
    right: dict[str, numpy.ndarray[Any, Any]] = {}
    rows = []
    for name in names:
        features = read_features(store, name)
        right[name] = _predict(linear_classifier(), features, labels, splits) == labels
        # Of length 1, because scikit-learn takes vectors shorter than 1e-6 for longer ones.
        vectors = unit_vectors(torch.from_numpy(features), 1).numpy()
        near = _predict(_nearest(neighbours), vectors, labels, splits) == labels
        control = _predict(linear_classifier(), features, shuffled, _split(shuffled, folds, seed)) == shuffled
        base = float("nan")
        if other is not None and name in other.layers:
            base = float((_predict(linear_classifier(), read_features(other, name), labels, splits) == labels).mean())
        accuracy = float(right[name].mean())
        rows.append(
            ProbeRow(
                name, features.shape[1], accuracy, interval(right[name]), float(near.mean()), interval(near),
                accuracy - float(control.mean()), base, 1.0,
            )
        )  # fmt: skip
    classes, counts = numpy.unique(labels, return_counts=True)
    chance = float(counts.max() / len(labels))
    return ProbeTable(_compare(rows, right), classes.tolist(), len(labels), chance)


def _by_depth(store: Store) -> list[str]:
    """Returns the layers in the order in which they were requested; that of a store is alphabetical."""
    requested = store.metadata.get("layers") or []
    return sorted(store.layers, key=lambda name: requested.index(name) if name in requested else len(requested))


def _split(labels: numpy.ndarray[Any, Any], folds: int, seed: int) -> list[Any]:
    selection = need("sklearn.model_selection", "probe")
    folding = selection.StratifiedKFold(folds, shuffle=True, random_state=seed)
    return list(folding.split(numpy.zeros(len(labels)), labels))


def _predict(
    classifier: Any, features: numpy.ndarray[Any, Any], labels: numpy.ndarray[Any, Any], splits: list[Any]
) -> numpy.ndarray[Any, Any]:
    """Returns a prediction for each item, by the classifier that was fitted to the other folds."""
    predict = need("sklearn.model_selection", "probe").cross_val_predict
    found: numpy.ndarray[Any, Any] = predict(classifier, features, labels, cv=splits)
    return found


def linear_classifier() -> Any:
    """Returns the classifier of linear probes and heads: logistic regression on standardised features."""
    scale = need("sklearn.preprocessing", "probe").StandardScaler()
    regression = need("sklearn.linear_model", "probe").LogisticRegression(max_iter=1000)
    return need("sklearn.pipeline", "probe").make_pipeline(scale, regression)


def _nearest(neighbours: int) -> Any:
    return need("sklearn.neighbors", "probe").KNeighborsClassifier(neighbours, metric="cosine")


def interval(right: numpy.ndarray[Any, Any]) -> tuple[float, float]:
    """Returns the 95 % confidence interval of an accuracy (Wilson)."""
    test = need("scipy.stats", "probe").binomtest(int(right.sum()), len(right))
    found = test.proportion_ci(_CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def _compare(rows: list[ProbeRow], right: dict[str, numpy.ndarray[Any, Any]]) -> list[ProbeRow]:
    """Returns rows with the p-value of their difference from the best one."""
    best = max(rows, key=lambda row: row.linear)
    values = {row.layer: _mcnemar(right[best.layer], right[row.layer]) for row in rows if row is not best}
    adjusted, largest = {}, 0.0
    for number, (name, value) in enumerate(sorted(values.items(), key=lambda pair: pair[1])):
        largest = max(largest, min(1.0, value * (len(values) - number)))
        adjusted[name] = largest
    return [
        ProbeRow(
            row.layer, row.size, row.linear, row.linear_interval, row.knn, row.knn_interval, row.selectivity,
            row.baseline, adjusted.get(row.layer, 1.0),
        )
        for row in rows
    ]  # fmt: skip


def _mcnemar(one: numpy.ndarray[Any, Any], other: numpy.ndarray[Any, Any]) -> float:
    """Returns the p-value of two classifiers on the same items, from those that only one of them gets right."""
    first, second = int((one & ~other).sum()), int((~one & other).sum())
    if not first + second:
        return 1.0
    return float(need("scipy.stats", "probe").binomtest(first, first + second).pvalue)
