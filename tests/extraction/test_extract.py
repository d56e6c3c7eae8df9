"""Features of a dataset: right, complete, and the same bytes whatever interrupted them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import torch_featurelayer as tl
from tests.extraction.broken import KINDS, broken
from tests.extraction.images import CUT, make_images, network
from tests.store.digests import digests
from torch_featurelayer.extraction.job import _deferred_interrupts


def by_hand(model: nn.Module, folder: Path, ids: list[str], layer: str, batch: int) -> Tensor:
    """A plain loop over images with channels last: hooks that clone, the mean over positions, float16."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _, __, out: kept.append(out.clone().mean((2, 3)).half())
    )
    with torch.no_grad():
        for start in range(0, len(ids), batch):
            images = torch.cat([CUT(folder / name) for name in ids[start : start + batch]])
            model.eval()(images.contiguous(memory_format=torch.channels_last))
    handle.remove()
    return torch.cat(kept)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_folder_of_images(num_workers: int, tmp_path: Path) -> None:
    """Each row is what a plain loop gives, ids are in the order of names, the model is left as it was."""
    ids = make_images(tmp_path / "images", 23)
    model = network().train()
    seen: list[tuple[int, int]] = []
    store = tl.extract(
        model, ["features.3", "features.6"], tmp_path / "images", tmp_path / "out", preprocess=CUT, reduce="mean",
        batch_size=4, shard_size=8, num_workers=num_workers, progress=lambda at: seen.append((at.done, at.items)),
    )  # fmt: skip
    assert list(store.ids) == ids
    assert store.errors == ()
    assert model.training
    assert seen[0] == (4, 23)  # after the first batch
    assert seen == sorted(seen)
    assert seen[-1] == (23, 23)
    for layer in ("features.3", "features.6"):
        assert store[layer].dtype is torch.float16
        assert torch.equal(store[layer][:], by_hand(model, tmp_path / "images", ids, layer, 4))
    assert store.verify() == 23
    assert store.metadata["layers"] == ["features.3", "features.6"]
    assert all(not module._forward_hooks for module in model.modules())


def test_workers_do_not_change_a_byte(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 12)
    for workers in (0, 2):
        tl.extract(
            network(), "features.3", tmp_path / "images", tmp_path / str(workers), preprocess=CUT, shard_size=5,
            num_workers=workers,
        )  # fmt: skip
    assert digests(tmp_path / "0") == digests(tmp_path / "2")


def test_bad_items_do_not_shift_their_neighbours(tmp_path: Path) -> None:
    """Of 60 files 20 are broken in ten ways: 40 right rows, 20 errors by name, and nothing else moves."""
    folder = tmp_path / "images"
    make_images(folder, 60)
    files = sorted(folder.rglob("*.jpg"))
    for number, file in enumerate(files[::3]):
        file.write_bytes(broken(number % KINDS))
    bad = [file.relative_to(folder).as_posix() for file in files[::3]]
    good = [file.relative_to(folder).as_posix() for file in files if file not in files[::3]]
    model = network()
    store = tl.extract(
        model, "features.3", folder, tmp_path / "out", preprocess=CUT, reduce="mean", batch_size=4, shard_size=16
    )
    assert [error.id for error in store.errors] == bad
    assert all("Error" in error.reason for error in store.errors)
    assert list(store.ids) == good
    right = torch.cat([by_hand(model, folder, [name], "features.3", 1) for name in good])
    torch.testing.assert_close(store["features.3"][:], right, rtol=2e-3, atol=2e-3)


def test_errors_are_retried_on_request(tmp_path: Path) -> None:
    """Once the file is mended, the store is byte for byte what it would have been."""
    folder = tmp_path / "images"
    ids = make_images(folder, 10)
    good = (folder / ids[4]).read_bytes()
    (folder / ids[4]).write_bytes(b"")

    def run(out: str, **options: Any) -> tl.store.Store:  # type: ignore[name-defined]
        return tl.extract(network(), "features.3", folder, tmp_path / out, preprocess=CUT, shard_size=4, **options)

    assert [error.id for error in run("out").errors] == [ids[4]]
    (folder / ids[4]).write_bytes(good)
    assert len(run("out").errors) == 1
    assert run("out", retry_errors=True).errors == ()
    run("fresh")
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_strict_stops_at_the_first(tmp_path: Path) -> None:
    ids = make_images(tmp_path / "images", 8)
    (tmp_path / "images" / ids[5]).write_bytes(b"no image")
    with pytest.raises(tl.ItemError, match=ids[5]):
        tl.extract(
            network(), "features.3", tmp_path / "images", tmp_path / "out", preprocess=CUT, shard_size=4, strict=True
        )
    assert list(tl.open_store(tmp_path / "out").ids) == ids[:4]


class Squares(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return torch.full((3, 32, 32), float(place)), place


@pytest.mark.parametrize("kind", ["dataset", "loader", "tensors", "pairs", "paths"])
def test_kinds_of_data(kind: str, tmp_path: Path) -> None:
    data: Any = Squares()
    ids = [str(place) for place in range(7)]
    if kind == "loader":
        data = DataLoader(data, batch_size=3)
    elif kind == "tensors":
        data = TensorDataset(torch.stack([Squares()[place][0] for place in range(7)]))
    elif kind == "pairs":
        data = iter([(f"item {place}", data[place][0]) for place in range(7)])
        ids = [f"item {place}" for place in range(7)]
    elif kind == "paths":
        make_images(tmp_path, 7)
        data = sorted(tmp_path.rglob("*.jpg"), reverse=True)
        ids = [str(path) for path in data]
    store = tl.extract(network(), "features.3", data, tmp_path / "out", preprocess=CUT, shard_size=3)
    assert list(store.ids) == ids
    if kind != "paths":
        layer = tl.FeatureLayer(network().eval(), "features.3")
        right = layer.features(torch.stack([Squares()[place][0] for place in range(3)])).detach().half()
        assert torch.equal(store["features.3"][:3], right)


def test_a_value_that_does_not_fit_is_loud(tmp_path: Path) -> None:
    data = TensorDataset(torch.full((3, 4), 1e6))
    with pytest.raises(tl.FeatureOverflowError, match=r"'0'.*float16.*torch\.float32"):
        tl.extract(nn.Sequential(nn.Identity()), "0", data, tmp_path / "half")
    store = tl.extract(nn.Sequential(nn.Identity()), "0", data, tmp_path / "whole", dtype=None)
    assert torch.equal(store["0"][:], torch.full((3, 4), 1e6))


@pytest.mark.parametrize(
    ("dtype", "lost", "kept"),
    [(torch.float16, 1e-6, 5e-6), (torch.bfloat16, 1e-39, 1e-30), (torch.float8_e4m3fn, 0.01, 0.02)],
)
def test_a_feature_that_is_too_small_for_its_dtype(
    dtype: torch.dtype, lost: float, kept: float, tmp_path: Path
) -> None:
    """float16 would make zeros of a softmax over many classes, and of gradients."""
    model, values = nn.Sequential(nn.Identity()), torch.linspace(0.5, 1, 12).reshape(3, 4)
    with pytest.raises(tl.FeatureUnderflowError, match=str(dtype).removeprefix("torch.")):
        tl.extract(model, "0", TensorDataset(values * lost), tmp_path / "lost", dtype=dtype)
    data = TensorDataset(torch.cat([torch.zeros(2, 4), values * kept, values * lost]))  # zeros say nothing
    store = tl.extract(model, "0", data, tmp_path / "kept", dtype=dtype, batch_size=2)
    torch.testing.assert_close(store["0"][2:5].double(), values.double() * kept, rtol=0.08, atol=0)
    zeros_first = TensorDataset(torch.cat([torch.zeros(2, 4), values * lost]))
    with pytest.raises(tl.FeatureUnderflowError):
        tl.extract(model, "0", zeros_first, tmp_path / "later", dtype=dtype, batch_size=2)


def test_a_layer_of_several_tensors_is_refused(tmp_path: Path) -> None:
    data = TensorDataset(torch.randn(3, 5, 4))
    model = nn.Sequential(nn.LSTM(4, 4, batch_first=True))
    with pytest.raises(ValueError, match=r"name a part of it, such as '0\[0\]'"):
        tl.extract(model, "0", data, tmp_path / "out")
    assert tl.extract(model, "0[0]", data, tmp_path / "part")["0[0]"].shape == (3, 5, 4)


def test_items_of_different_sizes(tmp_path: Path) -> None:
    """Their means are stored; their maps cannot be, which is said."""
    data = [("a", torch.zeros(3, 32, 32)), ("b", torch.ones(3, 48, 48)), ("c", torch.ones(3, 48, 48))]
    store = tl.extract(network(), "features.3", data, tmp_path / "mean", reduce="mean")
    assert store["features.3"].shape[0] == 3
    with pytest.raises(ValueError, match=r"rows of shapes \[\d+, 7, 7\] and, for 'b', \[\d+, 11, 11\], because"):
        tl.extract(network(), "features.3", data, tmp_path / "maps")


@pytest.mark.parametrize("change", ["weights", "layers", "reduce", "batch_size", "items"])
def test_other_features_are_refused_by_name(change: str, tmp_path: Path) -> None:
    model, data, layers = network(), TensorDataset(torch.randn(4, 3, 32, 32)), "features.3"
    tl.extract(model, layers, data, tmp_path / "out")
    options: dict[str, Any] = {"reduce": "mean"} if change == "reduce" else {}
    if change == "batch_size":
        options["batch_size"] = 2
    if change == "items":
        data = TensorDataset(torch.randn(5, 3, 32, 32))
    if change == "weights":
        with torch.no_grad():
            next(model.parameters()).add_(1)
    with pytest.raises(tl.StoreMismatchError) as caught:
        tl.extract(model, "features.4" if change == "layers" else layers, data, tmp_path / "out", **options)
    assert [*caught.value.differences] == [change]


class Fragile(nn.Module):
    """Fails in its third forward pass, as a model does for which the memory of a machine is too small."""

    def forward(self, x: Tensor) -> Tensor:
        # In the environment, because code and attributes are part of a model's identity.
        passes = int(os.environ.get("FRAGILE_PASSES", "0"))
        os.environ["FRAGILE_PASSES"] = str(passes + 1)
        if passes == 2:
            raise RuntimeError("out of memory")
        return x


def test_a_model_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished is kept; the same call, once the model runs, gives what no error would have."""
    make_images(tmp_path / "images", 12)
    model = nn.Sequential(network().features, Fragile())
    options: dict[str, Any] = {"preprocess": CUT, "batch_size": 4, "shard_size": 4}
    monkeypatch.setenv("FRAGILE_PASSES", "0")
    with pytest.raises(RuntimeError, match="out of memory"):
        tl.extract(model, "1", tmp_path / "images", tmp_path / "out", **options)
    assert len(tl.open_store(tmp_path / "out")) == 8
    assert model.training
    tl.extract(model, "1", tmp_path / "images", tmp_path / "out", **options)
    tl.extract(model, "1", tmp_path / "images", tmp_path / "fresh", **options)
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own error; the store is whole, and with room made the same call ends as without it."""
    make_images(tmp_path / "images", 12)
    options: dict[str, Any] = {"preprocess": CUT, "batch_size": 4, "shard_size": 4}
    real, calls = os.fsync, [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        tl.extract(network(), "features.3", tmp_path / "images", tmp_path / "out", **options)
    monkeypatch.setattr(os, "fsync", real)
    assert not list((tmp_path / "out").rglob("*.tmp"))
    store = tl.open_store(tmp_path / "out")
    with pytest.raises(tl.StoreIncompleteError, match=r"2 shards are missing \(1, 2\)") as caught:
        store.verify()
    assert (len(store), store.complete, store.missing, caught.value.missing) == (4, False, (1, 2), (1, 2))
    tl.extract(network(), "features.3", tmp_path / "images", tmp_path / "out", **options)
    tl.extract(network(), "features.3", tmp_path / "images", tmp_path / "fresh", **options)
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(tl.EmptyDatasetError):
        tl.extract(network(), "features.3", tmp_path, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no folder"):
        tl.extract(network(), "features.3", tmp_path / "none", tmp_path / "out")


FIRST_SHARD = """
import sys, time, torch
import torch_featurelayer as tl
from torch_featurelayer.extraction import job

class Waits(torch.nn.Flatten):
    def forward(self, x):
        time.sleep(1)
        return super().forward(x)

def write(*arguments):
    before = set(sys.modules)
    result = written(*arguments)
    print({name.partition(".")[0] for name in set(sys.modules) - before} & {"pyarrow", "pandas", "safetensors"})
    return result

written, job._write = job._write, write
tl.extract(torch.nn.Sequential(Waits()), "0", torch.ones(8, 4), sys.argv[1], batch_size=2, shard_size=4)
"""


def test_the_first_shard_imports_nothing(tmp_path: Path) -> None:
    """What writing needs is imported while the first batch is read, and not beside the model."""
    command = [sys.executable, "-c", FIRST_SHARD, str(tmp_path / "out")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["set()", "set()"]


RUN = """
import sys, torch
import torch_featurelayer as tl
from torchvision import models
torch.manual_seed(0)
cut = tl.models.Preprocess(resize=32, crop=32)
tl.extract(models.squeezenet1_1(weights=None), ["features.3", "features.6"], sys.argv[1], sys.argv[2], preprocess=cut,
           batch_size=4, shard_size=4, progress=lambda at: print(at.done, flush=True))
print("end", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_at_any_moment_it_resumes_to_the_same_bytes(how: signal.Signals, tmp_path: Path) -> None:
    """Killed, or stopped by Ctrl-C, again and again: what was finished is kept, and the end is the same."""
    make_images(tmp_path / "images", 20)
    command = [sys.executable, "-c", RUN, str(tmp_path / "images")]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    out, interrupted, finished = tmp_path / "out", 0, 0
    for attempt in range(30):
        process = subprocess.Popen([*command, str(out)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        # The second line is that of a finished shard: after the first batch, nothing would be kept.
        first = process.stdout.readline() + process.stdout.readline()
        if "end\n" not in first:
            time.sleep(0.003 * (attempt % 4))
            process.send_signal(how)
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
        rows = len(tl.open_store(out))
        assert rows >= finished
        finished = rows
        if "end" in first + rest:
            break
        interrupted += 1
    assert interrupted >= 1
    subprocess.run([*command, str(out)], check=True, capture_output=True)
    assert digests(out) == digests(tmp_path / "whole")


def test_an_interrupt_does_not_leave_a_lock() -> None:
    """Ctrl-C while the executor takes a task is raised after it has taken it."""
    seen: list[str] = []

    def take() -> None:
        with _deferred_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            seen.append("finished")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            take()
        assert seen == ["finished"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
