"""What a store holds of each item: labels and columns, errors, values that are not finite, and what is missing."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import torch_featurelayer as tl
from torch_featurelayer.store import Store

X = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two layers; it refuses inputs whose first value is 99."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1, 3, 2)
        self.head = nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        if (x[:, 0] == 99).any():
            raise IndexError("index out of range in self")
        return self.head(self.conv(x.unsqueeze(1)).flatten(1))


def extracted(data: Any, out: Path, layer: Any = "head", **options: Any) -> Store:
    return tl.extract(Net(), layer, data, out, **{"dtype": None, **options})


def right(rows: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = Net()(rows)
        return found


class Labelled(Dataset[Any]):
    """Samples with labels of several kinds."""

    def __init__(self, label: Any) -> None:
        self._label = label

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, place: int) -> Any:
        return X[place], self._label(place)


LABELS: dict[str, tuple[Any, list[Any]]] = {
    "number": (lambda place: place * 2, [0, 2, 4]),
    "text": (lambda place: f"class {place}", ["class 0", "class 1", "class 2"]),
    "float": (lambda place: place / 2, [0.0, 0.5, 1.0]),
    "tensor": (lambda place: torch.tensor(place), [0, 1, 2]),
    "numpy": (lambda place: np.int64(place), [0, 1, 2]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_kept(kind: str, tmp_path: Path) -> None:
    make, first = LABELS[kind]
    store = extracted(Labelled(make), tmp_path / "store", shard_size=4)
    assert store.columns == ("label",)
    assert store.column("label").tolist()[:3] == first
    assert store.samples()[1]["label"] == first[1]
    torch.testing.assert_close(store["head"][:], right(X))
    batch = next(iter(DataLoader(store.samples("head"), batch_size=3)))
    assert list(batch["label"]) == first
    store.to_parquet(tmp_path / "rows.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet")["label"].to_pylist()[:3] == first
    with pytest.raises(tl.FeatureNotFoundError, match="'labels'"):
        store.column("labels")


@pytest.mark.parametrize("make", [lambda place: torch.tensor([place, 1]), lambda place: [place, 1]])
def test_several_labels_of_an_item_are_kept(make: Any, tmp_path: Path) -> None:
    store = extracted(Labelled(make), tmp_path / "store", shard_size=4)
    assert [list(labels) for labels in store.column("label")] == [[place, 1] for place in range(len(X))]
    assert list(store.samples()[3]["label"]) == [3, 1]
    store.to_parquet(tmp_path / "rows.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet")["label"].to_pylist()[3] == [3, 1]
    with pytest.raises(tl.StoreMismatchError, match="changed since"):
        extracted(Labelled(lambda place: make(place + 1)), tmp_path / "store", shard_size=4)


def test_columns_of_a_table_are_read_by_place(tmp_path: Path) -> None:
    """`series[0]` is the value of the label 0, wherever it stands."""
    values = pandas.Series(range(10)).sample(frac=1, random_state=0)
    store = extracted(list(X), tmp_path / "series", columns={"value": values, "iterator": iter(values)})
    assert store.column("value").tolist() == store.column("iterator").tolist() == values.tolist() != list(range(10))


def test_a_changed_label_is_a_changed_item(tmp_path: Path) -> None:
    extracted(Labelled(lambda place: place), tmp_path, shard_size=4)
    other = Labelled(lambda place: 7 if place == 5 else place)
    with pytest.raises(tl.StoreMismatchError) as caught:
        extracted(other, tmp_path, shard_size=4)
    assert caught.value.items == ("5",)
    assert extracted(other, tmp_path, shard_size=4, changed="redo").column("label").tolist()[5] == 7


def test_columns_by_item(tmp_path: Path) -> None:
    store = extracted(list(X), tmp_path / "a", columns={"split": ["train"] * 9 + ["test"], "weight": np.arange(10.0)})
    assert store.column("split").tolist() == ["train"] * 9 + ["test"]
    assert store.column("weight").tolist() == list(range(10))
    with pytest.raises(tl.DatasetError, match="column 'split': it has 3 values for 10 items"):
        extracted(list(X), tmp_path / "b", columns={"split": list("abc")})
    with pytest.raises(tl.DatasetError, match=r"pass a list of names: columns=\['label'\]"):
        extracted(list(X), tmp_path / "b", columns="label")
    for options in ({"columns": ["label"]}, {"column": "x"}):
        for data in (X, X.numpy()):
            with pytest.raises(tl.DatasetError, match="only tables and samples that are dicts have columns by name"):
                extracted(data, tmp_path / "b", **options)
        with pytest.raises(tl.ItemError, match="only tables and samples that are dicts have columns by name"):
            extracted(list(X), tmp_path / next(iter(options)), **options)


class Dicts(Dataset[Any]):
    """Samples that are dicts, as many data sets of tables are."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"x": X[place], "label": place, "name": f"item {place}"}


def test_samples_that_are_dicts(tmp_path: Path) -> None:
    """A column of them, or all of them as keyword arguments."""
    store = extracted(Dicts(), tmp_path / "column", column="x", columns=["label", "name"])
    assert store.column("name").tolist()[3] == "item 3"
    torch.testing.assert_close(store["head"][:], right(X))
    listed = extracted([*Dicts()], tmp_path / "listed", column="x", columns=["label", "name"])  # type: ignore[misc]
    assert listed.column("name").tolist() == store.column("name").tolist()
    keywords = extracted([{"x": row} for row in X], tmp_path / "keywords")
    torch.testing.assert_close(keywords["head"][:], right(X))
    wrong = extracted(list(X), tmp_path / "right")
    assert wrong.ids == keywords.ids
    with pytest.raises(tl.ItemError, match="column 'y': the columns are 'x', 'label', 'name'"):
        extracted(Dicts(), tmp_path / "wrong", column="y")


def test_audio(tmp_path: Path) -> None:
    """Arrays of samples in time, of one length or padded by a function of the user."""
    model = nn.Sequential(nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 4, 16, 8))
    sounds = [np.sin(np.arange(800) * place / 30) for place in range(1, 5)]
    store = tl.extract(model, "1", sounds, tmp_path / "same", reduce="mean", dtype=None)
    whole = torch.stack([torch.tensor(sound, dtype=torch.float32) for sound in sounds])
    torch.testing.assert_close(store["1"][:], model(whole).mean(2))
    uneven = [sound[: 400 + 100 * place] for place, sound in enumerate(sounds)]

    def pad(samples: list[np.ndarray]) -> Tensor:
        return nn.utils.rnn.pad_sequence([torch.tensor(sample, dtype=torch.float32) for sample in samples], True)

    padded = tl.extract(model, "1", uneven, tmp_path / "padded", reduce="max", collate_fn=pad, dtype=None)
    torch.testing.assert_close(padded["1"][:], model(pad(uneven)).amax(2))


def test_a_reduction_for_each_layer(tmp_path: Path) -> None:
    store = extracted(X, tmp_path, ["conv", "head"], reduce={"conv": "mean"})
    assert (store["conv"].shape, store["head"].shape) == ((10, 3), (10, 2))
    assert store.metadata["reduce"] == {"conv": "mean"}
    with pytest.raises(tl.StoreMismatchError, match="reduce"):
        extracted(X, tmp_path, ["conv", "head"], reduce={"conv": "max"})
    with pytest.raises(ValueError, match="reduce= names 'con'"):
        extracted(X, tmp_path / "other", ["conv", "head"], reduce={"con": "max"})


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_items_that_the_model_rejects(batch_size: int, tmp_path: Path) -> None:
    data = X.clone()
    data[[2, 7], 0] = 99
    store = extracted(data, tmp_path / "store", batch_size=batch_size, shard_size=4)
    assert [(error.id, error.reason) for error in store.errors] == [
        ("2", "IndexError: index out of range in self"),
        ("7", "IndexError: index out of range in self"),
    ]
    good = [place for place in range(10) if place not in (2, 7)]
    assert list(store.ids) == list(map(str, good))
    torch.testing.assert_close(store["head"][:], right(X[good]))
    assert store.ids.index("8") == 6
    assert "7" not in store.ids
    with pytest.raises(tl.ItemError, match=r"2: IndexError"):
        extracted(data, tmp_path / "strict", strict=True)


def test_a_model_that_rejects_all(tmp_path: Path) -> None:
    """Few items: an error that names the first; many: the exception of the model, at once."""
    data = torch.full((40, 4), 99.0)
    with pytest.raises(tl.ItemError, match="0: IndexError: .*None of the 5 items has features"):
        extracted(data[:5], tmp_path / "few")
    with pytest.raises(IndexError, match="out of range"):
        extracted(data, tmp_path / "many")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied|size"):
        extracted(torch.zeros(40, 7), tmp_path / "shape")


class Together(nn.Module):
    """Takes items alone only."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 1:
            raise RuntimeError("one at a time")
        return x


def test_a_model_that_rejects_batches(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="one at a time"):
        tl.extract(nn.Sequential(Together()), "0", X, tmp_path)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    data = X.clone()
    data[3, 1], data[8] = torch.nan, torch.inf
    store = tl.extract(nn.Sequential(nn.Identity()), "0", data, tmp_path / "record", shard_size=4)
    assert store.nonfinite == {"3": 1, "8": 4}
    assert len(store) == 10
    assert tl.similarity.search(store, "0", k=10)[-1].id not in ("3", "8")
    with pytest.raises(tl.NonFiniteError, match="'0' has 1 NaN or infinite values for '3'") as caught:
        tl.extract(nn.Sequential(nn.Identity()), "0", data, tmp_path / "raise", finite="raise")
    assert (caught.value.name, caught.value.id, caught.value.count) == ("0", "3", 1)
    with pytest.raises(ValueError, match="finite must be 'record' or 'raise', not 'ignore'"):
        tl.extract(nn.Sequential(nn.Identity()), "0", data, tmp_path / "raise", finite="ignore")  # type: ignore[arg-type]


def images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for place in range(count):
        Image.new("RGB", (8, 8), (place, 0, 0)).save(folder / f"{place}.png")
    return folder


def flaky(error: Exception, failures: int) -> Any:
    """A function that opens files; the first attempts to open one of them fail."""
    left, original = [failures], Path.open

    def opened(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "3.png" and left[0]:
            left[0] -= 1
            raise error
        return original(path, *args, **kwargs)

    return opened


TEMPORARY = [
    ConnectionResetError("reset"),
    TimeoutError("slow"),
    PermissionError(13, "denied"),
    OSError(5, "Input/output"),
]


@pytest.mark.parametrize("error", TEMPORARY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("failures", [2, 99])
def test_temporary_failures_are_no_faults_of_items(
    error: Exception, failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried again after some time; if they last, the call fails, and a later one continues."""
    folder, waited = images(tmp_path / "images", 6), []
    monkeypatch.setattr(time, "sleep", waited.append)
    options: dict[str, Any] = {"preprocess": tl.models.Preprocess(resize=None, crop=None), "shard_size": 2}
    model = nn.Sequential(nn.Flatten())

    def run() -> Store:
        return tl.extract(model, "0", folder, tmp_path / "store", **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", flaky(error, failures))
        if failures == 99:
            with pytest.raises(
                tl.TemporaryReadError, match=r"'3\.png' could not be read after several attempts"
            ) as caught:
                run()
            assert isinstance(caught.value, OSError)
            assert caught.value.id == "3.png"
        else:
            run()
    store = run()
    assert (len(store), store.errors, store.complete) == (6, (), True)
    assert waited == [0.2, 0.8, 3.0][: min(failures, 3)]


def test_a_temporary_failure_in_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = images(tmp_path / "images", 6)
    monkeypatch.setattr("torch_featurelayer.extraction.sources.reading._DELAYS", (0.01,))
    monkeypatch.setattr(Path, "open", flaky(ConnectionResetError("reset"), 99))
    with pytest.raises(tl.TemporaryReadError, match="'3.png'"):
        tl.extract(nn.Sequential(nn.Flatten()), "0", folder, tmp_path / "store", num_workers=1, shard_size=2)


def test_faults_of_items_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = images(tmp_path / "images", 4)
    (folder / "2.png").write_bytes(b"no image")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited for a file that will not change"))
    store = tl.extract(nn.Sequential(nn.Flatten()), "0", folder, tmp_path / "store")
    assert [error.id for error in store.errors] == ["2.png"]


def test_a_deleted_shard_is_missing(tmp_path: Path) -> None:
    whole = extracted(X, tmp_path, shard_size=3)
    assert (whole.complete, whole.missing) == (True, ())
    (tmp_path / "shards" / "00000001.safetensors").unlink()
    store = tl.open_store(tmp_path)
    assert (store.complete, store.missing, len(store)) == (False, (1,), 7)
    assert list(store.ids) == ["0", "1", "2", "6", "7", "8", "9"]
    torch.testing.assert_close(store["head"][3], right(X)[6].detach())
    with pytest.raises(tl.StoreIncompleteError, match="1 shards are missing"):
        store.verify()
    assert "1 shards missing" in repr(store)
    again = extracted(X, tmp_path, shard_size=3)
    assert (again.complete, again.verify()) == (True, 10)


def test_an_unfinished_store_is_not_complete(tmp_path: Path) -> None:
    class Stops(Dataset[Tensor]):
        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, place: int) -> Tensor:
            if place == 7:
                raise KeyboardInterrupt
            return X[place]

    with pytest.raises(KeyboardInterrupt):
        extracted(Stops(), tmp_path, shard_size=3)
    store = tl.open_store(tmp_path)
    assert (store.complete, store.missing) == (False, (2, 3))
    torch.testing.assert_close(store["head"][:], right(X[:6]))


def test_rows_that_do_not_fit_together(tmp_path: Path) -> None:
    """In one shard and in several, and of several dtypes: refused at the item."""
    sizes = [torch.zeros(4), torch.zeros(4), torch.zeros(6)]
    for name, shard in (("one", 8), ("several", 2)):
        with pytest.raises(ValueError, match="'0' has rows of"):
            tl.extract(nn.Sequential(nn.Identity()), "0", sizes, tmp_path / name, shard_size=shard, batch_size=1)
    kinds = [torch.tensor([1, 2]), torch.tensor([1.7, 2.0])]
    for name, shard in (("one dtype", 8), ("several dtypes", 1)):
        with pytest.raises(ValueError, match="'0' has rows of"):
            tl.extract(
                nn.Sequential(nn.Identity()), "0", kinds, tmp_path / name, shard_size=shard, batch_size=1, dtype=None
            )
    assert tl.open_store(tmp_path / "several")["0"].shape == (2, 4)


def test_rows_are_copies(tmp_path: Path) -> None:
    layer = extracted(X, tmp_path, shard_size=4)["head"]
    before = layer[:].clone()
    for rows in (
        layer[2],
        layer[1:7],
        layer[[1, 5]],
        layer[:],
        next(iter(layer)),
        layer.item("3"),
        layer.__getitems__([4])[0],
    ):
        rows.zero_()
    assert torch.equal(layer[:], before)


def test_files_that_are_no_shards(tmp_path: Path) -> None:
    extracted(X, tmp_path, shard_size=4)
    for name in (".DS_Store", "Thumbs.db", "00000001.safetensors.tmp", "notes.safetensors"):
        (tmp_path / "shards" / name).write_bytes(b"x")
    (Path(os.fsdecode(os.fsencode(str(tmp_path / "shards")) + b"/\xff\xfe"))).write_bytes(b"x")
    store = extracted(X, tmp_path, shard_size=4)
    assert store.verify() == 10


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a folder read-only")
def test_a_finished_store_that_cannot_be_written(tmp_path: Path) -> None:
    extracted(X, tmp_path)
    subprocess.run(["mount", "--bind", str(tmp_path), str(tmp_path)], check=True)  # noqa: S607
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path)], check=True)  # noqa: S607
        assert len(extracted(X, tmp_path)) == 10
        with pytest.raises(OSError, match="Read-only"):
            extracted(X + 1, tmp_path, changed="redo")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)  # noqa: S607


def test_what_differs_between_stores(tmp_path: Path) -> None:
    one = extracted(TensorDataset(X), tmp_path / "one")
    same = extracted(TensorDataset(X), tmp_path / "same")
    assert one.diff(same) == {}
    changed = X.clone()
    changed[4] += 1
    other = extracted(TensorDataset(changed), tmp_path / "other", dtype=torch.float32)
    assert one.diff(other) == {"dtype": (None, "torch.float32"), "changed": (["4"], ["4"])}
    fewer = extracted(TensorDataset(X[:8]), tmp_path / "fewer")
    assert one.diff(tmp_path / "fewer")["items"] == (["8", "9"], [])
    assert fewer.diff(one)["items"] == ([], ["8", "9"])
