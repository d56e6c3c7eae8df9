"""`layers`: the table of all layers in one forward pass of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ._table import Table
from .address import check_model
from .engine import profile_model

__all__ = ["LayerRow", "LayerTable", "layers"]


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer in one forward pass.

    Attributes:
        path: The path of the layer; `""` for the model.
        type: The name of its class.
        calls: The number of its calls; 0 if it did not run.
        output: The structure of the output of its last call, with the shapes of tensors.
        dtypes: The dtypes of the tensors in that output.
        operations: The number of times that each functional operation ran directly inside it, over all calls.
        parameters: The number of values in its parameters, including those of the layers inside.
        seconds: The duration of its calls in seconds, including the layers inside.
        share: The duration divided by that of the forward pass, from 0 to 1; the column `time`.
        own: The same without the layers inside, so that those of all layers add up to 1.
    """

    path: str
    type: str
    calls: int
    output: str
    dtypes: tuple[str, ...]
    operations: dict[str, int]
    parameters: int
    seconds: float
    share: float
    own: float

    def cells(self) -> tuple[str, ...]:
        """Returns the text of this row for each column."""
        operations = ", ".join(name if count == 1 else f"{name} ×{count}" for name, count in self.operations.items())
        dtypes, time = ", ".join(self.dtypes), f"{self.share:.1%}" if self.calls else ""
        return self.path, self.type, str(self.calls), self.output, dtypes, operations, f"{self.parameters:,}", time


class LayerTable(Table[LayerRow]):
    """Rows in the order of definition, which print as a table in a terminal, with rich, and in a notebook.

    A row can be indexed by its position or its path.
    """

    _columns = ("path", "type", "calls", "output", "dtype", "operations", "parameters", "time")
    _importance = ("path", "output", "type", "operations", "calls", "parameters", "time", "dtype")
    _numbers = ("calls", "parameters", "time")
    _folded = ("path", "operations")

    def _name(self, row: LayerRow) -> str:
        return row.path

    def _cells(self, row: LayerRow) -> tuple[str, ...]:
        return row.cells()


def layers(model: nn.Module, *args: Any, **kwargs: Any) -> LayerTable:
    """Runs a model once and returns the table of its layers.

    The first forward pass of a process is slower in some layers than later ones: for reliable times, run the model once
    before.

    Args:
        model: The model, any `nn.Module`. It runs in its present mode.
        *args: The positional arguments of the model.
        **kwargs: The keyword arguments of the model.

    Returns:
        A table with a row for each path, the model (`""`) first; a layer under two names has two rows.

    Raises:
        NotAModuleError: If the model is not an `nn.Module`.

    Examples:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
        >>> table = layers(model, torch.ones(1, 4))
        >>> [(row.path, row.type, row.output, row.operations) for row in table[1:]]
        [('0', 'Linear', '[1, 3]', {'linear': 1}), ('1', 'ReLU', '[1, 3]', {'relu': 1})]
    """
    seen = profile_model(check_model(model), args, kwargs)
    whole = seen[id(model)].seconds
    return LayerTable(
        LayerRow(
            path,
            type(module).__name__,
            (entry := seen[id(module)]).calls,
            entry.output,
            entry.dtypes,
            dict(entry.operations),
            sum(parameter.numel() for parameter in module.parameters()),
            entry.seconds,
            entry.seconds / whole if whole else 0.0,
            entry.own_seconds / whole if whole else 0.0,
        )
        for path, module in model.named_modules(remove_duplicate=False)
    )
