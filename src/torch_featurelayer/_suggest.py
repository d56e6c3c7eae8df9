"""Wording shared by error messages: the closest names, and lists of names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], limit: int = 3, cutoff: float = 0.5) -> list[str]:
    """Returns the known names most similar to a name, the most similar first.

    Args:
        name: The name.
        known: The names to choose from.
        limit: The largest number of names to return. Default: 3.
        cutoff: The least similarity, from 0 to 1 for equal names. Default: 0.5.
    """
    return get_close_matches(name, list(known), n=limit, cutoff=cutoff)


def quote(names: Sequence[str], limit: int = 8) -> str:
    """Returns names for a message: quote, separated by commas, those beyond the limit counted."""
    shown = ", ".join(repr(name) for name in names[:limit])
    more = len(names) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def did_you_mean(names: Sequence[str]) -> str:
    """Returns the question that suggests names, with a blank in front; empty without names."""
    return f" Did you mean {quote(names)}?" if names else ""
