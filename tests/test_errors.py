"""The exception tree: each error is a built-in one would catch, and survives pickling."""

from __future__ import annotations

import copy
import pickle

import pytest

import torch_featurelayer as tl
from torch_featurelayer import _exceptions
from torch_featurelayer._optional import need

CASES = {
    tl.AddressError("a@", 2, "problem"): ValueError,
    tl.EmptyRequestError(): ValueError,
    tl.DuplicateRequestError("a"): ValueError,
    tl.LayerNotFoundError("a", "Net", ["b"], "hint"): AttributeError,
    tl.LayerNotRunError(["a"], ["b"], "hint"): RuntimeError,
    tl.CallNotMadeError("a@1", 1): IndexError,
    tl.AmbiguousCallError("a@-1", 3, 2): RuntimeError,
    tl.OperationNotFoundError("a:ad", "ad", {"add": 2}): LookupError,
    tl.AmbiguousOperationError("a:add", "add", 2): LookupError,
    tl.StructureError("a[0]", "a tensor"): LookupError,
    tl.EditError("a", "problem"): ValueError,
    tl.FeatureNotFoundError("a", ["b"]): KeyError,
    tl.GenerationError("text", "fix"): RuntimeError,
    tl.DetectorError("text"): TypeError,
    tl.GradientError("a", "problem"): RuntimeError,
    tl.NotAModuleError(str): TypeError,
    tl.ScriptedModuleError("a.b", "a"): TypeError,
    tl.LayoutError("problem", "layer", shape=(1, 2, 3), readings=("NTC", "NCT"), hint="hint"): ValueError,
    tl.ReductionError("text"): TypeError,
    tl.UncopyableValueError("layer", "generator", "can be read only once"): TypeError,
    tl.TransformError("layer"): RuntimeError,
    tl.UnsupportedTorchError("text"): NotImplementedError,
    tl.CompileError("text"): RuntimeError,
    tl.ImageError("a.png", "problem"): ValueError,
    tl.ModelNotFoundError("timm:resnt", "problem", ["timm:resnet18"]): ValueError,
    tl.WeightsNotFoundError("timm:resnet18", "problem", "file.pth"): FileNotFoundError,
    tl.WeightsMismatchError("file.pt", ["a"], ["b"], ["c"]): ValueError,
    tl.LabelNotFoundError("ct", ["cat"]): LookupError,
    tl.LabelNotFoundError("xyz", ["cat"]): LookupError,  # no name is near
    tl.LabelNotFoundError("ct", []): LookupError,
    tl.DeviceError("cuda", "problem"): RuntimeError,
    tl.DatasetError("a set", "give a list"): TypeError,
    tl.StoreTargetError("folder", "it is a file"): FileExistsError,
    tl.EmptyDatasetError(): ValueError,
    tl.ItemError("a.png", "reason"): ValueError,
    tl.FeatureOverflowError("layer4", "float16"): OverflowError,
    tl.FeatureUnderflowError("layer4", "float16", 1e-9): ArithmeticError,
    tl.StoreNotFoundError("folder"): FileNotFoundError,
    tl.StoreMismatchError("folder", {"model": ("a", "b")}): ValueError,
    tl.StoreIncompleteError("out", [1, 2, 3, 4, 5, 6]): ValueError,
    tl.BackendError("ray", "an actor died"): RuntimeError,
    tl.TemporaryReadError("a.png", "TimeoutError: no answer"): OSError,
    tl.NonFiniteError("layer4", 3, id="a.png"): ArithmeticError,
    tl.StoreLockedError("folder"): BlockingIOError,
    tl.StoreCorruptError("file", "problem"): ValueError,
    tl.MissingExtraError("matplotlib", "figures"): ImportError,
}


@pytest.mark.parametrize("error", CASES, ids=lambda error: type(error).__name__)
def test_error(error: tl.FeatureLayerError) -> None:
    """Of the base class and its built-in; pickled and copied with text and fields, as worker processes do."""
    assert isinstance(error, tl.FeatureLayerError)
    assert isinstance(error, CASES[error])
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other) == vars(error)


def test_tree_is_complete() -> None:
    """Every error is exported, tested above and drawn in the docstring."""
    classes = {
        name for name, item in vars(_exceptions).items() if isinstance(item, type) and issubclass(item, Exception)
    }
    assert classes == set(_exceptions.__all__) == {type(error).__name__ for error in CASES} | {"FeatureLayerError"}
    assert all(name in (_exceptions.__doc__ or "") for name in classes)


def test_missing_extra_says_what_to_install() -> None:
    with pytest.raises(tl.MissingExtraError, match=r'pip install "matplotlib>=') as caught:
        need("no_such_package", "figures")
    assert (caught.value.package, caught.value.extra) == ("no_such_package", "figures")


def test_a_broken_package_is_not_called_missing(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_featurelayer._optional import need

    (tmp_path / "half_installed.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all") as caught:
        need("half_installed", "figures")
    assert not isinstance(caught.value, tl.MissingExtraError)
