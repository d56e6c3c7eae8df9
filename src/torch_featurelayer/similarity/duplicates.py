"""Near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .search import names_of_rows, only_layer
from .vectors import chunks

if TYPE_CHECKING:
    from ..store import Store


_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Pair:
    """Two similar items.

    Attributes:
        first: The id of the item with the smaller row number.
        second: The id of the other item.
        score: Their cosine similarity.
    """

    first: str
    second: str
    score: float


def near_duplicates(store: Store, layer: str | None = None, *, threshold: float = 0.95) -> list[Pair]:
    """Finds the pairs of items whose cosine similarity is at least a threshold, among all pairs.

    Args:
        store: The store.
        layer: The layer. Default: None, the only layer of the store.
        threshold: The smallest cosine similarity, from -1 to 1. Default: 0.95.

    Returns:
        The pairs in descending order of similarity. Rows with NaN or infinite values are in no pair.

    Raises:
        ValueError: If `layer` is None and the store has several layers.
        FeatureNotFoundError: If the store has no such layer.
    """
    rows = store[only_layer(store, layer)]
    found: list[tuple[float, int, int]] = []
    for start, part in chunks(rows, "cosine"):
        for later, other in chunks(rows, "cosine", start):
            scores = part @ other.T
            # The cosine similarity of equal rows is 1 up to rounding.
            for one, two in (scores >= threshold - _ROUNDING).nonzero().tolist():
                if start + one < later + two:
                    found.append((min(scores[one, two].item(), 1.0), start + one, later + two))
    found.sort(key=lambda pair: (-pair[0], pair[1:]))
    first, second = names_of_rows(store, [one for _, one, _ in found]), names_of_rows(store, [two for *_, two in found])
    return [Pair(one, two, score) for one, two, (score, *_) in zip(first, second, found, strict=True)]
