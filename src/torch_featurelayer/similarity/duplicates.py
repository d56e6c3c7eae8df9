"""Items that are nearly the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .search import only_layer
from .vectors import chunks

if TYPE_CHECKING:
    from ..store import Store


_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Pair:
    """Two items that are alike.

    Attributes:
        first: The id of the earlier one.
        second: The id of the later one.
        score: Their cosine similarity.
    """

    first: str
    second: str
    score: float


def near_duplicates(store: Store, layer: str | None = None, *, threshold: float = 0.95) -> list[Pair]:
    """Finds the pairs of items whose cosine similarity is at least a threshold: exact, every row with every other.

    Args:
        store: The store.
        layer: Which; None where the store holds one.
        threshold: From -1 to 1.

    Returns:
        The pairs, most alike first.

    Raises:
        ValueError: The store holds several layers and none is named.
    """
    rows = store[only_layer(store, layer)]
    found: list[tuple[float, int, int]] = []
    for start, part in chunks(rows, "cosine"):
        for later, other in chunks(rows, "cosine", start):
            scores = part @ other.T
            # the cosine of a row with itself is 1 but for rounding
            for one, two in (scores >= threshold - _ROUNDING).nonzero().tolist():
                if start + one < later + two:
                    found.append((min(scores[one, two].item(), 1.0), start + one, later + two))
    found.sort(key=lambda pair: (-pair[0], pair[1:]))
    return [Pair(store.ids[one], store.ids[two], score) for score, one, two in found]
