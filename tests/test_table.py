"""The table of a run, against what the modules say of themselves."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

import torch_featurelayer as tl
from tests import toys
from tests.reference import holds_hooks, hooked


def test_rows_equal_a_run_under_plain_hooks(resnet18: nn.Module, image: Tensor) -> None:
    """Each path, in the order of definition, with the shape that plain hooks see."""
    table = tl.layers(resnet18, image)
    outputs, _, _ = hooked(resnet18, lambda: resnet18(image))
    assert [row.path for row in table] == ["", *tl.get_layer_candidates(resnet18, max_depth=None)]
    for row in table:
        assert row.output == str(list(outputs[row.path].shape))
        assert row.type == type(resnet18.get_submodule(row.path)).__name__
        assert row.dtypes == ("float32",)
        assert 0 <= row.share <= 1
    assert table["layer1.0.relu"].calls == 2
    assert table["layer1.0"].operations == {"add": 1}
    assert table[""].operations == {"flatten": 1}
    assert table[""].parameters == sum(parameter.numel() for parameter in resnet18.parameters())
    assert holds_hooks(resnet18) == 0


def test_own_times_add_up(resnet18: nn.Module, image: Tensor) -> None:
    """A layer's own time is that of the layers inside taken away; a call that raised an error leaves nothing behind."""
    table = tl.layers(resnet18, image)
    assert sum(row.own for row in table) == pytest.approx(1)
    inside = [row for row in table if row.path.startswith("layer1.0")]
    assert sum(row.own for row in inside) == pytest.approx(table["layer1.0"].share)

    class Falls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError(x)

    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.falls, self.linear = Falls(), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            try:
                x = self.falls(x)
            except ValueError:
                x = self.linear(x)
            return x

    table = tl.layers(nn.Sequential(Tries(), nn.ReLU()), torch.ones(1, 2))
    assert [row.calls for row in table] == [1, 1, 0, 1, 1]
    assert sum(row.own for row in table) == pytest.approx(1)
    assert table["0"].share > table["0.linear"].share > 0


def test_every_operation_it_names_can_be_captured(resnet18: nn.Module, image: Tensor) -> None:
    table = tl.layers(resnet18, image)
    names = [
        f"{row.path}@0:{operation}"
        for row in table
        for operation, count in row.operations.items()
        if count == row.calls
    ]
    feats, _ = tl.FeatureLayers(resnet18, names)(image)
    assert len(feats) == len(names) > 50


def test_structures_and_what_did_not_run() -> None:
    model = nn.Sequential()
    model.add_module("pair", toys.Returns(lambda x: toys.Answer(x, (x, x.long()))))
    model.add_module("unused", nn.ModuleList([nn.Linear(2, 2)]))
    model.forward = lambda x: model.pair(x)  # type: ignore[method-assign]
    table = tl.layers(model, torch.ones(1, 2))
    assert table["pair"].output == "Answer(logits=[1, 2], hidden=([1, 2], [1, 2]), note=str)"
    assert table["pair"].dtypes == ("float32", "int64")
    assert (table["unused.0"].calls, table["unused.0"].output) == (0, "")


def test_prints_and_turns_into_dicts(resnet18: nn.Module, image: Tensor) -> None:
    """Aligned text, a table of rich, escaped HTML, and dicts that JSON takes."""
    table = tl.layers(resnet18, image)
    lines = str(table).splitlines()
    assert len(lines) == len(table) + 1
    assert lines[0].split()[:4] == ["path", "type", "calls", "output"]
    assert "relu ×2" in lines[[row.path for row in table].index("layer1.0.relu") + 1]
    assert json.loads(json.dumps(table.to_dicts()))[5]["path"] == "layer1"
    assert table._repr_html_().count("<tr>") == len(lines)
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=140)
    console.print(table)
    assert "[2, 64, 16, 16]" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [20, 60, 100, 300])
def test_a_narrow_terminal_shows_complete_paths(width: int, resnet18: nn.Module, image: Tensor) -> None:
    """A cut path is no address: columns are left out, and named, before anything is shortened."""
    from io import StringIO

    from rich.console import Console

    table = tl.layers(resnet18, image)
    console = Console(file=StringIO(), width=width)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert ("Columns that do not fit" in " ".join(text.split())) is (width < 140)
    if width >= 60:
        assert {row.path for row in table if row.path} <= {
            line.split()[0] for line in text.splitlines() if line.split()
        }


def test_looks_up_rows(resnet18: nn.Module, image: Tensor) -> None:
    table = tl.layers(resnet18, image)
    assert table[-1].path == "fc"
    assert len(table[:3]) == 3
    with pytest.raises(tl.FeatureNotFoundError, match="Did you mean 'layer4'"):
        _ = table["layr4"]
    with pytest.raises(tl.NotAModuleError):
        tl.layers(nn.ReLU, image)  # type: ignore[arg-type]


def test_a_forward_that_raises_leaves_nothing(small: nn.Sequential) -> None:
    small.append(toys.Raises(RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        tl.layers(small, torch.ones(1, 4))
    assert holds_hooks(small) == 0
    assert torch._C._len_torch_function_stack() == 0
