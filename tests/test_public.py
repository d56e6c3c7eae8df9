"""The public surface is exact, and importing it is cheap and silent."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import operator
import re
import subprocess
import sys
from pathlib import Path

import pytest

import torch_featurelayer as tl

ROOT = Path(__file__).parents[1]

PUBLIC = """
AddressError AmbiguousCallError AmbiguousOperationError BackendError CallNotMadeError CompileError DatasetError
DetectorError DeviceError DiffRow DiffTable DuplicateRequestError EditError EmptyDatasetError EmptyRequestError
FeatureLayer FeatureLayerError FeatureLayers FeatureNotFoundError FeatureOverflowError FeatureUnderflowError Features
Generation GenerationError GradientError GradientHandle Head ImageError ItemError LabelNotFoundError LayerNotFoundError
LayerNotRunError LayerRow LayerStatistics LayerTable LayoutError MissingExtraError ModelNotFoundError NonFiniteError
NotAModuleError Objects OperationNotFoundError Plan PlanRow ProbeRow ProbeTable Record Reduction ReductionError
ScriptedModuleError Selector Statistics StoreCorruptError StoreIncompleteError StoreLockedError StoreMismatchError
StoreNotFoundError StoreTargetError StructureError TemporaryReadError TransformError UncopyableValueError
UnsupportedTorchError WeightsMismatchError WeightsNotFoundError analysis capture diff edit extract extract_like
figures find_layouts generate get_layer_candidates guard head images layers models named objects open_statistics
open_store plan probe record_run similarity statistics
""".split()  # noqa: SIM905


def test_all_is_exact() -> None:
    assert sorted(tl.__all__) == PUBLIC
    assert all(getattr(tl, name) is not None for name in tl.__all__)
    assert set(PUBLIC) <= set(dir(tl))


def test_no_other_public_names() -> None:
    """Beside `__all__` only the packages on disk are visible, in a process that has imported all of them."""
    packages = {path.parent.name for path in Path(tl.__file__).parent.glob("[a-z]*/__init__.py")}
    modules = {path.stem for path in Path(tl.__file__).parent.glob("[a-z]*.py")}
    for name in packages | modules:
        importlib.import_module(f"torch_featurelayer.{name}")
    visible = {name for name in vars(tl) if not name.startswith("_")}
    assert visible - packages - modules <= set(PUBLIC)
    assert packages == {
        "address", "analysis", "cli", "detection", "diagnosis", "engine", "explorer", "extraction", "figures",
        "generation", "integrations", "models", "probing", "similarity", "store",
    }  # fmt: skip
    assert modules == {"demo", "images"}


@pytest.mark.parametrize(
    "name",
    [
        "address",
        "analysis",
        "detection",
        "diagnosis",
        "engine",
        "explorer",
        "extraction",
        "figures",
        "generation",
        "images",
        "models",
        "probing",
        "similarity",
        "store",
    ],
)
def test_packages_export_what_they_list(name: str) -> None:
    """`__all__` is sorted as ruff sorts it, each name exists, and nothing else is imported by `*`."""
    module = importlib.import_module(f"torch_featurelayer.{name}")
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FeatureLayr'"):
        _ = tl.FeatureLayr


def test_import_brings_nothing_but_torch() -> None:
    """Torch only when something of it is used; neither an extra nor the compiler; and nothing is printed."""
    code = """
import sys, torch_featurelayer
assert 'torch' not in sys.modules
import torch, torch.utils.checkpoint  # which PyTorch 2.4 does not import by itself
before = set(sys.modules)
from torch_featurelayer import FeatureLayer, capture, edit, get_layer_candidates, layers
assert callable(torch_featurelayer.capture) and callable(torch_featurelayer.layers)
new = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
assert new <= {'torch_featurelayer'}, new
assert not any(name.startswith('torch.') for name in set(sys.modules) - before)
assert 'torch_featurelayer.figures' not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py")]), ids=lambda path: path.stem
)
def test_benchmarks_and_examples_use_names_that_exist(path: Path) -> None:
    """Also in functions that run for hours or need another library, which no test calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch_featurelayer"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}")
        elif isinstance(node, ast.Attribute) and (found := re.fullmatch(r"tl\.(\w+(\.\w+)?)", ast.unparse(node))):
            operator.attrgetter(found[1])(tl)
