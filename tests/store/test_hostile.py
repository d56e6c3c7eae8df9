"""Stores that someone else made: they are refused with an error that says why, and reading them costs little."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import safetensors.torch
import torch

import torch_featurelayer as tl
from torch_featurelayer.store import Item, StoreWriter
from torch_featurelayer.store.items import check_uncompressed, decode_table, encode_table, to_table


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with StoreWriter.open(tmp_path, {"model": "net"}) as writer:
        for number in range(3):
            writer.write(number, {"a": torch.randn(4, 3)}, [f"{number}-{place}" for place in range(4)])
        writer.finish()
    return tmp_path


def compressed(count: int) -> bytes:
    """Bytes that are few and become many."""
    table = to_table([Item("x" * 100)] * count)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def shard(folder: Path, items: bytes, number: int = 0, **header: Any) -> None:
    """Writes a shard by hand."""
    tensors = {"a": torch.zeros(1, 3), "@items": torch.frombuffer(bytearray(items), dtype=torch.uint8)}
    about = {"number": number, "identity": "", "crc32": {}, **header}
    path = folder / "shards" / f"{number:08d}.safetensors"
    safetensors.torch.save_file(tensors, path, {"torch_featurelayer": json.dumps(about)})


def test_what_is_compressed_is_not_decompressed() -> None:
    small = compressed(20_000)
    assert len(small) < 100_000  # of 2 MB
    with pytest.raises(ValueError, match="its items are compressed"):
        decode_table(small)
    check_uncompressed(encode_table(to_table([Item("a"), Item("b", error="no")])))


def test_a_compressed_manifest_is_left_out(store: Path) -> None:
    """The shards say the same."""
    path = store / "manifest" / "00000000.items.arrow"
    table = pa.ipc.open_file(path).read_all()
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    assert len(tl.open_store(store)) == 12
    path.write_bytes(b"ARROW1\0\0" + b"\xff" * 100)
    assert tl.open_store(store).verify() == 12


@pytest.mark.parametrize("length", [2**63, 2**40, 99_999_999])
def test_lengths_that_a_header_cannot_have(length: int, store: Path) -> None:
    path = store / "shards" / "00000001.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(tl.StoreCorruptError, match=r"00000001\.safetensors"):
        tl.open_store(store).verify()
    (store / "manifest" / "00000000.shards.arrow").unlink()
    with pytest.raises(tl.StoreCorruptError, match=r"00000001\.safetensors is damaged: .*claims to have"):
        tl.open_store(store)


def test_headers_of_other_programs(store: Path) -> None:
    for file in (store / "manifest").iterdir():
        file.unlink()
    for content in (b"", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}", b'\x0f\0\0\0\0\0\0\0{"a": "../../x"}'):
        (store / "shards" / "00000000.safetensors").write_bytes(content)
        with pytest.raises(tl.StoreCorruptError, match="00000000"):
            tl.open_store(store)


def test_counts_that_do_not_fit(store: Path) -> None:
    """A manifest that counts rows which the shards do not have, and items of other columns."""
    path = store / "manifest" / "00000000.shards.arrow"
    table = pa.ipc.open_file(path).read_all()
    wrong = table.set_column(1, "items", pa.array([10**12] * 3, pa.int64()))
    with pa.ipc.new_file(path, wrong.schema) as writer:
        writer.write_table(wrong)
    assert tl.open_store(store).verify() == 12
    shard(store, encode_table(pa.table({"id": ["x"]})))
    path.unlink()
    with pytest.raises(tl.StoreCorruptError, match="00000000"):
        tl.open_store(store)


def test_names_that_leave_the_folder(store: Path) -> None:
    """Only numbers name files: no name in a store is a path."""
    (store / "shards" / "..%2f..%2fetc.safetensors").write_bytes(b"x")
    (store / "manifest" / "..00000000.shards.arrow").write_bytes(b"x")
    found = tl.open_store(store)
    assert found.verify() == 12
    assert found.ids[0] == "0-0"
    shard(store, encode_table(to_table([Item("../../etc/passwd")])), number=7)
    with pytest.raises(tl.StoreCorruptError, match="header differs"):
        tl.open_store(store)
