"""`diff` and `record_run`: the layer at which two forward passes part."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from typing import Any, Final, TypeAlias

from torch import nn

from ..address import Selector, check_model
from ._compare import Comparison, Match
from ._diff_table import DiffTable
from ._runs import EVERYTHING, load_run, run_layers, save_run, split_inputs

Source: TypeAlias = nn.Module | str | PathLike[str]

_RTOL: Final = 1e-5


def record_run(
    path: str | PathLike[str],
    model: nn.Module,
    *inputs: Any,
    layers: Selector | Iterable[Selector] = EVERYTHING,
    **kwargs: Any,
) -> None:
    """Runs a model once and writes the outputs of its layers to a file, to be compared elsewhere with `diff`.

    Args:
        path: The safetensors file to write. It has the tensor arguments too.
        model: The model. It runs in its present mode, with fixed seeds and without gradients.
        *inputs: The positional arguments of the model.
        layers: The modules whose outputs are written. Default: `"**"`, all modules and the model.
        **kwargs: The keyword arguments of the model.

    Raises:
        LayerNotFoundError: If the model has no such layer.
        ValueError: If a request names something other than a module.
        TransformError: If one of `layers` runs in a transform of `torch.func`; with the default, it is left out.
        MissingExtraError: If safetensors is not installed.
    """
    save_run(path, run_layers(check_model(model), layers, inputs, kwargs))


def diff(
    a: Source,
    b: Any,
    *inputs: Any,
    layers: Selector | Iterable[Selector] = EVERYTHING,
    match: Match | None = None,
    rtol: float = _RTOL,
    under: tuple[AbstractContextManager[Any], AbstractContextManager[Any]] | None = None,
    **kwargs: Any,
) -> DiffTable:
    """Compares the outputs of all layers of two models, or of one model in two contexts, in the order of execution.

    Both run in their present mode, without gradients, on copies of the same inputs and with the same seeds. Afterwards,
    the generators of random numbers and the buffers are those before. The outputs of all layers of `a` are held in
    memory; those of `b` too with `under`, `match="order"` and compiled models.

    Args:
        a: The first model, or the path of a file of `record_run`.
        b: The second model or path; with `under`, the first input.
        *inputs: The positional arguments of both models; converted to the dtype and device of each. Default: those that
            were recorded.
        layers: The modules to compare. Default: `"**"`, all modules and the model.
        match: How layers are paired. Default: None, by name; a dict from names of `a` to names of `b`, also for the
            layers inside; a function from a name of `a` to one of `b` or None; or `"order"`, which pairs layers without
            layers inside, or with parameters, in the order of execution, by their types and the shapes of outputs.
        rtol: The relative error above which a layer differs. Default: 1e-5, for float32 on the same kind of processor.
        under: Two contexts, in which `a` is run: `tl.diff(model, x, under=(nullcontext(), torch.autocast("cpu")))`.
            Default: None.
        **kwargs: The keyword arguments of both models.

    Returns:
        A table with a row for each call of a layer in both runs; `.first()` is the first that differs.

    Raises:
        ValueError: If no layer of `a` is paired with one of `b`.
        LayerNotFoundError: If a model has no such layer.
        FileNotFoundError: If there is no such file.
        StoreCorruptError: If a file is not a recorded run.
        NotAModuleError: If `a` or `b` is neither a model nor a path.
        TransformError: If one of `layers` runs in a transform of `torch.func`, where its outputs cannot be kept; with
            the default, such layers are left out, with a note.

    Examples:
        >>> import copy
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> other = copy.deepcopy(model)
        >>> other[2].bias.data += 0.1
        >>> diff(model, other, torch.ones(1, 4)).first().name
        '2'
    """
    if under is not None:
        inputs, b = (b, *inputs), a
    contexts: tuple[AbstractContextManager[Any], ...] = under or (nullcontext(), nullcontext())
    recorded = [load_run(each) if isinstance(each, (str, PathLike)) else None for each in (a, b)]
    if not inputs and not kwargs and (known := next(filter(None, recorded), None)) is not None:
        inputs, kwargs = split_inputs(known.inputs)
    # The second model may have other names: its layers are then chosen by pairing alone.
    wanted = (layers, layers if match is None else EVERYTHING)
    with contexts[0]:
        first = recorded[0] or run_layers(check_model(a), wanted[0], inputs, kwargs)
    comparison = Comparison(first, match)
    # Not while a context is active, which could change how outputs are compared.
    visit = comparison.add if under is None and match != "order" else None
    with contexts[1]:
        second = recorded[1] or run_layers(check_model(b), wanted[1], inputs, kwargs, visit)
    table = comparison.table(second, rtol)
    return table if wanted[0] == wanted[1] else DiffTable(table, rtol, table.only_a, (), table.notes)
