"""Numbers of layers in some training steps: of their outputs, and the norms of their gradients."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Final

import torch
from torch import Tensor, nn

from .._capture import Record, capture
from .._checks import check_counts
from .._pytree import tensors
from ..address import Selector, locate, resolve

_NAMES: Final = ("mean", "std", "kurtosis", "zeros", "largest", "nonfinite")


class StepMonitor:
    """Captures numbers of layers in every n-th step.

    Args:
        layers: The layers, as in `capture`.
        every: The number of steps from one captured step to the next.
        gradients: Whether the norms of the gradients of parameters are included.
        prefix: What the names of the numbers begin with.
    """

    def __init__(self, layers: Selector | Iterable[Selector], every: int, gradients: bool, prefix: str) -> None:
        check_counts(every=every)
        single = isinstance(layers, (str, nn.Module, type)) or not isinstance(layers, Iterable)
        self._layers: list[Selector] = [layers] if single else list(layers)  # type: ignore[list-item, arg-type]
        self._every, self._gradients, self._prefix = every, gradients, prefix
        self._open = ExitStack()
        self._record: Record | None = None
        self._norms: dict[str, Tensor] = {}

    @property
    def is_complete(self) -> bool:
        """Whether a step is captured whose optimizer has its gradients."""
        return self._record is not None and (bool(self._norms) or not self._gradients)

    def begin(self, model: nn.Module, step: int) -> None:
        """Begins to capture a step, if it is one to capture; it may have several forward passes."""
        if self._record is None and step % self._every == 0:
            context = capture(model, self._layers, reduce=_summarize, detach=True)
            self._record = self._open.enter_context(context)

    def read_gradients(self, model: nn.Module) -> None:
        """Reads the norms of the gradients, before the optimizer uses and clears them."""
        if self._record is None or not self._gradients:
            return
        requests = resolve(model, self._layers)
        modules = locate(model, requests)
        for request in requests:
            grads = [each.grad for each in modules[request.address.path].parameters() if each.grad is not None]
            if grads:
                norms = torch.stack([grad.detach().norm() for grad in grads])
                self._norms[request.name] = norms.norm()

    def end(self) -> dict[str, float]:
        """Ends the capture; returns the numbers by prefix and `layer/name`. It reads the device once."""
        if self._record is None:
            return {}
        record = self._record
        self.close()
        found = {
            f"{self._prefix}{layer}/{name}": value
            for layer, feat in record.items()
            for name, value in zip(_NAMES, next(tensors(feat)), strict=True)
        }
        found |= {f"{self._prefix}{layer}/gradient_norm": norm for layer, norm in self._norms.items()}
        self._norms = {}
        values = torch.stack([each.cpu().double() for each in found.values()]).tolist() if found else []
        return dict(zip(found, values, strict=True))

    def close(self) -> None:
        """Removes the hooks, whatever happened in the step."""
        self._record = None
        self._open.close()


def _summarize(feat: Tensor) -> Tensor:
    """Returns the numbers of one output, on its device."""
    values = torch.view_as_real(feat.detach().resolve_conj()) if feat.is_complex() else feat.detach()
    values = values if values.dtype is torch.float64 else values.float()
    finite = values.isfinite()
    count = finite.sum().clamp(min=1)
    kept = values.where(finite, 0.0)
    largest = kept.abs().max() if kept.numel() else kept.sum()
    # Scaled, because the fourth power of a value may leave the range of its dtype.
    scale = largest.where(largest > 0, 1.0)
    scaled = kept / scale
    mean = scaled.sum() / count
    squares = ((scaled - mean) * finite).square()
    variance = squares.sum() / count
    kurtosis = squares.square().sum() / count / variance.square()
    zeros = (values == 0).sum() / count
    numbers = (mean * scale, variance.sqrt() * scale, kurtosis, zeros, largest, values.numel() - finite.sum())
    return torch.stack([each.to(values.dtype) for each in numbers])
