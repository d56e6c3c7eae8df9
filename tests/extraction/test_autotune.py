"""The fastest way to run the model: the same features, in the same bytes however often it is interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torch_featurelayer as tl
from tests.extraction.images import CUT, make_images, network
from tests.store.digests import digests
from tests.versions import compiles_ahead, traces
from torch_featurelayer.extraction import autotune, cache, compiling
from torch_featurelayer.extraction.modes import EAGER, Mode
from torch_featurelayer.store import Store

MARKS = {"channels_last": (), "aot_inductor": compiles_ahead, "compiled": traces}
MODES = [EAGER, *(pytest.param(Mode(name, part), marks=MARKS[name]) for name in MARKS for part in (0, 1))]


def extracted(model: nn.Module, images: Path, out: Path, **options: Any) -> Store:
    fixed: dict[str, Any] = {"preprocess": CUT, "batch_size": 4, "shard_size": 6, "dtype": None}
    return tl.extract(model, "features.6", images, out, **fixed, **options)


class Viewing(nn.Module):
    """A model that needs images with channels first: of others, it cannot have a view."""

    def __init__(self) -> None:
        super().__init__()
        self.features = network().get_submodule("features")
        self.formats: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.formats.append(x.is_contiguous())
        x.view(len(x), -1)
        return self.features(x)  # type: ignore[no-any-return]


def test_images_have_channels_last_by_default(tmp_path: Path) -> None:
    """A network of convolutions on a CPU is given them so; a model that cannot take them, as before."""
    make_images(tmp_path / "images", 9)
    seen: list[bool] = []
    model = network()
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].is_contiguous()))
    store = extracted(model, tmp_path / "images", tmp_path / "out")
    assert store.metadata["mode"] == "channels_last images"
    assert seen == [False, False, False]
    viewing = Viewing()
    other = extracted(viewing, tmp_path / "images", tmp_path / "other")
    assert viewing.formats == [False, True, True, True]  # the first batch twice
    assert other.errors == ()
    torch.testing.assert_close(other["features.6"][:], store["features.6"][:], rtol=1e-4, atol=1e-5)
    words = tl.extract(nn.Sequential(nn.Linear(2, 2)), "0", torch.ones(2, 2), tmp_path / "linear")
    assert words.metadata["mode"] == "eager"


def test_a_store_begun_without_channels_last_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of an earlier version keeps its mode, and its bytes."""
    make_images(tmp_path / "images", 9)
    with monkeypatch.context() as earlier:
        earlier.setattr(autotune, "default_mode", lambda _: EAGER)
        extracted(network(), tmp_path / "images", tmp_path / "out")
    whole = digests(tmp_path / "out")
    (tmp_path / "out" / "shards" / "00000001.safetensors").unlink()
    assert extracted(network(), tmp_path / "images", tmp_path / "out").metadata["mode"] == "eager"
    assert digests(tmp_path / "out") == whole


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_every_mode_gives_the_features(mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small last batches and broken files among them; continued, the bytes are the same; the model is not changed."""
    monkeypatch.setattr(autotune, "choose_mode", lambda _: autotune.Measured(mode, 0.0, None))
    ids = make_images(tmp_path / "images", 15)
    (tmp_path / "images" / ids[7]).write_bytes(b"")
    model = network()
    strides = [value.stride() for value in model.parameters()]
    right = extracted(model, tmp_path / "images", tmp_path / "right")
    store = extracted(model, tmp_path / "images", tmp_path / "autotune", autotune=True)
    assert store.metadata["mode"] == str(mode)
    assert store.ids == right.ids
    torch.testing.assert_close(store["features.6"][:], right["features.6"][:], rtol=1e-4, atol=1e-5)
    assert [value.stride() for value in model.parameters()] == strides
    assert not any(module._forward_hooks for module in model.modules())
    whole = digests(tmp_path / "autotune")
    (tmp_path / "autotune" / "shards" / "00000001.safetensors").unlink()
    monkeypatch.setattr(autotune, "choose_mode", lambda _: pytest.fail("measured again"))
    extracted(model, tmp_path / "images", tmp_path / "autotune", autotune=True)
    assert digests(tmp_path / "autotune") == whole


@pytest.mark.parametrize(
    ("whole", "parts", "compiled", "eager", "chosen"),
    [
        (5, 6, 9, 1, Mode("eager")),
        (1, 6, 9, 5, Mode("channels_last")),
        (6, 1, 9, 5, Mode("channels_last", 1)),
        pytest.param(3, 6, 1, 5, Mode("aot_inductor"), marks=compiles_ahead),
        pytest.param(6, 3, 1, 5, Mode("aot_inductor"), marks=compiles_ahead),
    ],
)
def test_the_fastest_mode_is_chosen(
    whole: int, parts: int, compiled: int, eager: int, chosen: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least time wins; what is compiled takes whole batches."""
    times = {"eager": eager, "compiled": compiled, "channels_last": whole, "channels_last, 1 at a time": parts}

    def measure(_: object, modes: list[Mode]) -> list[autotune.Measured]:
        return [autotune.Measured(mode, times.get(str(mode), compiled), None) for mode in modes]

    monkeypatch.setattr(autotune, "_measure", measure)
    make_images(tmp_path / "images", 5)
    store = extracted(network(), tmp_path / "images", tmp_path / "out", autotune=True)
    assert store.metadata["mode"] == str(chosen)


@compiles_ahead
def test_modes_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mode is timed, and the one that the store records had the least time."""
    measured: dict[Mode, float] = {}
    measure = autotune._measure

    def note(*arguments: Any) -> list[autotune.Measured]:
        found = measure(*arguments)
        measured.update({each.mode: each.seconds for each in found})
        return found

    monkeypatch.setattr(autotune, "_measure", note)
    make_images(tmp_path / "images", 5)
    store = extracted(network(), tmp_path / "images", tmp_path / "out", autotune=True)
    assert [mode.name for mode in measured] == ["eager", "channels_last", "channels_last", "aot_inductor"]
    assert min(measured.values()) > 0
    assert store.metadata["mode"] == str(min(measured, key=measured.__getitem__))


def test_what_cannot_be_compiled_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a warning that says why; the rest is done."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(tl.FeatureLayers, "compile", broken)
    monkeypatch.setattr(compiling, "_compile_ahead", broken)
    make_images(tmp_path / "images", 5)
    with pytest.warns(UserWarning, match="cannot be compiled here: no C\\+\\+ compiler"):
        store = extracted(network(), tmp_path / "images", tmp_path / "out", autotune=True)
    assert store.metadata["mode"] in ("eager", "channels_last", "channels_last, 1 at a time")


class Branching(nn.Module):
    """A model whose path depends on values, which `torch.export` cannot follow and `torch.compile` can."""

    def __init__(self) -> None:
        super().__init__()
        self.features = network().get_submodule("features")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x if x.mean() > -1e9 else -x)  # type: ignore[no-any-return]


@traces
def test_what_cannot_be_exported_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([9.0, 9.0, 9.0, 1.0])
    monkeypatch.setattr(autotune.statistics, "median", lambda _: next(times))
    make_images(tmp_path / "images", 5)
    model = Branching()
    store = extracted(model, tmp_path / "images", tmp_path / "out", autotune=True)
    assert store.metadata["mode"] == "compiled"
    right = extracted(model, tmp_path / "images", tmp_path / "right")
    torch.testing.assert_close(store["features.6"][:], right["features.6"][:], rtol=1e-4, atol=1e-5)


def test_autocast_computes_in_bfloat16(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 5)
    model = network().eval()
    store = extracted(model, tmp_path / "images", tmp_path / "out", autocast=torch.bfloat16)
    assert store["features.6"].dtype is torch.bfloat16
    inputs = torch.cat([CUT(tmp_path / "images" / name) for name in store.ids[:4]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        right = tl.FeatureLayer(model, "features.6").features(inputs)
    torch.testing.assert_close(store["features.6"][:4], right, rtol=0.02, atol=0.02)  # the layout of memory differs


@compiles_ahead
def test_a_measured_mode_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By machine, model and inputs; and what was compiled to be measured is not compiled again."""
    make_images(tmp_path / "images", 5)
    compiled: list[Path] = []
    original = compiling._compile_ahead

    def note(*arguments: Any) -> Any:
        compiled.append(tmp_path)
        return original(*arguments)

    monkeypatch.setattr(compiling, "_compile_ahead", note)
    times = iter([9.0, 9.0, 9.0, 1.0])
    monkeypatch.setattr(autotune.statistics, "median", lambda _: next(times))
    store = extracted(network(), tmp_path / "images", tmp_path / "one", autotune=True)
    assert (store.metadata["mode"], len(compiled)) == ("aot_inductor", 1)
    monkeypatch.setattr(autotune, "choose_mode", lambda _: pytest.fail("measured again"))
    other = extracted(network(), tmp_path / "images", tmp_path / "two", autotune=True)
    assert (other.metadata["mode"], len(compiled)) == ("aot_inductor", 1)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    Path(os.environ["FEATURELAYER_CACHE"], "modes.json").write_text("not JSON")
    monkeypatch.setattr(autotune, "choose_mode", lambda _: autotune.Measured(Mode("eager"), 0.0, None))
    assert extracted(network(), tmp_path / "images", tmp_path / "three", autotune=True).metadata["mode"] == "eager"


def test_a_remembered_mode_that_fails_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as that of another model of the same shapes."""
    make_images(tmp_path / "images", 5)
    monkeypatch.setattr(cache, "find_mode", lambda _: Mode("aot_inductor"))
    monkeypatch.setattr(autotune, "choose_mode", lambda _: autotune.Measured(Mode("eager"), 0.0, None))
    with pytest.warns(UserWarning, match="'aot_inductor', which was the fastest before, fails for this model"):
        store = extracted(Branching(), tmp_path / "images", tmp_path / "out", autotune=True)
    assert store.metadata["mode"] == "eager"


@pytest.mark.parametrize("tuned", [False, pytest.param(True, marks=compiles_ahead)])
def test_weights_in_bfloat16(tuned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of a converted copy, with their error beside the model's own; the model keeps its dtype."""
    monkeypatch.setattr(autotune, "choose_mode", lambda _: autotune.Measured(Mode("aot_inductor"), 0.0, None))
    make_images(tmp_path / "images", 9)
    model = network()
    store = extracted(model, tmp_path / "images", tmp_path / "half", precision=torch.bfloat16, autotune=tuned)
    right = extracted(model, tmp_path / "images", tmp_path / "right")["features.6"][:]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert store["features.6"].dtype is torch.bfloat16
    half = store["features.6"][:].float()
    error = ((half - right).norm() / right.norm()).item()
    assert 0 < error < 0.02
    assert store.metadata["precision"] == "torch.bfloat16"
    assert 0 < store.metadata["precision_error"]["features.6"] < 0.02
    whole = digests(tmp_path / "half")
    (tmp_path / "half" / "shards" / "00000001.safetensors").unlink()
    extracted(model, tmp_path / "images", tmp_path / "half", precision=torch.bfloat16, autotune=tuned)
    assert digests(tmp_path / "half") == whole
    with pytest.raises(tl.StoreMismatchError, match="precision is 'torch.bfloat16' in the store and None"):
        extracted(model, tmp_path / "images", tmp_path / "half", autotune=tuned)


def test_precision_errors_are_valid_json(tmp_path: Path) -> None:
    """A layer of zeros has no error, and one that overflows has no number for it: JSON has no NaN or infinity."""
    zeros, large, larger = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 2)
    with torch.no_grad():
        for layer, weight, bias in ((zeros, 0, -1), (large, 0, 1e3), (larger, 1e3, 0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    model = nn.Sequential(zeros, nn.ReLU(), large, larger)
    options: dict[str, Any] = {"precision": torch.float16, "dtype": None, "finite": "record"}
    store = tl.extract(model, ["1", "2", "3"], torch.randn(5, 4), tmp_path / "out", **options)
    assert store.metadata["precision_error"] == {"1": 0.0, "2": 0.0, "3": None}
    for file in (tmp_path / "out").glob("*.json"):
        json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(name))
