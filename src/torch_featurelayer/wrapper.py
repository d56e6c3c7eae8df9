"""An `nn.Module` around a model that saves and loads as the model itself."""

from __future__ import annotations

from typing import Any

from torch import nn


class ModelWrapper(nn.Module):
    """Holds a model as `.model`; checkpoints carry no trace of the wrapper.

    Attributes:
        model: The wrapped model, the same object.
    """

    model: nn.Module

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.register_load_state_dict_pre_hook(_add_prefix)  # type: ignore[no-untyped-call]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the wrapped model's own state dict."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Loads a state dict of the wrapped model into it."""
        return self.model.load_state_dict(*args, **kwargs)


def _add_prefix(_module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Renames the keys of a wrapper inside a larger module, whose loading goes by attribute names."""
    own = [key for key in state if key.startswith(prefix)]
    for key in own:
        state[f"{prefix}model.{key[len(prefix) :]}"] = state.pop(key)
