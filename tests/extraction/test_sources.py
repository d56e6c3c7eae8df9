"""Each kind of dataset gives its items, in its order, with ids that mean something."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import webdataset
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, get_worker_info

import torch_featurelayer as tl
from tests.extraction.images import CUT, make_images, network
from tests.store.digests import digests
from torch_featurelayer.store import Store


def same_rows(store: Store, other: Store) -> bool:
    return torch.equal(store["features.3"][:], other["features.3"][:])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_images(tmp_path / "images", 9)
    return tmp_path / "images"


def extracted(data: Any, out: Path, **options: Any) -> Store:
    return tl.extract(network(), "features.3", data, out, preprocess=CUT, batch_size=4, shard_size=4, **options)


def test_a_webdataset_tar(folder: Path, tmp_path: Path) -> None:
    """Written by webdataset itself; two tars are read one after the other; labels and texts are passed over."""
    files = sorted(folder.rglob("*.jpg"))
    for number, part in enumerate((files[:5], files[5:])):
        with webdataset.TarWriter(str(tmp_path / f"{number}.tar")) as sink:
            for file in part:
                sink.write({"__key__": file.stem, "jpg": file.read_bytes(), "cls": 3})
    store = extracted([tmp_path / "0.tar", str(tmp_path / "1.tar")], tmp_path / "out")
    assert list(store.ids) == [file.stem for file in files]
    assert same_rows(store, extracted(folder, tmp_path / "right"))
    one = extracted(tmp_path / "0.tar", tmp_path / "one", num_workers=2)
    assert list(one.ids) == [file.stem for file in files[:5]]


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(tarfile.ReadError):
        extracted(tmp_path / "a.tar", tmp_path / "out")


def test_a_hugging_face_dataset(folder: Path, tmp_path: Path) -> None:
    """The column of images is found; another can be named; other contents are another dataset."""
    images = [Image.open(file).convert("RGB") for file in sorted(folder.rglob("*.jpg"))]
    data = datasets.Dataset.from_dict({"label": list(range(9)), "picture": images}).cast_column(
        "picture", datasets.Image()
    )
    store = extracted(data, tmp_path / "out")
    assert list(store.ids) == [str(number) for number in range(9)]
    assert same_rows(store, extracted(folder, tmp_path / "right"))
    assert same_rows(extracted(data, tmp_path / "named", column="picture"), store)
    with pytest.raises(tl.StoreMismatchError, match="changed since they were read: '0', '1'"):
        extracted(data.select([1, 0, *range(2, 9)]), tmp_path / "out")


def test_texts(tmp_path: Path) -> None:
    """Keyword arguments of different lengths; each row is what the model gives for its text alone."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(256, 4)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.embed(input_ids) * attention_mask[..., None]

    def tokens(text: str) -> dict[str, Tensor]:
        ids = torch.tensor([list(text.encode())])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    torch.manual_seed(0)
    model, texts = Model(), ["abc", "xyz", "longer", "one", "two"]
    data = datasets.Dataset.from_dict({"text": texts})
    options: dict[str, Any] = {"preprocess": tokens, "reduce": "mean", "dtype": None}
    store = tl.extract(model, "", data, tmp_path / "out", **options)
    for row, text in enumerate(texts):
        torch.testing.assert_close(store[""][row], model(**tokens(text)).mean(1)[0])
    listed = tl.extract(model, "", list(zip("abcde", texts, strict=True)), tmp_path / "list", **options)
    assert torch.equal(listed[""][:], store[""][:])


class Endless(IterableDataset[Tensor]):
    """A stream that must not be held in memory."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.full((3, 32, 32), float(place)) for place in range(self.count))


def test_a_stream_is_continued(tmp_path: Path) -> None:
    """ShardResult shards are passed over unread; the end is that of a run without interruption."""

    def pairs(stop: int, read: list[int]) -> Iterator[tuple[str, Tensor]]:
        for place in range(11):
            if place == stop:
                raise RuntimeError("the source broke")
            read.append(place)
            yield f"item {place}", torch.full((3, 32, 32), float(place))

    with pytest.raises(RuntimeError, match="the source broke"):
        extracted(pairs(9, []), tmp_path / "out")
    assert len(tl.open_store(tmp_path / "out")) == 8
    seen: list[tuple[int, int | None, int]] = []
    store = extracted(pairs(-1, []), tmp_path / "out", progress=lambda at: seen.append((at.done, at.items, at.before)))
    assert set(seen) == {(11, None, 8)}
    extracted(pairs(-1, []), tmp_path / "fresh")
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")
    right = extracted([(f"item {n}", torch.full((3, 32, 32), float(n))) for n in range(11)], tmp_path / "list")
    assert same_rows(store, right)
    assert same_rows(extracted(Endless(11), tmp_path / "iterable"), right)
    with pytest.raises(tl.StoreMismatchError, match=r"ids of shard 0 is 'item 0 to item 3, 4 of them' in the store"):
        extracted(iter([(f"other {n}", torch.zeros(3, 32, 32)) for n in range(3)]), tmp_path / "out")


def test_a_stream_is_read_as_it_is_used(tmp_path: Path) -> None:
    """Never more than a batch ahead of the model."""
    taken, ran = [], []
    model = network()
    model.register_forward_pre_hook(lambda _, args: ran.extend([0] * len(args[0])))

    def pairs() -> Iterator[tuple[str, Tensor]]:
        for place in range(40):
            taken.append(place)
            assert len(taken) <= len(ran) + 4 + 1
            yield str(place), torch.zeros(3, 32, 32)

    tl.extract(model, "features.3", pairs(), tmp_path / "out", batch_size=4, shard_size=16)
    assert len(taken) == 40


def test_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(tl.DatasetError, match="pass a folder of images"):
        extracted(3, tmp_path / "out")
    with pytest.raises(ValueError, match="2 items have the id 'a'"):
        extracted([("a", torch.zeros(3, 32, 32)), ("a", torch.zeros(3, 32, 32))], tmp_path / "out")
    with pytest.raises(ValueError, match="an iterator can be read only once"):
        extracted(iter([]), tmp_path / "out", autotune=True)
    with pytest.raises(tl.EmptyDatasetError):
        extracted([], tmp_path / "out")
    store = extracted([("a", "text"), ("b", torch.zeros(3, 32, 32))], tmp_path / "odd")
    assert [error.id for error in store.errors] == ["a"]
    assert store.ids == ("b",)


def test_images_of_every_sort(tmp_path: Path) -> None:
    """Grey, 16-bit, palette, CMYK and transparent images all become rows."""
    folder = tmp_path / "images"
    folder.mkdir()
    for mode in ("L", "P", "CMYK", "RGBA", "I;16"):
        picture = Image.fromarray(np.full((40, 40), 300, np.uint16)) if mode == "I;16" else Image.new(mode, (40, 40))
        picture.save(folder / f"{mode[0]}{len(mode)}.tiff")
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, "PNG")
    (folder / "wrong.jpg").write_bytes(buffer.getvalue())  # a PNG by another name
    store = extracted(folder, tmp_path / "out")
    assert len(store) == 6
    assert store.errors == ()


class ReportsFromAWorker(Dataset[Any]):
    """A dataset whose items tell what the worker prints of an error in one of its threads."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        error = (BrokenPipeError if index == 0 else ValueError)("in a thread")
        with redirect_stderr(io.StringIO()) as printed:
            sys.excepthook(type(error), error, None)
        assert get_worker_info() is not None
        return torch.full((3, 32, 32), float(len(printed.getvalue()) > 0))


def test_a_worker_does_not_report_that_its_reader_is_gone(tmp_path: Path) -> None:
    """Ctrl-C while a tensor is handed over would print a traceback of a thread; other errors are printed."""
    seen: list[float] = []
    model = network()
    model.register_forward_pre_hook(lambda _, args: seen.extend(args[0][:, 0, 0, 0].tolist()))
    tl.extract(model, "features.3", ReportsFromAWorker(), tmp_path / "out", num_workers=1, batch_size=1)
    assert seen == [0, 1]
