"""Captures that are compiled ahead of time: kept for the next process, and never those of another model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.versions import compiles_ahead, traces
from torch_featurelayer.extraction import cache, compiling
from torch_featurelayer.extraction.modes import Mode
from torch_featurelayer.extraction.spec import FeatureSpec


def small(seed: int = 0, scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Scaled(scale), nn.ReLU()).eval()


class Scaled(nn.Module):
    """A module with an attribute that its output depends on."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def spec_of(model: nn.Module, **options: Any) -> FeatureSpec:
    return FeatureSpec(model, ("3",), mode=Mode("aot_inductor"), **options)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[FeatureSpec]:
    """The specifications that were compiled, rather than loaded."""
    found: list[FeatureSpec] = []
    original = compiling._compile_ahead

    def note(spec: FeatureSpec, inputs: Any) -> Any:
        found.append(spec)
        return original(spec, inputs)

    monkeypatch.setattr(compiling, "_compile_ahead", note)
    return found


CHANGES: dict[str, Callable[[], FeatureSpec]] = {
    "weights": lambda: spec_of(small(seed=1)),
    "an attribute": lambda: spec_of(small(scale=2.0)),
    "the layer": lambda: replace(spec_of(small()), layers=("1",)),
    "the reduction": lambda: spec_of(small(), reduce="mean"),
    "autocast": lambda: spec_of(small(), autocast=torch.bfloat16),
    "the precision": lambda: spec_of(small(), precision=torch.bfloat16),
    "a function that reduces": lambda: spec_of(small(), reduce=lambda feat: feat.amax((2, 3))),
}


@pytest.fixture
def kept(tmp_path: Path) -> FeatureSpec:
    """A specification that a file is kept for, with the inputs `images()`."""
    (tmp_path / "capture").write_bytes(b"compiled")
    spec = spec_of(small())
    cache.keep_package(tmp_path / "capture", spec, images())
    return spec


@pytest.mark.parametrize("change", CHANGES)
def test_a_kept_capture_is_that_of_the_same_model(change: str, kept: FeatureSpec) -> None:
    assert kept != CHANGES[change]()
    assert cache.find_package(spec_of(small()), images()) is not None
    assert cache.find_package(CHANGES[change](), images()) is None


def test_a_kept_capture_is_for_inputs_of_one_shape(kept: FeatureSpec) -> None:
    for inputs in (images(3), images().double(), images().contiguous(memory_format=torch.channels_last)):
        assert cache.find_package(kept, inputs) is None


def test_a_model_without_a_digest_is_not_kept(tmp_path: Path, kept: FeatureSpec) -> None:
    """Its features may depend on what has no digest, so it is compiled each time."""
    kept.model.get_submodule("2").lock = threading.Lock()  # type: ignore[assignment]
    cache.keep_package(tmp_path / "capture", kept, images())
    assert cache.find_package(kept, images()) is None


@compiles_ahead
def test_the_next_process_loads_what_was_compiled(compiled: list[FeatureSpec]) -> None:
    """And another model, of the same shapes, is compiled."""
    captures = [compiling.make_capture(spec_of(small(seed)), images()) for seed in (0, 0, 1)]
    assert len(compiled) == 2
    for seed, capture in zip((0, 0, 1), captures, strict=True):
        torch.testing.assert_close(capture(images())["3"], small(seed)(images()), rtol=1e-4, atol=1e-5)


@compiles_ahead
def test_a_broken_file_is_written_again(kept: FeatureSpec, compiled: list[FeatureSpec]) -> None:
    """`kept` is not compiled code; what replaces it is."""
    compiling.make_capture(kept, images())
    found = compiling.make_capture(kept, images())(images())["3"]
    assert len(compiled) == 1
    torch.testing.assert_close(found, small()(images()), rtol=1e-4, atol=1e-5)


@compiles_ahead
def test_without_a_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEATURELAYER_CACHE", str(tmp_path / "file"))
    found = compiling.make_capture(spec_of(small()), images())(images())["3"]
    torch.testing.assert_close(found, small()(images()), rtol=1e-4, atol=1e-5)


@compiles_ahead
def test_hooks_of_the_user_run_with_each_batch(compiled: list[FeatureSpec]) -> None:
    """They are Python code, which a file of compiled code does not contain."""
    model = small()
    model[0].register_forward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match="hooks of the model would run once"):
        compiling.make_capture(spec_of(model), images())
    assert len(compiled) == 1


@compiles_ahead
def test_inputs_in_another_memory_format() -> None:
    """Compiled code reads memory as the example lay in it: other inputs are copied, or refused."""
    capture = compiling.make_capture(spec_of(small()), images())
    last = images().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(capture(last)["3"], small()(images()), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"compiled for an input of \(\[2, 3, 8, 8\]"):
        capture(images(3))


class DependsOnCompiler(nn.Module):
    """A module that computes something else while it is compiled."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.compiler.is_compiling()


@pytest.mark.parametrize(
    "mode", [pytest.param("aot_inductor", marks=compiles_ahead), pytest.param("compiled", marks=traces)]
)
def test_compiled_features_are_those_of_the_model(mode: str) -> None:
    """Otherwise the mode fails, and nothing is kept."""
    model = nn.Sequential(*small()[:3], DependsOnCompiler()).eval()
    with pytest.raises(RuntimeError, match="compiled feature '3' differs from the model's: relative error"):
        compiling.make_capture(replace(spec_of(model), mode=Mode(mode)), images())
    assert not Path(os.environ["FEATURELAYER_CACHE"], "compiled").exists()


def test_the_least_recently_used_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_BYTES", 250)
    (tmp_path / "capture").write_bytes(bytes(100))
    specs = [spec_of(small(seed)) for seed in range(3)]
    for spec in specs[:2]:
        cache.keep_package(tmp_path / "capture", spec, images())
    first, second = (cache.find_package(spec, images()) for spec in specs[:2])
    assert first is not None
    assert second is not None
    os.utime(second, (0, 0))
    cache.keep_package(tmp_path / "capture", specs[2], images())
    assert [cache.find_package(spec, images()) is not None for spec in specs] == [True, False, True]
