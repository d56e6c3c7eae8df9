"""Quantized weights, through torchao or the library of a checkpoint."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, get_args

import torch
from torch import nn

from .._optional import need

QuantizationName: TypeAlias = Literal["int8", "int4"]
Quantization: TypeAlias = QuantizationName | Any

_GROUP: Final = 32  # the weights that share a scale, which must divide the inputs of each layer


def is_of_transformers(quantization: Any) -> bool:
    """Whether a configuration is one of transformers, which quantizes while it loads."""
    return hasattr(quantization, "quant_method")


def quantize(model: nn.Module, quantization: Quantization) -> None:
    """Quantizes the weights of the linear layers of a model in place, with torchao.

    Args:
        model: The model.
        quantization: `"int8"`, `"int4"` or a configuration of torchao.

    Raises:
        ValueError: If it is none of these.
        ImportError: If torchao is too old for `"int4"`.
    """
    library = need("torchao.quantization", "large")
    if quantization == "int8":
        quantization = library.Int8WeightOnlyConfig()
    elif quantization == "int4":
        if not hasattr(library, "IntxWeightOnlyConfig"):
            raise ImportError("quantization='int4' needs a newer torchao: pip install --upgrade torchao")
        granularity = library.PerGroup(_GROUP)
        quantization = library.IntxWeightOnlyConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]  # of recent releases
            granularity=granularity,
        )
    elif isinstance(quantization, str):
        names = ", ".join(map(repr, get_args(QuantizationName)))
        raise ValueError(f"quantization must be {names} or a configuration, not {quantization!r}")
    library.quantize_(model, quantization)
