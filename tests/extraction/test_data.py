"""What people pass as data: it works where its meaning is plain, else one error says what to give."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset, SubsetRandomSampler, TensorDataset
from torchvision import transforms

import torch_featurelayer as tl
from torch_featurelayer.store import Store

X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SMALL = tl.models.Preprocess(resize=8, crop=8)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


def extracted(data: Any, out: Path, **options: Any) -> Store:
    return tl.extract(model(), "1", data, out / "store", **{"reduce": "mean", "dtype": None, **options})


def picture(value: int) -> Image.Image:
    return Image.new("RGB", (9, 9), (value, 2 * value, 0))


TENSORS = {
    "a tensor": lambda: X,
    "an array": lambda: X.numpy(),
    "a list": lambda: list(X),
    "a list of arrays": lambda: [torch.as_tensor(x) for x in X.numpy()],
    "samples with labels": lambda: [(x, place) for place, x in enumerate(X)],
    "lists of a sample and more": lambda: [[x, place, "text"] for place, x in enumerate(X)],
    "an iterator of samples": lambda: iter(X),
    "an iterator of samples with labels": lambda: ((x, 0) for x in X),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors(kind: str, tmp_path: Path) -> None:
    """Items without names are numbered."""
    store = extracted(TENSORS[kind](), tmp_path)
    assert store.ids == tuple("012345")
    torch.testing.assert_close(store["1"][:], model()(X).detach().mean((2, 3)))


@pytest.mark.parametrize("kind", ["tensor", "bfloat16", "transposed", "list", "dict", "arrays", "TensorDataset"])
def test_a_model_that_works_in_place_leaves_the_data(kind: str, tmp_path: Path) -> None:
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rows = rows.bfloat16() if kind == "bfloat16" else rows
    kinds: dict[str, Callable[[], Any]] = {
        "tensor": lambda: rows,
        "bfloat16": lambda: rows,  # which NumPy does not have
        "transposed": lambda: rows.T.contiguous().T,
        "list": lambda: list(rows),
        "dict": lambda: {str(place): row for place, row in enumerate(rows)},
        "arrays": lambda: [row.numpy() for row in rows],
        "TensorDataset": lambda: TensorDataset(rows),
    }
    before = rows.clone()
    network = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    for size in (4, 1):
        store = tl.extract(network, ["0", "1"], kinds[kind](), tmp_path / str(size), batch_size=size, dtype=None)
        assert torch.equal(rows, before)
        assert torch.equal(store["0"][:], before)
        assert torch.equal(store["1"][:], before.relu())


def test_a_dict_and_pairs_name_their_items(tmp_path: Path) -> None:
    named = extracted({"a": X[0], "b": X[1]}, tmp_path / "named")
    pairs = extracted([("a", X[0]), (7, X[1])], tmp_path / "pairs")
    assert (named.ids, pairs.ids) == (("a", "b"), ("a", "7"))
    assert torch.equal(named["1"][:], pairs["1"][:])


PICTURES = [picture(place) for place in range(3)]
IMAGES = {
    "a list": lambda: [picture(place) for place in range(3)],
    "an array": lambda: np.stack([np.asarray(picture(place)) for place in range(3)]),
    "a list of arrays": lambda: [np.asarray(picture(place)) for place in range(3)],
    "with labels": lambda: [(picture(place), 1) for place in range(3)],
    "streaming": lambda: datasets.Dataset.from_dict(
        {"text": "abc", "image": [*map(picture, range(3))]}
    ).to_iterable_dataset(),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind: str, tmp_path: Path) -> None:
    column = {"column": "image"} if kind == "streaming" else {}
    store = extracted(IMAGES[kind](), tmp_path, preprocess=SMALL, **column)
    right = model()(torch.cat([SMALL(picture(place)) for place in range(3)])).detach().mean((2, 3))
    assert (store.ids, store.errors) == (("0", "1", "2"), ())
    torch.testing.assert_close(store["1"][:], right)


class WithoutLength(Dataset[Tensor]):
    """A map-style dataset that does not say how many items it has."""

    def __getitem__(self, place: int) -> Tensor:
        return X[place]


TABLE = datasets.Dataset.from_dict({"a": [1, 2], "b": [3, 4]})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (["a cat", "a dog"], "a list of 2 texts, such as 'a cat'.*pairs of id and text"),
        (datasets.DatasetDict(train=TABLE, test=TABLE), r"pass one of its splits: data\['train'\], data\['test'\]"),
        (5, "a int: pass a folder of images"),
        ("photos.tar.gz", "unpack it first"),
        (Path("photos.zip"), "unpack it first"),
        ([X[0], 3], "a list with a int in it"),
        (np.float32(3), "with items in the first dimension"),
        (torch.tensor(1.0), "with items in the first dimension"),
        (iter([3]), "an iterator of int"),
        (set(X), "a set has no order"),
        (X.to_sparse(), "data.to_dense"),
        (torch.nested.nested_tensor([X[0], X[1]], layout=torch.jagged), "data.unbind"),
        (np.ma.masked_array(X.numpy(), X.numpy() > 0), "its mask would be lost"),
        (pandas.DataFrame({"a": [1, 2]}), r"a DataFrame: make a Hugging Face dataset of it.*from_pandas"),
        (pyarrow.table({"a": [1, 2]}), "a Table: make a Hugging Face dataset of it"),
        (WithoutLength(), "define __len__"),
    ],
)
def test_what_is_no_dataset(data: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(tl.DatasetError, match=says) as caught:
        extracted(data, tmp_path)
    assert isinstance(caught.value, TypeError)


def test_an_iterator_without_items(tmp_path: Path) -> None:
    with pytest.raises(tl.EmptyDatasetError):
        extracted(iter([]), tmp_path)
    assert extracted(iter(X), tmp_path).ids == tuple("012345")


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    for table in (TABLE, TABLE.to_iterable_dataset()):
        with pytest.raises(tl.DatasetError, match="column 'c': the columns are 'a', 'b'"):
            extracted(table, tmp_path, column="c")


def test_paths_that_fsspec_would_read_otherwise(tmp_path: Path) -> None:
    """One image, `::` in names, folders behind links and links in a circle."""
    (tmp_path / "a::b" / "real").mkdir(parents=True)
    file = tmp_path / "a::b" / "real" / "x::y.png"
    picture(3).save(file)
    folder = tmp_path / "a::b" / "images"
    folder.mkdir()
    (folder / "linked").symlink_to(file.parent)
    (folder / "circle").symlink_to(folder)
    assert extracted(str(file), tmp_path / "one", preprocess=SMALL).ids == ("x::y.png",)
    store = extracted(folder, tmp_path / "c::d", preprocess=SMALL)
    assert store.ids == ("linked/x::y.png",)
    assert (tmp_path / "c::d" / "store" / "shards").is_dir()
    assert len(tl.open_store(tmp_path / "c::d" / "store")) == 1


def test_files_that_may_be_images_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    picture(1).save(folder / "no-ending", format="PNG")
    for name in ("b.heic", "c.AVIF.heif", "notes.txt", ".DS_Store"):
        (folder / name).write_bytes(b"x")
    with pytest.warns(
        UserWarning, match="3 files may be images but are left out.*'b.heic', 'c.AVIF.heif', 'no-ending'"
    ):
        store = extracted(folder, tmp_path, preprocess=SMALL)
    assert store.ids == ("a.png",)


def test_rows_that_cannot_be_told_apart(tmp_path: Path) -> None:
    """`preprocess` must give one row an item: two for one and none for another would be rows of other ids."""
    counts = iter([2, 0, 1, 1])
    store = extracted([(name, name) for name in "abcd"], tmp_path, preprocess=lambda _: X[: next(counts)], batch_size=2)
    assert store.ids == ("c", "d")
    assert [(error.id, error.reason.partition(":")[2][:25]) for error in store.errors] == [
        ("a", " preprocess returned 2 rows"[:25]),
        ("b", " preprocess returned 0 rows"[:25]),
    ]


class ItemsSecond(nn.Module):
    """Runs a recurrent layer over `[T, N, C]`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(5, 6, num_layers=4)

    def forward(self, x: Tensor) -> Any:
        return self.rnn(x.transpose(0, 1))


@pytest.mark.parametrize("length", [4, 7])
def test_items_in_the_second_dimension(length: int, tmp_path: Path) -> None:
    """Also where there are as many steps, or layers, as items."""
    data = torch.randn(4, length, 5)
    network = ItemsSecond().eval()
    outputs, (hidden, _) = network(data)
    for layer in ("rnn[0]", "rnn[1][0]"):
        with pytest.raises(tl.LayoutError, match=r"items of this feature are in dimension 1.*layout='TNC'"):
            tl.extract(network, layer, data, tmp_path / layer, batch_size=4)
    told = tl.extract(network, "rnn[0]", data, tmp_path / "told", layout="TNC", dtype=None, batch_size=4)
    torch.testing.assert_close(told["rnn[0]"][:], outputs.detach().transpose(0, 1))
    mean = tl.extract(
        network, ["rnn[0]", "rnn[1][0]"], data, tmp_path / "mean", reduce="mean", dtype=None, batch_size=4
    )
    torch.testing.assert_close(mean["rnn[0]"][:], outputs.detach().mean(0))
    torch.testing.assert_close(mean["rnn[1][0]"][:], hidden.detach().mean(0))


def test_patterns_extract_what_runs(tmp_path: Path) -> None:
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
    store = tl.extract(vit, ["blocks.0.attn.**"], torch.randn(3, 3, 32, 32), tmp_path / "store", reduce="flatten")
    assert "blocks.0.attn.proj" in store.layers
    assert "blocks.0.attn.attn_drop" not in store.layers


class OddNames(nn.Module):
    """Layers that are named as parts of a store."""

    NAMES = ("id", "row", "__metadata__", "torch_featurelayer", "error")

    def __init__(self) -> None:
        super().__init__()
        for name in self.NAMES:
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def test_layers_named_as_parts_of_a_store(tmp_path: Path) -> None:
    network, data = OddNames(), torch.randn(3, 4)
    store = tl.extract(network, OddNames.NAMES, data, tmp_path / "store", dtype=None)
    feats, _ = tl.FeatureLayers(network, OddNames.NAMES)(data)
    assert store.verify() == 3
    for name in OddNames.NAMES:
        torch.testing.assert_close(store[name][:], feats[name].detach())
    assert set(store.samples()[1]) == {"id", "layer:id", "row", "__metadata__", "torch_featurelayer", "error"}
    store.to_parquet(tmp_path / "table.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "table.parquet")
    assert table["id"].to_pylist() == ["0", "1", "2"]
    assert table["layer:id"].to_pylist()[1] == pytest.approx(store["id"][1].tolist())


def test_tables_hold_every_digit(tmp_path: Path) -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole, self.fine, self.yes = nn.Identity(), nn.Identity(), nn.Identity()
            self.pair = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            self.whole((x * 0).long() + 2**53 + 1)
            self.fine(x.double() * 0 + 1 / 3)
            self.yes(x > 0)
            return self.pair(torch.complex(x, x))

    names = ["whole", "fine", "yes"]
    store = tl.extract(Whole(), [*names, "pair"], X[:, 0, 0], tmp_path / "store", dtype=None)
    store.to_parquet(tmp_path / "table", *names)
    table = pyarrow.parquet.read_table(tmp_path / "table")
    assert table["whole"].to_pylist()[0][0] == 2**53 + 1
    assert table["fine"].to_pylist()[0][0] == 1 / 3
    assert table["yes"].to_pylist() == (X[:, 0, 0] > 0).tolist()
    with pytest.raises(TypeError, match="complex numbers"):
        store.to_parquet(tmp_path / "other", "pair")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.complex64])
def test_a_dtype_that_would_cut_values_off(dtype: torch.dtype, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype must be a floating-point type"):
        extracted(X, tmp_path, dtype=dtype)


def test_eight_bit_floats(tmp_path: Path) -> None:
    store = extracted(X, tmp_path / "fits", dtype=torch.float8_e4m3fn)
    assert store["1"].dtype is torch.float8_e4m3fn
    with pytest.raises(tl.FeatureOverflowError, match="float8_e4m3fn"):
        extracted(X * 1e5, tmp_path / "over", dtype=torch.float8_e4m3fn)


def test_reductions_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(tl.ReductionError, match="must return a tensor, not a tuple"):
        extracted(X, tmp_path / "a", reduce=lambda feat: (feat, feat))
    whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Identity())
    whole[2].register_forward_hook(lambda _, __, output: output.long())
    with pytest.raises(tl.ReductionError, match="'mean' is not defined for int64 values"):
        tl.extract(whole, "2", X, tmp_path / "b", reduce="mean")


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    with pytest.raises(tl.StoreTargetError, match="it is a file"):
        extracted(X, tmp_path)
    (tmp_path / "folder" / "store").mkdir(parents=True)
    (tmp_path / "folder" / "store" / "mine.txt").write_text("mine")
    with pytest.raises(tl.StoreTargetError, match=r"holds other files, such as 'mine\.txt'"):
        extracted(X, tmp_path / "folder")
    (tmp_path / "empty" / "store").mkdir(parents=True)
    assert len(extracted(X, tmp_path / "empty")) == 6


def test_a_users_folder_is_never_deleted(tmp_path: Path) -> None:
    extracted(X, tmp_path)
    for name in (".tmp", "tmp"):
        (tmp_path / "store" / name).mkdir()
        (tmp_path / "store" / name / "mine").write_text("mine")
    extracted(X, tmp_path)
    assert (tmp_path / "store" / ".tmp" / "mine").read_text() == "mine"


@pytest.mark.parametrize("damage", ["cut", "no header", "empty"])
def test_a_damaged_shard_is_made_again(damage: str, tmp_path: Path) -> None:
    extracted(X, tmp_path, shard_size=2, batch_size=2)
    shard = tmp_path / "store" / "shards" / "00000001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes({"cut": whole[:-5], "no header": b"x" * 50, "empty": b""}[damage])
    with pytest.warns(UserWarning, match=r"00000001\.safetensors is damaged .*: the shard is deleted"):
        store = extracted(X, tmp_path, shard_size=2, batch_size=2)
    assert shard.read_bytes() == whole
    assert store.verify() == 6


def test_a_store_that_was_moved_while_open(tmp_path: Path) -> None:
    store = extracted(X, tmp_path)
    (tmp_path / "store").rename(tmp_path / "moved")
    with pytest.raises(tl.StoreNotFoundError, match="moved or deleted after it was opened"):
        _ = store["1"][0]
    assert tl.open_store(tmp_path / "moved")["1"][0].shape == (4,)


@pytest.mark.parametrize("number", [np.int64(2), np.uint8(2), torch.tensor(2), torch.tensor(-4)])
def test_rows_by_numbers_of_other_libraries(number: Any, tmp_path: Path) -> None:
    store = extracted(X, tmp_path)
    assert torch.equal(store["1"][number], store["1"][2])
    if not isinstance(number, Tensor):
        assert store.samples()[number]["id"] == "2"


def test_subsets_by_arrays(tmp_path: Path) -> None:
    store = extracted(X, tmp_path)
    for layer in (store["1"], store.samples()):
        assert len(Subset(layer, np.array([4, 1]))) == 2  # type: ignore[arg-type]
    assert torch.equal(Subset(store["1"], np.array([4, 1]))[0], store["1"][4])  # type: ignore[arg-type]
    assert Subset(store.samples(), np.array([4, 1]))[1]["id"] == "1"  # type: ignore[arg-type]


def test_a_model_that_cannot_be_copied(tmp_path: Path) -> None:
    class Single(nn.Sequential):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("there is one of me")

    with pytest.warns(UserWarning, match="cannot be copied, so it runs eagerly: there is one of me"):
        store = tl.extract(Single(nn.Conv2d(3, 4, 3)), "0", X, tmp_path / "store", autotune=True)
    assert store.metadata["mode"] == "eager"
    with pytest.raises(RuntimeError):
        copy.deepcopy(Single())


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor.*:UserWarning")
def test_quantized_features(tmp_path: Path) -> None:
    class Quantized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)).dequantize()

    store = tl.extract(Quantized(), "layer", X[:, 0, 0], tmp_path / "store", dtype=torch.float32)
    torch.testing.assert_close(store["layer"][:], Quantized()(X[:, 0, 0]))


def test_rows_that_are_not_finite_never_match(tmp_path: Path) -> None:
    data = X.clone()
    data[2], data[3, 0, 0, 0] = float("nan"), float("inf")
    store = extracted(data, tmp_path)
    query = store["1"][0]
    indices = [tl.similarity.Index(store), tl.similarity.FaissIndex(store, probes=4)]
    for matches in (tl.similarity.search(store, query), *(index.search(query) for index in indices)):
        assert sorted(match.id for match in matches) == ["0", "1", "4", "5"]
        assert matches[0].id == "0"
    with pytest.raises(ValueError, match="not finite"):
        tl.similarity.search(store, "2")
    assert not any("2" in (pair.first, pair.second) for pair in tl.similarity.near_duplicates(store, threshold=-1))
    assert np.isnan(tl.similarity.cka(data, X))


def test_identical_rows_are_duplicates(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(40, 3, 8, 8, generator=generator)
    store = extracted(torch.cat([rows, rows]), tmp_path, batch_size=80)
    pairs = tl.similarity.near_duplicates(store, threshold=1.0)
    assert {(pair.first, pair.second) for pair in pairs} >= {(str(n), str(n + 40)) for n in range(40)}
    assert all(pair.score <= 1 for pair in pairs)


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (np.full((4, 4), 0.5, dtype=np.float32), 0.5),
        (Image.fromarray(np.full((4, 4), 32768, dtype=np.int32)), 0.5),
        (Image.fromarray(np.full((4, 4), 127.5, dtype=np.float32)), 0.5),
        (np.full((4, 4), 32768, dtype=np.uint16), 0.5),
    ],
)
def test_images_of_more_than_eight_bits(array: Any, value: float, tmp_path: Path) -> None:
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(tmp_path / "image.tiff")
    for source in (tmp_path / "image.tiff", array):
        pixels = tl.images.load(source, resize=None, crop=None, mean=None, std=None)
        assert pixels.mean().item() == pytest.approx(value, abs=0.01)


@pytest.mark.parametrize("value", [70_000, -1])
def test_images_out_of_range(value: int, tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), value, dtype=np.int32)).save(tmp_path / "image.tiff")
    with pytest.raises(tl.ImageError, match="integers must be from 0 to 65535"):
        tl.images.load(tmp_path / "image.tiff")
    Image.fromarray(np.full((4, 4), 300.0, dtype=np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(tl.ImageError, match="floating-point values must be from 0 to 1"):
        tl.images.load(tmp_path / "float.tiff")


class Pixels(nn.Module):
    """The mean of the pixels of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == 4
        return x.mean((2, 3))


def as_tensor(image: Any) -> Tensor:
    return torch.as_tensor(np.array(image)).permute(2, 0, 1) / 255


@pytest.mark.parametrize("transform", [transforms.ToTensor(), transforms.Compose([transforms.ToTensor()]), as_tensor])
@pytest.mark.parametrize("make", [picture, lambda value: np.array(picture(value))])
def test_transforms_of_one_image(transform: Any, make: Any, tmp_path: Path) -> None:
    """Those of torchvision return an image without a dimension of items."""
    store = tl.extract(nn.Sequential(Pixels()), "0", [make(1), make(2)], tmp_path / "store", preprocess=transform)
    right = torch.stack([as_tensor(picture(value)).mean((1, 2)) for value in (1, 2)])
    torch.testing.assert_close(store["0"][:], right.half())


def test_transforms_to_one_channel(tmp_path: Path) -> None:
    transform = transforms.Compose([transforms.Grayscale(), transforms.ToTensor()])
    store = tl.extract(nn.Sequential(Pixels()), "0", [picture(1), picture(2)], tmp_path, preprocess=transform)
    assert store["0"][:].shape == (2, 1)


def test_transforms_of_tensors(tmp_path: Path) -> None:
    store = tl.extract(
        nn.Sequential(Pixels()), "0", torch.ones(2, 3, 8, 8), tmp_path, preprocess=transforms.CenterCrop(4)
    )
    assert store["0"][:].tolist() == [[1.0] * 3] * 2


def test_three_rows_for_an_item_that_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(tl.ItemError, match=r"returned 3 rows .* add `\.unsqueeze\(0\)`"):
        extracted(torch.ones(2, 4), tmp_path, preprocess=lambda row: row.expand(3, 2, 4))
    assert [error.id for error in tl.open_store(tmp_path / "store").errors] == ["0", "1"]


@pytest.mark.parametrize("sampler", [[3, 1], SubsetRandomSampler([3, 1])])
def test_the_items_of_a_sampler(tmp_path: Path, sampler: Any) -> None:
    rows = torch.arange(20.0).reshape(5, 4)
    model = nn.Sequential(nn.Identity())
    loader = DataLoader(TensorDataset(rows), batch_size=2, sampler=sampler)
    store = tl.extract(model, "0", loader, tmp_path / "some", dtype=None)
    assert store.ids == ("1", "3")
    assert torch.equal(store["0"][:], rows[[1, 3]])
    whole = tl.extract(model, "0", DataLoader(TensorDataset(rows), shuffle=True), tmp_path / "whole", dtype=None)
    assert torch.equal(whole["0"][:], rows)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sampler": RandomSampler(range(5), replacement=True)}, "at random"),
        ({"batch_sampler": [[0, 1], [4]]}, "batch_sampler"),
    ],
)
def test_a_loader_that_would_be_ignored(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(5, 4)), **options)
    with pytest.raises(tl.DatasetError, match=problem):
        tl.extract(nn.Sequential(nn.Identity()), "0", loader, tmp_path)


def test_the_function_and_the_batch_size_of_a_loader_are_used(tmp_path: Path) -> None:
    rows, sizes = torch.randn(7, 4), []

    def collate(samples: list[Any]) -> Any:
        sizes.append(len(samples))
        return torch.stack([sample[0] for sample in samples]) * 100, [sample[1] for sample in samples]

    data = TensorDataset(rows, torch.arange(7))
    model = nn.Sequential(nn.Identity())
    loader = DataLoader(data, batch_size=3, collate_fn=collate)
    store = tl.extract(model, "0", loader, tmp_path / "loader", dtype=None)
    assert torch.equal(store["0"][:], rows * 100)
    assert sizes == [3, 3, 1]
    assert store.metadata["batch_size"] == 3
    assert store.column("label").tolist() == list(range(7))
    own = tl.extract(model, "0", data, tmp_path / "own", dtype=None, collate_fn=collate, batch_size=4)
    assert torch.equal(own["0"][:], rows * 100)
    with pytest.raises(tl.StoreMismatchError, match="preprocess is"):
        tl.extract(model, "0", DataLoader(data, batch_size=3), tmp_path / "loader", dtype=None)


def test_samples_that_cannot_be_collated_are_errors_of_their_own(tmp_path: Path) -> None:
    def collate(samples: list[Any]) -> Tensor:
        if any(sample.sum() < 0 for sample in samples):
            raise ValueError("negative")
        return torch.stack(samples)

    data = [torch.ones(4), -torch.ones(4), torch.ones(4)]
    store = tl.extract(nn.Sequential(nn.Identity()), "0", data, tmp_path, collate_fn=collate)
    assert store.ids == ("0", "2")
    assert store.errors[0].reason == "ValueError: negative"


@pytest.mark.parametrize("kind", TENSORS)
def test_a_function_preprocesses_tensors_too(kind: str, tmp_path: Path) -> None:
    """A `Preprocess` is for images, and leaves tensors as they are."""
    store = extracted(TENSORS[kind](), tmp_path / "function", preprocess=lambda sample: 2 * sample[None] + 1)
    torch.testing.assert_close(store["1"][:], model()(2 * X + 1).detach().mean((2, 3)))
    store = extracted(TENSORS[kind](), tmp_path / "images", preprocess=SMALL)
    torch.testing.assert_close(store["1"][:], model()(X).detach().mean((2, 3)))


def test_a_preprocess_that_is_an_empty_list_is_used(tmp_path: Path) -> None:
    class Steps(list[Any]):
        """Transforms in a list: without any, it is false."""

        def __call__(self, text: str) -> Tensor:
            return torch.full((1, 3, 8, 8), float(len(text)))

    store = extracted({"a": "four"}, tmp_path, preprocess=Steps())
    torch.testing.assert_close(store["1"][:], model()(torch.full((1, 3, 8, 8), 4.0)).detach().mean((2, 3)))


def test_no_item_can_be_read(tmp_path: Path) -> None:
    data = [(str(place), "a text that nothing preprocesses") for place in range(3)]
    for _ in range(2):
        with pytest.raises(tl.ItemError, match="None of the 3 items has features") as caught:
            tl.extract(nn.Sequential(nn.Identity()), "0", data, tmp_path)
    assert caught.value.id == "0"
    assert len(tl.open_store(tmp_path).errors) == 3


class Learned(nn.Module):
    """A preprocessing with a parameter: what it returns is part of a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image: Image.Image) -> Tensor:
        return torch.full((1, 3, 6, 6), float(image.getpixel((0, 0))[0])) * self.scale  # type: ignore[index, arg-type]


@pytest.mark.parametrize("kind", ["rows", "samples", "columns", "graph"])
def test_worker_processes_send_everything(kind: str, tmp_path: Path) -> None:
    """What a worker cannot pickle, it would never send: the extraction would wait for ever."""
    data: Any = {"rows": X, "samples": list(X), "columns": X, "graph": [picture(1), picture(2), picture(3)]}[kind]
    options: dict[str, Any] = {"columns": {"label": list(range(len(X)))}} if kind == "columns" else {}
    if kind == "graph":
        options["preprocess"] = Learned()
    run = partial(tl.extract, nn.Sequential(nn.Conv2d(3, 4, 3)), "0", data, batch_size=2, reduce="mean", **options)
    assert torch.equal(run(tmp_path / "one", num_workers=0)["0"][:], run(tmp_path / "two", num_workers=2)["0"][:])


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """Python has lone surrogates for their bytes, which Arrow cannot store; ids have them escaped, by number."""
    folder = os.fsencode(tmp_path / "images")
    os.mkdir(folder)
    for name in (b"a.png", b"caf\xe9.png"):
        with open(os.path.join(folder, name), "wb") as file:
            picture(1).save(file, "PNG")
    (tmp_path / "images" / "broken\udce9.png").write_bytes(b"no image")
    store = extracted(tmp_path / "images", tmp_path, preprocess=SMALL)
    assert store.ids == ("a.png", r"caf\udce9.png")
    assert [error.id for error in store.errors] == [r"broken\udce9.png"]
    again = extracted(tmp_path / "images", tmp_path, preprocess=SMALL)
    assert again.ids == store.ids
    stream = extracted(iter([("x\udce9", X[0])]), tmp_path / "stream")
    rows = extracted([("x\udce9", X[0])], tmp_path / "rows", columns={"name": ["y\udce9"]})
    assert stream.ids == rows.ids
    assert (rows.ids, rows.column("name").tolist()) == ((r"x\udce9",), [r"y\udce9"])
