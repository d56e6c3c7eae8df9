"""Checks of options that are numbers of things."""

from __future__ import annotations

from operator import index
from typing import Any

__all__ = ["check_counts"]


def check_counts(least: int = 1, **counts: Any) -> None:
    """Checks that options are whole numbers.

    Args:
        least: The least number that is allowed. Default: 1.
        **counts: The options by name; None is allowed for all.

    Raises:
        TypeError: If one is not a whole number.
        ValueError: If one is less.
    """
    for name, count in counts.items():
        if count is None:
            continue
        try:
            index(count)
        except TypeError:
            raise TypeError(f"{name} must be a whole number, not {count!r}") from None
        if count < least:
            raise ValueError(f"{name} must be at least {least}, not {count}")
