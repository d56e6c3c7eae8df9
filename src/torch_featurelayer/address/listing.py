"""What a model offers to be named."""

from __future__ import annotations

from torch import nn

from .resolve import check_model


def get_layer_candidates(model: nn.Module, max_depth: int | None = 1) -> list[str]:
    """Lists the paths of a model's layers, in the order they are defined in.

    A layer that is reachable under two names is listed under both.

    Args:
        model: Any `nn.Module`.
        max_depth: How many names deep to go: 1 gives `features`, 2 also
            `features.0`. None gives all.

    Returns:
        Dotted paths as `nn.Module.named_modules` spells them, without the
        model itself. Each can be given to `FeatureLayer`.

    Raises:
        NotAModuleError: `model` is not an `nn.Module`.
        ValueError: `max_depth` is less than 1.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
        >>> get_layer_candidates(model)
        ['0', '1']
        >>> get_layer_candidates(model, max_depth=2)
        ['0', '1', '1.0', '1.1']
    """
    if max_depth is not None and max_depth < 1:
        raise ValueError(f"max_depth counts from 1 (None for all), not {max_depth}")
    paths = (path for path, _ in check_model(model).named_modules(remove_duplicate=False) if path)
    return [path for path in paths if max_depth is None or path.count(".") < max_depth]
