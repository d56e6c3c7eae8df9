"""Errors of stores."""

from __future__ import annotations

from collections.abc import Mapping

from .base import FeatureLayerError


class StoreNotFoundError(FeatureLayerError, FileNotFoundError):
    """There is no store in a folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str, *, moved: bool = False) -> None:
        self.path = path
        hint = "it was moved or deleted since it was opened" if moved else "a store is a folder that `extract` wrote"
        super().__init__(f"no store in {path!r}: {hint}.")


class StoreMismatchError(FeatureLayerError, ValueError):
    """A store holds other features than those to be added.

    Attributes:
        path: The folder.
        differences: What differs: what the store says, and what was asked for, by name.
    """

    def __init__(self, path: str, differences: Mapping[str, tuple[object, object]]) -> None:
        self.path, self.differences = path, dict(differences)
        said = "; ".join(f"{name} is {there!r} there, {new!r} here" for name, (there, new) in self.differences.items())
        super().__init__(f"the store {path!r} holds other features: {said}. Give another folder.")


class StoreLockedError(FeatureLayerError, BlockingIOError):
    """Another writer is at work on a store.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"another process is writing to the store {path!r}.")


class StoreCorruptError(FeatureLayerError, ValueError):
    """A file of a store is not what was written.

    Attributes:
        path: The file.
        problem: What is wrong with it.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path} is damaged: {problem}. Delete it and run again: only its rows are computed anew.")


class StoreTargetError(FeatureLayerError, FileExistsError):
    """A new store cannot be made at a path, since something else is there.

    Attributes:
        path: The path.
        problem: What is there.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"cannot make a store at {path!r}: {problem}. Give a folder that is empty or does not exist.")


class DatasetError(FeatureLayerError, TypeError):
    """Something is not a dataset that items can be read from.

    Attributes:
        found: What was given, in a few words.
        hint: What to give instead.
    """

    def __init__(self, found: str, hint: str) -> None:
        self.found, self.hint = found, hint
        super().__init__(f"cannot read items from {found}: {hint}.")


class EmptyDatasetError(FeatureLayerError, ValueError):
    """A dataset holds no item."""

    def __init__(self) -> None:
        super().__init__("the dataset is empty: no image, or no item, was found.")


class ItemError(FeatureLayerError, ValueError):
    """An item of a dataset cannot be read.

    Attributes:
        id: Of the item.
        reason: Why not.
    """

    def __init__(self, id: str, reason: str) -> None:  # noqa: A002 (that is what it is)
        self.id, self.reason = id, reason
        super().__init__(f"{id}: {reason}")


class FeatureOverflowError(FeatureLayerError, OverflowError):
    """A feature is infinite, most often since it does not fit the dtype it is stored in.

    Attributes:
        layer: The layer.
        dtype: The dtype.
    """

    def __init__(self, layer: str, dtype: str) -> None:
        self.layer, self.dtype = layer, dtype
        super().__init__(f"{layer!r} has infinite values in {dtype}: store it in a wider dtype, such as torch.float32.")
