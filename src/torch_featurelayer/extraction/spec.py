"""`FeatureSpec`: what features are computed, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .._device import input_device
from .._feature_layer import FeatureLayers
from .._layout import layout_for
from .._layouts import find_layouts
from .._reduce import Reductions
from ..engine import ClonePolicy, Tokens
from .detecting import Detecting
from .generating import Continuation, GenerationTokens
from .modes import EAGER, Mode

Capture: TypeAlias = Callable[..., Mapping[str, Any]]
"""A function from the arguments of a model to features by layer."""


@dataclass(frozen=True)
class FeatureSpec:
    """The specification of features, which any process can compute.

    Attributes:
        model: The model, in eval mode and on its device.
        layers: The addresses of the layers.
        reduce: The reduction, or that of each layer, as in `FeatureLayers`.
        tokens: The tokens, as in `FeatureLayers`; None for all tokens of texts.
        layout: The layout, as in `FeatureLayers`.
        dtype: The dtype of stored features; None for that of the model.
        autocast: The dtype that layers compute in under `torch.autocast`; None for no autocast.
        precision: The dtype that the weights and inputs of a copy of the model are converted to; None for the model
            itself.
        mode: How the model runs.
        example: A full batch of inputs; only inputs of its shape run in a mode other than eager.
        continuation: How the model continues texts; None to run it on the texts alone.
        detecting: How objects are found in images, for a row for each object; None for a row for each image.
    """

    model: nn.Module
    layers: tuple[str, ...]
    reduce: Reductions = None
    tokens: Tokens | None = None
    layout: str | Mapping[str, str] | None = None
    dtype: torch.dtype | None = None
    autocast: torch.dtype | None = None
    precision: torch.dtype | None = None
    mode: Mode = EAGER
    example: Any = None
    continuation: Continuation | None = None
    detecting: Detecting | None = None

    @cached_property
    def device(self) -> torch.device:
        """The device of the model."""
        return input_device(self.model)

    def capture(self, model: nn.Module, clone: ClonePolicy = "lazy") -> FeatureLayers:
        """Returns the capture of the layers in this model or in a copy of it."""
        return FeatureLayers(
            model,
            list(self.layers),
            reduce=self.reduce,
            tokens=self.tokens,
            layout=self.layout,
            clone=clone,
            detach=True,
        )

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Runs the model without gradients, in the chosen precision."""
        kind, dtype = self.device.type, self.autocast
        # An enclosing autocast is no part of the specification.
        is_other = dtype is not None or enclosing_autocast(self.device) is not None
        autocast = torch.autocast(kind, dtype, enabled=dtype is not None) if is_other else nullcontext()
        # Not inference_mode, for which compiled code would be compiled again.
        with torch.no_grad(), autocast:
            yield

    def with_tokens(self, tokens: GenerationTokens | None, generate: Mapping[str, Any] | None) -> FeatureSpec:
        """Returns this specification with a choice of tokens, and of how the model continues texts.

        Args:
            tokens: The tokens.
            generate: The arguments of the model's `generate`; None to run the model on texts alone.

        Raises:
            ValueError: If the tokens are those of a generation and there is none.
        """
        if generate is not None:
            return replace(self, continuation=Continuation(generate, tokens))
        if tokens == "prompt" or tokens == "answer":
            raise ValueError(f"tokens={tokens!r} needs generate=, such as generate={{'max_new_tokens': 20}}")
        return replace(self, tokens=tokens)

    def find_layout(self, name: str) -> str | None:
        """Returns the layout that the user gave for a layer."""
        return layout_for(self.layout, name)

    def for_texts(self, inputs: Mapping[str, Tensor]) -> FeatureSpec:
        """Returns this specification for texts: with layouts, which do not depend on lengths, and a choice of tokens.

        Args:
            inputs: The arguments of the model for a batch of texts.

        Raises:
            ValueError: If some features have a row for each token and others a row for each text.
        """
        with torch.no_grad():
            found = find_layouts(self.model, list(self.layers), **inputs)
        layouts = {name: text for name in self.layers if (text := self.find_layout(name) or found.get(name))}
        whole = [name for name in self.layers if not self.reduces(name)]
        by_token = [name for name in whole if len(layouts.get(name, "")) == 3]
        if by_token and len(by_token) < len(self.layers):
            other = next(name for name in self.layers if name not in by_token)
            raise ValueError(
                f"{by_token[0]!r} has a row for each token and {other!r} a row for each text: extract them to two "
                "stores, or set reduce="
            )
        return replace(self, layout=layouts, tokens=self.tokens or ("all" if by_token else None))

    def reduces(self, name: str) -> bool:
        """Whether the feature of a layer is reduced."""
        return (self.reduce.get(name) if isinstance(self.reduce, Mapping) else self.reduce) is not None


def enclosing_autocast(device: torch.device) -> torch.dtype | None:
    """Returns the dtype of the `torch.autocast` that this call is in; None outside one."""
    is_on = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if is_on else None


def as_function(layers: FeatureLayers) -> Capture:
    """Returns a function from the arguments of the model to its features by layer."""
    return lambda *args, **kwargs: layers.features(*args, **kwargs).to_dict()
