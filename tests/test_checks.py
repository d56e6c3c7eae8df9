"""Options of another type or size: an error that names the option, and never an empty result."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from torch_featurelayer.diagnosis import row_statistics
from torch_featurelayer.similarity import Index, search

MAPS = torch.rand(1, 8, 6, 6)
ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def extracted(out: Path, **options: Any) -> Any:
    return tl.extract(nn.Sequential(nn.Linear(4, 3)), "0", ROWS, out, **options)


@pytest.mark.parametrize("name", ["batch_size", "shard_size", "num_threads", "num_actors"])
@pytest.mark.parametrize("count", [0, -1])
def test_extract(name: str, count: int, tmp_path: Path) -> None:
    backend = "ray" if name == "num_actors" else None
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not {count}"):
        extracted(tmp_path / "out", backend=backend, **{name: count})
    assert not (tmp_path / "out").exists()


def test_numbers_that_are_not_whole(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"shard_size must be a whole number, not 2\.0"):
        extracted(tmp_path / "out", shard_size=2.0)
    with pytest.raises(ValueError, match="num_workers must be at least 0, not -1"):
        extracted(tmp_path / "out", num_workers=-1)
    assert len(extracted(tmp_path / "out", shard_size=np.int64(2), batch_size=np.int32(4), num_workers=0)) == 6


def test_other_functions(tmp_path: Path) -> None:
    store = extracted(tmp_path / "out")
    model = nn.Sequential(nn.Linear(4, 3))
    calls = {
        "k": [partial(search, store, ROWS[0, :3], k=0), partial(Index(store).search, ROWS[0, :3], k=-1)],
        "count": [partial(tl.analysis.top_channels, MAPS, 0), partial(tl.figures.plot_channels, MAPS, count=-1)],
        "bins": [partial(tl.figures.plot_histogram, {"0": MAPS}, bins=0)],
        "columns": [partial(tl.figures.plot_histogram, {"0": MAPS}, columns=0)],
        "top": [partial(tl.statistics, model, "0", ROWS, top=-1), partial(row_statistics, store["0"], top=-1)],
        "batch_size": [
            partial(tl.statistics, model, "0", ROWS, batch_size=0),
            partial(tl.plan, model, "0", ROWS, batch_size=0),
            lambda: next(store["0"].rows(0)),
        ],
    }
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(ValueError, match=f"{name} must be at least [01], not"):
                function()


def test_no_channels() -> None:
    with pytest.raises(ValueError, match="plot_channels needs at least one channel"):
        tl.figures.plot_channels(MAPS, which=[])


def test_a_model_without_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'0' has no values: the model is on the device 'meta'"):
        tl.extract(nn.Sequential(nn.Linear(4, 3, device="meta")), "0", ROWS, tmp_path / "out")


MODEL = nn.Sequential(nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"dtype": "float16"}, TypeError, "a torch.dtype, such as torch.float16, not 'float16'"),
        ({"dtype": torch.int8}, ValueError, "a floating-point type, not torch.int8"),
        ({"device": "gpu"}, ValueError, "device='gpu': Expected one of cpu, cuda"),
        ({"device": ""}, ValueError, "device=''"),
        ({"device": True}, TypeError, "not True"),
        ({"device": ["cpu"]}, TypeError, r"a name such as 'cuda:0', a number or a torch.device, not \['cpu'\]"),
        ({"reduce": ["mean"]}, TypeError, r"a name or a function, not \['mean'\]"),
        ({"reduce": 1}, TypeError, "a name or a function, not 1"),
        ({"layout": 3}, tl.LayoutError, "3 is not a layout"),
        ({"layout": ["NC"]}, tl.LayoutError, "is not a layout"),
    ],
)
def test_options_of_another_type(options: dict[str, Any], kind: type[Exception], match: str) -> None:
    """Before anything runs, with the name of the option and the right kind of value."""
    for make in (tl.FeatureLayers, lambda *args, **kwargs: tl.capture(*args, **kwargs).__enter__()):
        with pytest.raises(kind, match=match):
            make(MODEL, ["0"], **options)


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"dtype": "float16"}, TypeError, "dtype must be a torch.dtype"),
        ({"precision": "bfloat16"}, TypeError, "precision must be a torch.dtype"),
        ({"autocast": torch.int8}, ValueError, "autocast must be a floating-point type"),
        ({"device": "gpu"}, ValueError, "device='gpu'"),
        ({"out": None}, TypeError, "out must be a path, not None"),
        ({"generate": "answer"}, TypeError, "generate must be a dict of arguments, not 'answer'"),
        ({"objects": {"treshold": 0.5}}, TypeError, "the arguments threshold, size, and not 'treshold'"),
        ({"columns": None}, tl.DatasetError, "a list of names"),
        ({"columns": {"label": 1}}, tl.DatasetError, "a value for each item"),
        ({"model": "resnet18"}, tl.NotAModuleError, "str"),
        ({"layers": None}, TypeError, "a layer must be an address.*not a NoneType"),
        ({"layers": 3}, TypeError, "a layer must be an address.*not a int"),
        ({"reduce": ["mean"]}, TypeError, "a name or a function"),
    ],
)
def test_options_of_an_extraction(options: dict[str, Any], kind: type[Exception], match: str, tmp_path: Path) -> None:
    given = {"model": MODEL, "layers": ["0"], "data": torch.ones(2, 4), "out": tmp_path / "out", **options}
    with pytest.raises(kind, match=match):
        tl.extract(**given)
    assert not (tmp_path / "out").exists()


def test_arguments_of_other_functions() -> None:
    with pytest.raises(TypeError, match="changes must be a dict.*not a list"), tl.edit(MODEL, ["0"]):  # type: ignore[arg-type]
        pass
    with pytest.raises(TypeError, match="match must be a dict from name to name, a function or 'order'"):
        tl.diff(MODEL, MODEL, torch.ones(1, 4), match=["0"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_depth must be a whole number, not 'all'"):
        tl.get_layer_candidates(MODEL, max_depth="all")  # type: ignore[arg-type]
    with pytest.raises(tl.NotAModuleError):
        tl.plan("resnet18", ["0"], torch.ones(2, 4))  # type: ignore[arg-type]
    with pytest.raises(tl.NotAModuleError):
        tl.statistics(None, ["0"], torch.ones(2, 4))  # type: ignore[arg-type]
    assert tl.statistics(MODEL, ["0"], torch.ones(2, 4), top=None)["0"].positions == 2  # type: ignore[arg-type]


def test_arrays_in_the_place_of_tensors() -> None:
    with pytest.raises(TypeError, match=r"a tensor \[N, T, C\], not a ndarray: torch.as_tensor"):
        tl.analysis.tokens_to_map(np.zeros((1, 16, 8)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"a tensor \[N, \.\.\.\], not a ndarray: torch.as_tensor"):
        tl.similarity.cka(np.zeros((6, 4)), np.zeros((6, 4)))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["maximum", ["max"], None, np.ones(2)])
def test_choices(value: Any, tmp_path: Path) -> None:
    store = extracted(tmp_path / "out")
    calls = {
        r"by must be 'mean' or 'max' or 'std', not": lambda: tl.analysis.top_channels(MAPS, by=value),
        r"metric must be 'cosine' or 'dot', not": lambda: search(store, ROWS[0, :3], metric=value),
        r"finite must be 'record' or 'raise', not": lambda: extracted(tmp_path / "other", finite=value),
        r"on_error must be 'raise' or 'record', not": lambda: tl.guard(nn.ReLU(), on_error=value).__enter__(),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message):
            call()
