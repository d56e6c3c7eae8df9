"""`capture`: features in code that calls the model itself, any number of times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from ._features import Features
from ._reduce import Reductions, make_reducers
from .address import Selector, check_model, resolve
from .engine import ActivationRecorder, ClonePolicy, Options, Tokens

__all__ = ["Record", "capture"]

Keep: TypeAlias = Literal["last", "all"] | int


class Record(Features):
    """The features of a `capture`, available as soon as their layer has run; otherwise like `Features`.

    With `keep="last"`, a feature is that of the latest forward pass in which its layer ran, including the one that is
    running. With other values of `keep`, it is a list of the features of several forward passes, the earliest first.
    """

    __slots__ = ("_recorder", "_single")

    def __init__(self, recorder: ActivationRecorder, *, single: bool) -> None:
        self._recorder, self._single = recorder, single

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features in the order of the request; for a pattern, those of its layers that ran."""
        missing = self._recorder.not_run()
        return tuple(request.name for request in self._recorder.requests if request not in missing)

    @property
    def not_run(self) -> tuple[str, ...]:
        """The names of the layers that match a pattern and have not been called so far."""
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
        """Returns the zero-based index of the forward pass that produced each kept feature.

        Args:
            name: The name of the feature.

        Returns:
            An index for each finished forward pass; None for a call outside a forward pass of the model.

        Raises:
            FeatureNotFoundError: If no feature has this name.
        """
        number = self._number(self.names[self._position(name)])
        return [forward for forward, _ in self._recorder.entries[number]]

    def __repr__(self) -> str:
        pairs = zip(self._recorder.requests, self._recorder.entries, strict=True)
        return f"Record({', '.join(f'{request.name!r}: {len(kept)}' for request, kept in pairs)})"

    def _rows(self) -> Iterator[tuple[str, Any]]:
        """Yields names and features; of several forward passes, the features of the latest."""
        for name, value in super()._rows():
            yield name, value[-1] if isinstance(value, list) and not self._single and value else value


@contextmanager
def capture(
    model: nn.Module,
    layers: Selector | Iterable[Selector],
    *,
    keep: Keep = "last",
    clone: ClonePolicy = "lazy",
    detach: bool = False,
    reduce: Reductions = None,
    tokens: Tokens | None = None,
    layout: str | Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Iterator[Record]:
    """Captures features while the context is open, from any code that calls the model.

    Use it for training steps, `generate` of Hugging Face models, detectors and recurrent loops. A forward pass of the
    model produces one feature of each layer. A call of a module around a layer, outside a forward pass of the model,
    also produces one; a layer that is called outside both produces one for each call. Only calls of the same thread and
    the same asyncio task are captured.

    Note:
        Unless `detach` is set, kept features hold their graphs in memory.

    Args:
        model: The model, any `nn.Module`.
        layers: The layers, one or a list: addresses, globs (`"layer*.0"`, `"**.conv1"`), modules, module types
            (`nn.ReLU`) or compiled regular expressions.
        keep: The number of features of each layer to keep: `"last"` (default) for the latest one, `"all"`, or a number
            of latest ones. It bounds the memory.
        clone: How features are kept: `"lazy"` (default) copies on write, which costs next to nothing; True copies at
            once; False keeps the model's own tensors.
        detach: Whether to detach features from the graph. Default: False.
        reduce: The reduction of each feature, as in `FeatureLayers`. Default: None, whole features.
        tokens: The tokens of a batch of texts to keep, as in `FeatureLayers`. Default: None, all positions; reductions
            leave out padding, by the `attention_mask` among the arguments.
        layout: The layout of features, for `reduce`: letters such as `"NCHW"` for all layers, or a dict from layer to
            letters. Default: None, determined from the operations of the model.
        dtype: The dtype that floating-point features are converted to. Default: None, the dtype of the model.
        device: The device that features are moved to. Default: None, the device of the model.

    Yields:
        A `Record`, which can be read while the context is open and afterwards.

    Raises:
        ValueError: If `keep` is invalid.
        EmptyRequestError: If no layer is named.
        DuplicateRequestError: If a layer is named twice.
        LayerNotFoundError: If the model has no such layer, or no layer matches a pattern.
        AddressError: If an address cannot be parsed.
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
    options = Options(clone, detach, make_reducers(reduce), dtype, device, layout, tokens)
    requests = resolve(check_model(model), layers)
    options.check_names([request.name for request in requests])
    recorder = ActivationRecorder(model, requests, options, _count(keep))
    with recorder.activate():
        yield Record(recorder, single=keep == "last")


def _count(keep: Keep) -> int | None:
    if keep == "last":
        return 1
    if keep == "all":
        return None
    if isinstance(keep, int) and not isinstance(keep, bool) and keep > 0:
        return keep
    raise ValueError(f"keep must be 'last', 'all' or a positive integer, not {keep!r}")
