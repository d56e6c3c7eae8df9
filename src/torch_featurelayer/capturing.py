"""Capture around code that calls the model itself, any number of times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from ._errors import FeatureLayerError
from .address import Selector, checked, resolve
from .engine import ClonePolicy, Options, Recording
from .features import Features
from .reduce import Reduction, reduction

__all__ = ["Record", "capture"]

Keep: TypeAlias = Literal["last", "all"] | int


class Record(Features):
    """The features of a `capture`, there as soon as their layer has run; otherwise as `Features`.

    With `keep="last"` each feature is that of the latest forward its layer ran
    in; otherwise a list of them, the earliest first.
    """

    __slots__ = ("_recording", "_single")

    def __init__(self, recording: Recording, *, single: bool) -> None:
        self._recording, self._single = recording, single
        self._names = tuple(request.name for request in recording.requests)

    @property
    def _values(self) -> tuple[Any, ...]:  # type: ignore[override]
        return tuple(map(self._value, range(len(self._names))))

    def _value(self, number: int) -> Any:
        self._recording.check_ran(number)
        values = [_checked(value) for _, value in self._recording.entries[number]]
        return values[-1] if self._single else values

    def _at(self, position: int) -> Any:
        return self._value(range(len(self._names))[position])

    def forwards(self, name: str) -> list[int | None]:
        """Returns of which forward of the model, from 0, each kept feature of a layer is.

        None stands for a call outside any forward of the model.

        Raises:
            FeatureNotFoundError: There is no feature of that name.
        """
        return [number for number, _ in self._recording.entries[self._position(name)]]

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        counts = (f"{name!r}: {len(kept)}" for name, kept in zip(self._names, self._recording.entries, strict=True))
        return f"Record({', '.join(counts)})"


def _checked(value: Any) -> Any:
    if isinstance(value, FeatureLayerError):
        raise value
    return value


@contextmanager
def capture(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    *,
    keep: Keep = "last",
    clone: ClonePolicy = "lazy",
    detach: bool = False,
    reduce: Reduction | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Iterator[Record]:
    """Captures while inside, whoever calls the model and however often.

    For a training step, a Hugging Face `generate`, a detector, a recurrent
    loop. One forward of the model gives one feature of each layer; a layer
    that is called outside any forward of the model gives one for each call.
    Calls from other threads are not captured.

    Args:
        model: Any `nn.Module`.
        layers: As for `FeatureLayers`.
        keep: `"last"` keeps the latest feature of each layer, `"all"` every
            one, a number the latest so many. Memory is bounded by it.
        clone: As for `FeatureLayer`, as are the options that follow.
        detach: As there. Without it, what is kept holds its graph.
        reduce: As there.
        dtype: As there.
        device: As there.

    Yields:
        A `Record`, which stays readable afterwards.

    Raises:
        ValueError: `keep` is none of these.
        LayerNotFoundError, AddressError, NotAModuleError, ScriptedModuleError: What they say.
        EmptyRequestError, DuplicateRequestError: What they say.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
        >>> with capture(model, ["0", "1"], keep="all") as feats:
        ...     for _ in range(3):
        ...         output = model(torch.ones(1, 4))
        >>> len(feats["0"]), feats["0"][2].shape
        (3, torch.Size([1, 3]))
    """
    options = Options(clone, detach, reduction(reduce) if reduce else None, dtype, device)
    recording = Recording(checked(model), resolve(model, layers), options, _count(keep))
    with recording.installed():
        yield Record(recording, single=keep == "last")


def _count(keep: Keep) -> int | None:
    if keep == "last":
        return 1
    if keep == "all":
        return None
    if isinstance(keep, int) and not isinstance(keep, bool) and keep > 0:
        return keep
    raise ValueError(f"keep must be 'last', 'all' or a number from 1, not {keep!r}")
