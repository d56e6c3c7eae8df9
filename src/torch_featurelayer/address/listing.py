"""`get_layer_candidates`: the layers of a model."""

from __future__ import annotations

from torch import nn

from .._checks import check_counts
from .resolve import check_model


def get_layer_candidates(model: nn.Module, max_depth: int | None = 1) -> list[str]:
    """Lists the paths of a model's layers in the order of definition.

    A layer that is reachable under two names is listed under both.

    Args:
        model: The model, any `nn.Module`.
        max_depth: The largest number of names in a path: 1 lists `features`, 2 also `features.0`, None all layers.
            Default: 1.

    Returns:
        The dotted paths of `nn.Module.named_modules`, without the model itself. Each can be passed to `FeatureLayer`.

    Raises:
        NotAModuleError: If the model is not an `nn.Module`.
        TypeError: If `max_depth` is not a whole number.
        ValueError: If `max_depth` is less than 1.

    Examples:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
        >>> get_layer_candidates(model)
        ['0', '1']
        >>> get_layer_candidates(model, max_depth=2)
        ['0', '1', '1.0', '1.1']
    """
    check_counts(max_depth=max_depth)
    paths = (path for path, _ in check_model(model).named_modules(remove_duplicate=False) if path)
    return [path for path in paths if max_depth is None or path.count(".") < max_depth]
