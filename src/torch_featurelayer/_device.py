"""The device on which a model expects its inputs."""

from __future__ import annotations

import torch
from torch import nn


def input_device(model: nn.Module) -> torch.device:
    """Returns the device of the first parameter; of an offloaded model, the device on which it computes.

    Args:
        model: The model; the CPU is returned for one without parameters.
    """
    for module in model.modules():
        # accelerate loads offloaded weights for each call; until then they are on the meta device.
        execution = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if execution is not None:
            return torch.device(f"cuda:{execution}" if isinstance(execution, int) else execution)
        for parameter in module.parameters(recurse=False):
            return parameter.device
    return torch.device("cpu")
