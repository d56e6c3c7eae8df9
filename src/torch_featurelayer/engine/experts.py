"""Mixtures of experts: the tokens of one expert, and the choices of the router, whatever code runs the experts.

The experts of a layer are one module with stacked weights, which is called with the tokens of a batch, the chosen
experts of each token, and their weights. Implementations of its forward differ (a loop, or one grouped matrix
multiplication) but not its arguments, so the parts are computed from these.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._exceptions import LayerNotFoundError
from .._pytree import tensors
from ..address import EXPERT, ROUTER_INDICES, ROUTER_LOGITS, ROUTER_SCORES, Request
from .captured import CapturedValue


class _Routed(NamedTuple):
    """The arguments of a call of the experts.

    Attributes:
        states: The states of the tokens `[tokens, C]`.
        indices: The chosen experts of each token `[tokens, k]`.
        scores: Their weights `[tokens, k]`.
    """

    states: Tensor
    indices: Tensor
    scores: Tensor


class PartPoint(Protocol):
    """The hook point of a request, which knows the running forward pass."""

    def current(self) -> tuple[Any, CapturedValue] | None:
        """Returns the forward pass and its value; None for a call that does not belong to it."""


class ExpertHook:
    """Records a part of a mixture of experts at the call of its experts or of its router.

    Args:
        point: The hook point of the request.
        request: The request.
        model: The model, which may tell which part of its routers' output the logits are.
    """

    def __init__(self, point: PartPoint, request: Request, model: nn.Module) -> None:
        self._point, self._request, self._model = point, request, model
        self._is_softmax: bool | None = None

    def find(self, block: nn.Module) -> tuple[Callable[..., RemovableHandle], Callable[..., None], dict[str, bool]]:
        """Finds the place of the hook in a block.

        Returns:
            The method that registers the hook, the hook, and the options of the method.

        Raises:
            LayerNotFoundError: If the block has no such module.
        """
        if self._request.address.operation == ROUTER_LOGITS:
            return self._find(block, _find_router(block), "router").register_forward_hook, self._record_logits, {}
        experts = self._find(block, find_experts(block), "experts")
        number, count = self._request.address.number, _count(experts)
        if number is not None and count is not None and number >= count:
            self._refuse(block, f"It has {count} experts, from 0.")
        return experts.register_forward_pre_hook, self._record_part, {"with_kwargs": True}

    @cached_property
    def _declared(self) -> list[Any]:
        """The parts of routers that the model declares as logits; read once, since it walks all modules."""
        return list(_declared(self._model))

    def _find(self, block: nn.Module, found: nn.Module | None, kind: str) -> nn.Module:
        if found is None:
            inside = f"{type(block).__name__} has neither a module of {kind} nor is one"
            self._refuse(block, f"{inside}. Name the block that holds them, such as 'model.layers.1.mlp:expert[0]'.")
        return found  # type: ignore[return-value]

    def _refuse(self, block: nn.Module, hint: str) -> None:
        raise LayerNotFoundError(self._request.name, type(block).__name__, (), hint)

    def _record_part(self, experts: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Records a part of a call of the experts: their pre-hook."""
        if (current := self._point.current()) is None:
            return
        forward, value = current
        routed = _arguments(experts, args, kwargs)
        if routed is None:
            value.fail("the experts are not called with the indices of the experts of each token")
        else:
            with forward.scope.pause():  # computing an output calls modules inside
                part = self._part(experts, routed)
            value.record(part)
        forward.on_record(value)

    def _part(self, experts: nn.Module, routed: _Routed) -> Tensor:
        operation, number = self._request.address.operation, self._request.address.number
        if operation != EXPERT:
            return {ROUTER_INDICES: routed.indices, ROUTER_SCORES: routed.scores}[str(operation)]
        states = routed.states[torch.eq(routed.indices, number or 0).any(-1)]
        if self._request.address.port == "input":
            return states
        # The forward itself, with this expert alone and a weight of 1: its output before weighting.
        chosen = torch.full_like(routed.indices[: len(states), :1], number or 0)
        output: Tensor = experts.forward(states, chosen, torch.ones_like(routed.scores[: len(states), :1]))
        return output

    def _record_logits(self, router: nn.Module, _: Any, output: Any) -> None:
        """Records the logits in the output of the router: its hook."""
        if (current := self._point.current()) is None:
            return
        forward, value = current
        logits = _logits(self._declared, router, output)
        if logits is None:
            value.fail(f"which part of the output of {type(router).__name__} has the logits is not known")
        elif self._are_probabilities(logits):
            # As several models of transformers 5.0 do, under the name of logits.
            value.fail(f"{type(router).__name__} returns probabilities, not logits: capture {ROUTER_SCORES!r}")
        else:
            value.record(logits)
        forward.on_record(value)

    def _are_probabilities(self, logits: Tensor) -> bool:
        """Whether the output of a router is that of a softmax; computed once, since a GPU would have to wait."""
        if self._is_softmax is None:
            values = logits.detach().float()
            sums = values.sum(-1)
            self._is_softmax = bool((values >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
        return self._is_softmax


def find_experts(block: nn.Module) -> nn.Module | None:
    """Returns the experts of a block, or the block itself if it is them; None if it has none."""
    if "Experts" in type(block).__name__:
        return block
    return next((child for child in block.children() if "Experts" in type(child).__name__), None)


def _find_router(block: nn.Module) -> nn.Module | None:
    children = dict(block.named_children())
    named = next((children[name] for name in ("router", "gate") if name in children), None)
    return named or next((child for child in children.values() if "Router" in type(child).__name__), None)


def _count(experts: nn.Module) -> int | None:
    count = getattr(experts, "num_experts", None)
    return count if isinstance(count, int) else None


def _arguments(experts: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Routed | None:
    """Returns the arguments of a call of the experts; None if there are no indices and weights `[tokens, k]`."""
    values = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    if not values or values[0].ndim != 2:
        return None
    states, others = values[0], [value for value in values[1:] if value.ndim == 2 and len(value) == len(values[0])]
    indices = [value for value in others if not value.is_floating_point()]
    scores = [value for value in others if value.is_floating_point()]
    if len(indices) != 1 or len(scores) != 1 or indices[0].shape != scores[0].shape or not _takes_three(experts):
        return None
    return _Routed(states, indices[0].long(), scores[0])


def _takes_three(experts: nn.Module) -> bool:
    return len(inspect.signature(experts.forward).parameters) >= 3


def _logits(declared: list[Any], router: nn.Module, output: Any) -> Tensor | None:
    """Returns the logits in the output of a router; None if they cannot be told from other parts."""
    if isinstance(output, Tensor):
        return output
    # Models of transformers declare the part.
    for recorder in declared:
        if isinstance(router, recorder.target_class) and isinstance(output, tuple):
            part = output[recorder.index]
            return part if isinstance(part, Tensor) else None
    floats = [part for part in tensors(output) if part.is_floating_point()]
    return floats[0] if len(floats) == 1 else None


def _declared(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        declared = getattr(module, "_can_record_outputs", None) or {}
        recorders = declared.get("router_logits", ())
        for recorder in recorders if isinstance(recorders, (list, tuple)) else [recorders]:
            if hasattr(recorder, "target_class"):
                yield recorder
