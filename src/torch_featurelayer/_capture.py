"""Capture around code that calls the model itself, any number of times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from ._features import Features
from ._reduce import Reduction, reducer
from .address import Selector, check_model, resolve
from .engine import ActivationRecorder, ClonePolicy, Options

__all__ = ["Record", "capture"]

Keep: TypeAlias = Literal["last", "all"] | int


class Record(Features):
    """The features of a `capture`, available as soon as their layer has run; otherwise as `Features`.

    With `keep="last"` each feature is that of the latest forward pass its layer ran
    in, the one under way included; otherwise it is a list of them, the earliest first.
    """

    __slots__ = ("_recorder", "_single")

    def __init__(self, recorder: ActivationRecorder, *, single: bool) -> None:
        self._recorder, self._single = recorder, single

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in the order of the request; a pattern gives the layers it matched that ran."""
        missing = self._recorder.not_run()
        return tuple(request.name for request in self._recorder.requests if request not in missing)

    @property
    def not_run(self) -> tuple[str, ...]:
        """The layers that a pattern matched and that were not called so far."""
        return tuple(request.name for request in self._recorder.not_run())

    @property
    def _values(self) -> tuple[Any, ...]:  # type: ignore[override]
        return tuple(self._at(position) for position in range(len(self.names)))

    def _at(self, position: int) -> Any:
        values = self._recorder.features(self._number(self.names[position]))
        return values[-1] if self._single else values

    def _number(self, name: str) -> int:
        return next(number for number, request in enumerate(self._recorder.requests) if request.name == name)

    def forwards(self, name: str) -> list[int | None]:
        """Returns the zero-based index of the forward pass that produced each kept feature of a layer.

        Args:
            name: The name of the feature.

        Returns:
            One entry for each finished forward pass; None for a call outside any forward pass of the model.

        Raises:
            FeatureNotFoundError: If there is no feature of that name.
        """
        number = self._number(self.names[self._position(name)])
        return [forward for forward, _ in self._recorder.entries[number]]

    def __repr__(self) -> str:
        pairs = zip(self._recorder.requests, self._recorder.entries, strict=True)
        return f"Record({', '.join(f'{request.name!r}: {len(kept)}' for request, kept in pairs)})"


@contextmanager
def capture(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    *,
    keep: Keep = "last",
    clone: ClonePolicy = "lazy",
    detach: bool = False,
    reduce: Reduction | None = None,
    layout: str | Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Iterator[Record]:
    """Captures while inside, wherever the model is called from and however often.

    For a training step, a Hugging Face `generate`, a detector, a recurrent
    loop. One forward pass of the model gives one feature of each layer. So does
    one call of a module around a layer, outside the model's forward; a layer that is
    called outside of any gives a feature for each call. Only calls of the same thread,
    and of the same asyncio task, are captured.

    Args:
        model: Any `nn.Module`.
        layers: As for `FeatureLayers`.
        keep: `"last"` (default) keeps the latest feature of each layer, `"all"` every
            one, a number that many of the latest. Memory is bounded by it.
        clone: `"lazy"` (default) copies on write: right at next to no cost.
            True copies at once. False keeps the model's own tensors.
        detach: Keep features cut from the graph. Default: False; what is kept then holds its graph.
        reduce: `"mean"`, `"max"` (over positions), `"cls"` (the first token), `"flatten"`, or a function from a
            tensor to a tensor, applied as captured. Default: None, whole features.
        layout: What the dimensions of features are, for `reduce`: letters as in `"NCHW"` for all, or a dict from a
            layer's name to letters. Default: None, found from the operations of the model.
        dtype: Convert floating-point features as captured. Default: None, as they are.
        device: Move features as captured. Default: None, where they are.

    Yields:
        A `Record`, which stays readable afterwards.

    Raises:
        ValueError: If `keep` is none of these.
        EmptyRequestError: If no layer is named.
        DuplicateRequestError: If a layer is named twice.
        LayerNotFoundError: If the model has no such layer, or a pattern matches none.
        AddressError: If the text of an address cannot be read.
        NotAModuleError: If the model is not an `nn.Module`.
        ScriptedModuleError: If a layer is inside a TorchScript module.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
        >>> with capture(model, ["0", "1"], keep="all") as feats:
        ...     for _ in range(3):
        ...         output = model(torch.ones(1, 4))
        >>> len(feats["0"]), feats["0"][2].shape
        (3, torch.Size([1, 3]))
    """
    options = Options(clone, detach, None if reduce is None else reducer(reduce), dtype, device, layout)
    recorder = ActivationRecorder(check_model(model), resolve(model, layers), options, _count(keep))
    with recorder.installed():
        yield Record(recorder, single=keep == "last")


def _count(keep: Keep) -> int | None:
    if keep == "last":
        return 1
    if keep == "all":
        return None
    if isinstance(keep, int) and not isinstance(keep, bool) and keep > 0:
        return keep
    raise ValueError(f"keep must be 'last', 'all' or a number from 1, not {keep!r}")
