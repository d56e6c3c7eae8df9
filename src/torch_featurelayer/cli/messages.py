"""Error messages of the command line: the same facts as in Python, with options in place of arguments."""

from __future__ import annotations

from .._exceptions import (
    FeatureNotFoundError,
    LayerNotFoundError,
    LayoutError,
    StoreMismatchError,
    WeightsNotFoundError,
)
from .._suggest import did_you_mean


def describe_error(error: Exception) -> str:
    """Returns the message of an error, without advice that only applies to Python."""
    if isinstance(error, WeightsNotFoundError):
        place = f" Put the file at {error.file}, or pass" if error.file else " Pass"
        return f"no weights for {error.spec!r}: {error.problem}.{place} --weights FILE, or --weights random."
    if isinstance(error, LayerNotFoundError):
        hint = error.hint and f" {error.hint}"
        suggestion = did_you_mean(error.nearest)
        return f"{error.model} has no layer {error.path!r}.{suggestion}{hint} `featurelayer layers` lists all layers."
    if isinstance(error, LayoutError) and error.name:
        return f"{error.name!r}: {error.problem}. Choose another --layer."
    if isinstance(error, StoreMismatchError) and error.items:
        return str(error).replace("changed='redo'", "--redo")
    if isinstance(error, StoreMismatchError):
        return f"{error} Or pass the options that the store was written with."
    if isinstance(error, KeyError) and not isinstance(error, FeatureNotFoundError):
        return str(error.args[0])
    return str(error)
