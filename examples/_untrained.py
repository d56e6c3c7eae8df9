"""A network that has learnt nothing, to compare with."""

from __future__ import annotations

import torch
from torch import nn


def forget(model: nn.Module) -> None:
    """Gives every layer of a model random weights, always the same."""
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
