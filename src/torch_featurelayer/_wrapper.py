"""`ModelWrapper`: an `nn.Module` around a model that saves and loads like the model itself."""

from __future__ import annotations

from typing import Any

from torch import nn


class ModelWrapper(nn.Module):
    """Holds a model as `.model`. Checkpoints have the keys of the model, without a prefix.

    Attributes:
        model: The wrapped model, which is not copied.
    """

    model: nn.Module

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # `nn.Module.__init__` sets it to True, and the wrapper must not pretend another mode.
        self.training = model.training

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the state dict of the wrapped model."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Loads a state dict into the wrapped model."""
        return self.model.load_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Adds the prefix `model.` to keys, because a larger module loads its children by attribute names."""
        own = [key for key in state_dict if key.startswith(prefix)]
        for key in own:
            state_dict[f"{prefix}model.{key[len(prefix) :]}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)
