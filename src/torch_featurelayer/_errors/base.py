"""The base of every error, and the wording they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], limit: int = 3, alike: float = 0.5) -> list[str]:
    """Returns the names most like `name`, the most alike first; `alike` is the least likeness, 1 for the same."""
    return get_close_matches(name, list(known), n=limit, cutoff=alike)


def quoted(names: Sequence[str], limit: int = 8) -> str:
    """Returns names for a message: quoted, comma separated, the rest counted."""
    shown = ", ".join(repr(name) for name in names[:limit])
    more = len(names) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def did_you_mean(names: Sequence[str]) -> str:
    return f" Did you mean {quoted(names)}?" if names else ""


class FeatureLayerError(Exception):
    """The base of every error of this package; pickled and copied, an error keeps its message and its fields."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[FeatureLayerError], args: tuple[object, ...], fields: dict[str, object]) -> FeatureLayerError:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(fields)
    return error
