"""A store gives back what was written, row by row, and is whole after a crash at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import torch_featurelayer as tl
from tests.store.digests import digests
from torch_featurelayer.store import Item, RowError, StoreWriter

SETTINGS = {"model": "net", "layers": ["a"]}
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]


def written(folder: Path, parts: list[Tensor]) -> tl.store.Store:  # type: ignore[name-defined]
    with StoreWriter.open(folder, SETTINGS) as writer:
        start = 0
        for number, part in enumerate(parts):
            writer.write(number, {"a": part}, [f"{row}.png" for row in range(start, start + len(part))])
            start += len(part)
    return tl.open_store(folder)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any),
    shape=st.lists(st.integers(1, 3), max_size=3),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_any_rows_are_those_of_the_whole(
    counts: list[int], shape: list[int], dtype: torch.dtype, data: st.DataObject
) -> None:
    """Whatever the shards, a number, slice, list or mask gives what it gives on the tensor in memory."""
    parts = [(torch.randn(count, *shape) * 3).to(dtype) for count in counts]
    whole = torch.cat(parts)
    with tempfile.TemporaryDirectory() as folder:
        layer = written(Path(folder), parts)["a"]
        count = len(whole)
        number = data.draw(st.integers(-count, count - 1))
        part = data.draw(st.slices(count))
        some = data.draw(st.lists(st.integers(-count, count - 1), max_size=6))
        mask = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
        assert torch.equal(layer[number], whole[number])
        right = torch.from_numpy(np.arange(count)[part].copy())
        assert torch.equal(layer[part], whole[right])
        assert torch.equal(layer[some], whole[torch.tensor(some, dtype=torch.int64)])
        assert torch.equal(layer[mask], whole[torch.tensor(mask)])
        assert torch.equal(torch.stack(list(layer)), whole)
        assert (layer.shape, layer.dtype, len(layer)) == (tuple(whole.shape), dtype, count)
        with pytest.raises(IndexError):
            layer[count]


def test_ids_errors_and_settings(tmp_path: Path) -> None:
    with StoreWriter.open(tmp_path, SETTINGS) as writer:
        writer.write(0, {"a": torch.ones(2, 3), "b": torch.zeros(2)}, ["x", Item("y", error="broken"), "z"])
        writer.write(1, {}, [Item("w", error="empty")])
        assert writer.has(1)
        assert not writer.has(2)
        assert writer.finished_shards() == {0, 1}
        assert writer.shard(0).errors == (RowError("y", "broken"),)
    store = tl.open_store(tmp_path)
    assert (store.ids, store.layers, len(store)) == (("x", "z"), ("a", "b"), 2)
    assert store.errors == (RowError("y", "broken"), RowError("w", "empty"))
    assert store.metadata["model"] == "net"
    assert np.asarray(store["a"]).shape == (2, 3)
    assert "a" in store
    assert store.verify() == 2
    with pytest.raises(tl.FeatureNotFoundError, match="'c'"):
        store["c"]


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    """In whatever order layers are given, and a shard written again replaces the first."""
    features = {"b": torch.randn(3, 2), "a": torch.randn(3)}
    for folder, order in (("one", ["a", "b"]), ("two", ["b", "a"])):
        with StoreWriter.open(tmp_path / folder, SETTINGS) as writer:
            writer.write(0, {"a": torch.zeros(1), "b": torch.zeros(1, 2)}, ["old"])
            writer.write(0, {name: features[name] for name in order}, ["x", "y", "z"])
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    written(tmp_path, [torch.ones(1)])
    with (
        pytest.raises(tl.StoreMismatchError, match="model is 'net' in the store and 'other' in this call") as caught,
        StoreWriter.open(tmp_path, {**SETTINGS, "model": "other"}),
    ):
        pass
    assert caught.value.differences == {"model": ("net", "other")}


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    second = StoreWriter.open(tmp_path, SETTINGS)
    with StoreWriter.open(tmp_path, SETTINGS), pytest.raises(tl.StoreLockedError), second:
        pass
    with StoreWriter.open(tmp_path, SETTINGS):
        pass


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "header"])
def test_damage_is_found_and_named(damage: str, tmp_path: Path) -> None:
    written(tmp_path, [torch.randn(4, 5), torch.randn(4, 5)])
    shard = tmp_path / "shards" / "00000001.safetensors"
    data = bytearray(shard.read_bytes())
    if damage == "flipped":
        data[-3] ^= 1
    elif damage == "header":
        data[:8] = b"\xff" * 8
    shard.write_bytes(b"" if damage == "empty" else data[:-7] if damage == "cut" else data)
    with pytest.raises(tl.StoreCorruptError, match=r"00000001\.safetensors"):
        tl.open_store(tmp_path).verify()


def test_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(tl.StoreNotFoundError, match="no store in"):
        tl.open_store(tmp_path)


def test_rows_and_ids_must_be_as_many(tmp_path: Path) -> None:
    with StoreWriter.open(tmp_path, SETTINGS) as writer, pytest.raises(ValueError, match="2 rows for 1 rows of items"):
        writer.write(0, {"a": torch.ones(2)}, ["x"])


WRITE = """
import sys, torch
from torch_featurelayer.store import StoreWriter
torch.manual_seed(0)
parts = [torch.randn(200, 400) for _ in range(12)]
with StoreWriter.open(sys.argv[1], {"model": "net"}) as writer:
    print("ready", flush=True)
    for number, part in enumerate(parts):
        if not writer.has(number):
            writer.write(number, {"a": part}, [str(row) for row in range(200)])
print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """Each kill -9 leaves a store that opens and verifies; writing on gives what no kill would have."""
    command = [sys.executable, "-c", WRITE]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    killed, folder = 0, tmp_path / "killed"
    for attempt in range(12):
        process = subprocess.Popen([*command, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.004 * attempt)
        process.send_signal(signal.SIGKILL)
        finished = "done" in process.stdout.read()
        process.stdout.close()
        process.wait()
        killed += not finished
        tl.open_store(folder).verify()
        if finished:
            break
    assert killed >= 1
    subprocess.run([*command, str(folder)], check=True, capture_output=True)
    assert digests(folder) == digests(tmp_path / "whole")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount the small file system that this fills")
def test_a_full_disk_leaves_a_whole_store(tmp_path: Path) -> None:
    """The error is the system's own; what was written is there; with room the rest follows."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=True)  # noqa: S607
    try:
        with StoreWriter.open(tmp_path, SETTINGS) as writer:
            writer.write(0, {"a": torch.randn(100, 1000)}, [str(row) for row in range(100)])
            with pytest.raises(Exception, match="No space left"):
                writer.write(1, {"a": torch.randn(400, 1000)}, [str(row) for row in range(400)])
            assert not writer.has(1)
            assert tl.open_store(tmp_path).verify() == 100
            writer.write(1, {"a": torch.randn(50, 1000)}, [str(row) for row in range(50)])
        assert tl.open_store(tmp_path).verify() == 150
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)  # noqa: S607
