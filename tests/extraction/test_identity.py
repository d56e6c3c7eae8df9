"""A store never returns old features: whatever changes what is computed, or the items, is noticed and named."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import subprocess
import sys
import threading
import types
from collections import defaultdict
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import fsspec
import pytest
import tokenizers
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import models as vision

import torch_featurelayer as tl
from tests.texts import make_tokenizer
from torch_featurelayer.extraction.code import is_installed, package_versions
from torch_featurelayer.extraction.identity import digest, model_digests

ITEMS = [(name, torch.full((4,), float(place))) for place, name in enumerate("abcdefgh")]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU())


class Scaled(nn.Module):
    """A scale that is no parameter, and a buffer that is not saved."""

    def __init__(self, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.scale = scale
        self.register_buffer("shift", torch.tensor(shift), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self.scale + self.shift


class Doubled(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def build(kind: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def quantized(seed: int) -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(network(seed), {nn.Linear}, torch.qint8)


def with_hook() -> nn.Module:
    model = network()
    model[0].register_forward_hook(lambda _, __, output: output * 2)
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], str]] = {
    "weights": (network, lambda: network(1), "weights"),
    "forward": (lambda: build(Scaled), lambda: build(Doubled), "code"),
    "activation": (
        lambda: nn.Sequential(nn.Flatten(), nn.ReLU()),
        lambda: nn.Sequential(nn.Flatten(), nn.GELU()),
        "code",
    ),
    "scale": (lambda: build(Scaled), lambda: build(lambda: Scaled(2.0)), "attributes"),
    "unsaved buffer": (lambda: build(Scaled), lambda: build(lambda: Scaled(shift=1.0)), "weights"),
    "quantized": (lambda: quantized(0), lambda: quantized(1), "weights"),
    "hook": (network, with_hook, "code"),
    "option of a layer": (
        lambda: nn.Sequential(nn.LeakyReLU(0.1)),
        lambda: nn.Sequential(nn.LeakyReLU(0.2)),
        "attributes",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch.ao.quantization
@pytest.mark.parametrize("name", MODELS)
def test_another_model_is_refused(name: str, tmp_path: Path) -> None:
    first, second, setting = MODELS[name]
    layer = "0" if isinstance(first(), nn.Sequential) else "fc"
    store = tl.extract(first(), layer, ITEMS, tmp_path)
    same = tl.extract(first(), layer, ITEMS, tmp_path)
    assert torch.equal(store[layer][:], same[layer][:])
    with pytest.raises(tl.StoreMismatchError, match=f"{setting} is") as caught:
        tl.extract(second(), layer, ITEMS, tmp_path)
    assert setting in caught.value.differences


def scaled_by(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda feat: feat * factor


def scaled_by_default(factors: defaultdict[str, float]) -> Callable[[Tensor], Tensor]:
    return lambda feat: feat * factors.default_factory()  # type: ignore[misc]


class Times:
    """A callable object without a `repr` of its own."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, feat: Tensor) -> Tensor:
        return feat * self.factor

    def times(self, feat: Tensor) -> Tensor:
        return feat * self.factor


FACTOR = 2.0


def times_global(feat: Tensor) -> Tensor:
    return feat * FACTOR


def helper(feat: Tensor) -> Tensor:
    return feat * 2


def through_helper(feat: Tensor) -> Tensor:
    return helper(feat)


def times(feat: Tensor, factor: float = 2.0) -> Tensor:
    return feat * factor


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "closures": (scaled_by(2.0), scaled_by(3.0)),
    "lambdas": (lambda feat: feat + 1, lambda feat: feat + 2),
    "objects": (Times(2.0), Times(3.0)),
    "methods": (Times(2.0).times, Times(3.0).times),
    "partials": (functools.partial(times, factor=2.0), functools.partial(times, factor=3.0)),
    "operators": (lambda feat: feat.relu() + feat, lambda feat: feat.relu() - feat),
    "functions": (torch.relu, torch.sigmoid),
    "modules": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)),
    "default factories": (scaled_by_default(defaultdict(lambda: 2.0)), scaled_by_default(defaultdict(lambda: 3.0))),
    "names": (tl.named("twice", lambda feat: feat * 2), tl.named("thrice", lambda feat: feat * 2)),
}


@pytest.mark.parametrize("option", ["reduce", "preprocess"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_another_function_is_refused(name: str, option: str, tmp_path: Path) -> None:
    one, other = FUNCTIONS[name]
    # Texts, which `Prepared` measures.
    data: Any = [(name, "text") for name, _ in ITEMS] if option == "preprocess" else ITEMS

    def options(function: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        if option == "reduce":
            return {"reduce": function}
        return {"preprocess": Prepared(function)}

    tl.extract(network(), "0", data, tmp_path, **options(one))
    tl.extract(network(), "0", data, tmp_path, **options(one))
    with pytest.raises(tl.StoreMismatchError, match=f"{option} is"):
        tl.extract(network(), "0", data, tmp_path, **options(other))


class Prepared:
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, text: str) -> Tensor:
        return self.function(torch.full((1, 4), float(len(text))))


def test_globals_defaults_and_helpers_belong_to_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(times_global), digest(through_helper), digest(times)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    monkeypatch.setitem(globals(), "helper", lambda feat: feat * 3)
    monkeypatch.setattr(times, "__defaults__", (3.0,))
    after = digest(times_global), digest(through_helper), digest(times)
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_a_function_that_cannot_be_identified_needs_a_name(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:

        def logged(feat: Tensor) -> Tensor:
            log.write("seen\n")
            return feat * 2

        store = tl.extract(network(), "0", ITEMS, tmp_path / "one", reduce=logged)
        assert len(store) == len(ITEMS)
        with pytest.raises(tl.StoreMismatchError, match=r"tl\.named\('a name', function\)"):
            tl.extract(network(), "0", ITEMS, tmp_path / "one", reduce=logged)
        for _ in range(2):
            tl.extract(network(), "0", ITEMS, tmp_path / "two", reduce=tl.named("twice", logged))
        with pytest.raises(tl.StoreMismatchError, match="reduce is"):
            tl.extract(network(), "0", ITEMS, tmp_path / "two", reduce=tl.named("other", logged))


class Numbers(Dataset[Tensor]):
    def __init__(self, values: list[float]) -> None:
        self.values = values
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Tensor:
        if index >= len(self):
            raise IndexError
        self.reads.append(index)
        return torch.full((4,), self.values[index])


def test_another_dataset_of_the_same_length(tmp_path: Path) -> None:
    values = [float(value) for value in range(10)]
    tl.extract(network(), "0", Numbers(values), tmp_path, batch_size=2, shard_size=4)
    other = [*values[:5], 50.0, *values[6:]]
    with pytest.raises(tl.StoreMismatchError, match=r"changed since they were read: '5'") as caught:
        tl.extract(network(), "0", Numbers(other), tmp_path, batch_size=2, shard_size=4)
    assert caught.value.items == ("5",)
    with pytest.raises(tl.StoreMismatchError) as caught:
        tl.extract(network(), "0", Numbers(values[::-1]), tmp_path, batch_size=2, shard_size=4)
    assert len(caught.value.items) == 10


def test_changed_items_are_extracted_again_and_no_others(tmp_path: Path) -> None:
    values = [float(value) for value in range(10)]
    seen: list[int] = []

    class Counted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x)

    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(Counted(4, 3))

    other = [*values[:5], 50.0, *values[6:]]
    options: dict[str, Any] = {"batch_size": 2, "shard_size": 4, "reduce": "mean"}
    # The list of calls is a value that the class refers to, so it must be the same when a model is identified.
    for data in (values, other):
        seen.clear()
        store = tl.extract(model(), "0", Numbers(data), tmp_path / "one", changed="redo", **options)
        calls = list(seen)
        seen.clear()
    assert calls == [2]
    right = tl.extract(model(), "0", Numbers(other), tmp_path / "two", **options)
    assert torch.equal(store["0"][:], right["0"][:])
    for shard in sorted((tmp_path / "two" / "shards").iterdir()):
        assert shard.read_bytes() == (tmp_path / "one" / "shards" / shard.name).read_bytes()


def test_an_item_that_becomes_readable_or_breaks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, samples = network(), dict(ITEMS)
    broken = {**samples, "c": "no tensor"}
    store = tl.extract(model, "0", broken, tmp_path, batch_size=2)
    assert [error.id for error in store.errors] == ["c"]
    store = tl.extract(model, "0", samples, tmp_path, batch_size=2, changed="redo")
    assert not store.errors
    assert store.ids == tuple("abcdefgh")
    assert torch.equal(store["0"][:], tl.extract(model, "0", samples, tmp_path / "whole", batch_size=2)["0"][:])
    store = tl.extract(model, "0", broken, tmp_path, batch_size=2, changed="redo")
    assert store.ids == tuple("abdefgh")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "photos"
    folder.mkdir()
    for place in range(4):
        image.new("RGB", (32, 32), (place * 50, 0, 0)).save(folder / f"{place}.png")
    return folder


def test_a_file_that_was_replaced(photos: Path, tmp_path: Path) -> None:
    from PIL import Image

    model = nn.Sequential(nn.Conv2d(3, 2, 3))
    options: dict[str, Any] = {"reduce": "mean"}
    before = tl.extract(model, "0", photos, tmp_path / "store", **options)["0"][:]
    Image.new("RGB", (32, 32), (255, 255, 255)).save(photos / "2.png")
    with pytest.raises(tl.StoreMismatchError, match=r"'2\.png'"):
        tl.extract(model, "0", photos, tmp_path / "store", **options)
    after = tl.extract(model, "0", photos, tmp_path / "store", changed="redo", **options)["0"][:]
    assert (before == after).all(1).tolist() == [True, True, False, True]


def test_contents_of_files(photos: Path, tmp_path: Path) -> None:
    from PIL import Image

    model = nn.Sequential(nn.Conv2d(3, 2, 3))
    options: dict[str, Any] = {"reduce": "mean", "verify": "contents"}
    tl.extract(model, "0", photos, tmp_path / "store", **options)
    # Another time does not matter; other contents with the size and the time of before do.
    os.utime(photos / "1.png", (0, 0))
    tl.extract(model, "0", photos, tmp_path / "store", **options)
    Image.new("RGB", (32, 32), (60, 0, 0)).save(photos / "1.png")
    os.utime(photos / "1.png", (0, 0))
    with pytest.raises(tl.StoreMismatchError, match=r"'1\.png'"):
        tl.extract(model, "0", photos, tmp_path / "store", **options)
    with pytest.raises(tl.StoreMismatchError, match="verify is 'contents' in the store and 'ids' in this call"):
        tl.extract(model, "0", photos, tmp_path / "store", reduce="mean", verify="ids")


PATHS: dict[str, Callable[[Path], Any]] = {
    "dict": lambda path: {"a": str(path)},
    "text": lambda path: [("a", str(path))],
    "path": lambda path: [("a", path)],
    "label": lambda path: [("a", (str(path), 1))],
    "parts": lambda path: [("a", {"path": str(path), "size": "small"})],
}


@pytest.mark.parametrize("kind", PATHS)
def test_files_whose_paths_are_samples(kind: str, tmp_path: Path) -> None:
    """The user's preprocessing opens them."""
    path, data = tmp_path / "numbers.txt", PATHS[kind](tmp_path / "numbers.txt")

    def read(sample: Any) -> Tensor:
        name = sample["path"] if isinstance(sample, dict) else sample
        return torch.tensor([[float(number) for number in Path(name).read_text().split()]])

    def extracted(**options: Any) -> tl.store.Store:
        return tl.extract(network(), "0", data, tmp_path / "store", preprocess=read, **options)

    path.write_text("1 2 3 4")
    old = extracted()["0"][:]
    extracted()
    path.write_text("1 2 3 5")
    os.utime(path, ns=(1, 1))
    with pytest.raises(tl.StoreMismatchError, match="'a'"):
        extracted()
    new = extracted(changed="redo")["0"][:]
    assert not torch.equal(old, new)
    path.write_text("1 2 3 6")
    os.utime(path, ns=(1, 1))  # the same size and time: `verify="contents"` reads the file
    shutil.rmtree(tmp_path / "store")
    extracted(verify="contents")
    path.write_text("1 2 3 7")
    os.utime(path, ns=(1, 1))
    with pytest.raises(tl.StoreMismatchError, match="'a'"):
        extracted(verify="contents")


def test_ids_that_differ_by_where_a_newline_is(tmp_path: Path) -> None:
    tensors = [tensor for _, tensor in ITEMS[:2]]
    tl.extract(network(), "0", list(zip(["a\nb", "c"], tensors, strict=True)), tmp_path)
    with pytest.raises(tl.StoreMismatchError, match="items is"):
        tl.extract(network(), "0", list(zip(["a", "b\nc"], tensors, strict=True)), tmp_path)


def test_iterators(tmp_path: Path) -> None:
    tl.extract(network(), "0", iter(ITEMS), tmp_path, shard_size=4)
    tl.extract(network(), "0", iter(ITEMS), tmp_path, shard_size=4)
    with pytest.raises(tl.StoreMismatchError, match="ids of shard 0"):
        tl.extract(network(), "0", iter([ITEMS[1], ITEMS[0], *ITEMS[2:]]), tmp_path, shard_size=4)
    with pytest.raises(tl.StoreMismatchError, match="'b'"):
        tl.extract(network(), "0", iter([ITEMS[0], ("b", torch.ones(4) * 9), *ITEMS[2:]]), tmp_path, shard_size=4)
    with pytest.raises(ValueError, match="two items have the id 'a'"):
        tl.extract(network(), "0", iter([*ITEMS, ITEMS[0]]), tmp_path / "twice")


def test_shards_carry_the_identity_of_their_store(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, seed in ((one, 0), (two, 1)):
        tl.extract(network(seed), "0", ITEMS, folder, shard_size=4)
    name = "shards/00000000.safetensors"
    right = (one / name).read_bytes()
    (one / name).write_bytes((two / name).read_bytes())
    for use in (lambda: tl.open_store(one)["0"][0], lambda: tl.open_store(one).verify()):
        with pytest.raises(tl.StoreCorruptError, match="features of another extraction"):
            use()
    with pytest.warns(UserWarning, match="of another extraction.*extracted again"):
        assert tl.extract(network(), "0", ITEMS, one, shard_size=4).verify() == 8
    assert (one / name).read_bytes() == right
    (one / name).write_bytes((one / "shards/00000001.safetensors").read_bytes())
    for use in (lambda: tl.open_store(one)["0"][0], lambda: tl.open_store(one).verify()):
        with pytest.raises(tl.StoreCorruptError, match="it holds the rows of shard 1"):
            use()
    (one / name).write_bytes(right.replace(b"abcd", b"xbcd"))  # the ids, one after another in an Arrow table
    assert (one / name).read_bytes() != right
    with pytest.raises(tl.StoreCorruptError, match="the bytes of its items differ"):
        tl.open_store(one).verify()


def test_shards_without_metadata_belong_to_nobody(tmp_path: Path) -> None:
    tl.extract(network(), "0", ITEMS, tmp_path)
    (tmp_path / "metadata.json").unlink()
    with pytest.raises(tl.StoreTargetError, match="holds other files"):
        tl.extract(network(1), "0", ITEMS, tmp_path)
    url = f"memory://{tmp_path.name}"
    tl.extract(network(), "0", ITEMS, url)
    fsspec.filesystem("memory").rm_file(f"/{tmp_path.name}/metadata.json")
    with pytest.raises(tl.StoreCorruptError, match=r"is missing.*Restore it"):
        tl.extract(network(1), "0", ITEMS, url)


def test_a_server_that_fails_is_not_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{tmp_path.name}"
    before = tl.extract(network(), "0", ITEMS, url)["0"][:]
    with monkeypatch.context() as patch:

        def fail(*_: object, **__: object) -> None:
            raise OSError("503 Service Unavailable")

        patch.setattr(type(fsspec.filesystem("memory")), "info", fail)
        with pytest.raises(OSError, match="503"):
            tl.extract(network(1), "0", ITEMS, url)
    assert torch.equal(tl.open_store(url)["0"][:], before)


CODE = """
import sys, torch, torchvision
import torch_featurelayer as tl
from torch_featurelayer.extraction.identity import digest, model_digests
torch.manual_seed(0)
model = torchvision.models.get_model(sys.argv[1], weights=None).eval()
factor = {"a": 1, "b": {3, 1, 2}, "c": {"x", "y", "z"}}
print(model_digests(model, set()), digest(tl.models.Preprocess()), digest(lambda feat: feat * len(factor)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "swin_t"])
def test_the_same_in_every_process(name: str) -> None:
    found = [
        subprocess.run(
            [sys.executable, "-c", CODE, name],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1] != b""


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121", "swin_v2_t", "maxvit_t"])
def test_a_forward_pass_does_not_change_the_digests(name: str) -> None:
    model = vision.get_model(name, weights=None).eval()
    before = model_digests(model, set())
    model(torch.zeros(1, 3, 224, 224))
    assert model_digests(model, set()) == before


def test_outputs_that_transformers_captures_do_not_change_the_digests() -> None:
    config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2)
    model = transformers.BertModel(config).eval()
    before = model_digests(model, set())
    model(torch.ones(1, 3, dtype=torch.long), output_hidden_states=True)
    assert model_digests(model, set()) == before


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_tensors_of_every_kind_have_digests() -> None:
    rows = torch.arange(6.0).reshape(2, 3)
    kinds: list[Tensor] = [
        rows, rows.half(), rows.bfloat16(), rows.reshape(3, 2), rows.to_sparse(), rows.to_sparse_csr(), rows.bool(),
        rows.to(torch.complex64), rows.to(torch.float8_e4m3fn), torch.quantize_per_tensor(rows, 0.1, 0, torch.qint8),
        torch.quantize_per_tensor(rows, 0.2, 0, torch.qint8), torch.tensor(1.0), torch.tensor([1.0]), rows[:, :0],
    ]  # fmt: skip
    digests = [digest(kind) for kind in kinds]
    assert len(set(digests)) == len(kinds)
    assert digest(rows.t().contiguous().t()) == digests[0]  # memory order is no part of a value
    with pytest.raises(TypeError, match="meta"):
        digest(rows.to("meta"))


def test_a_store_of_version_0_2_is_read_and_not_continued(tmp_path: Path) -> None:
    """Its shards have no digests, so nobody can tell whether the items are the same."""
    folder = tmp_path / "store"
    shutil.copytree(Path(__file__).parents[1] / "store" / "version_0_2", folder)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    data = [(name, torch.full((4,), float(place))) for place, name in enumerate("abc")]
    store = tl.open_store(folder)
    assert (store.ids, store.verify(), store.metadata["shard_size"]) == (("a", "b", "c"), 3, 2)
    right = tl.extract(model, "0", data, tmp_path / "new", shard_size=2)
    torch.testing.assert_close(store["0"][:], right["0"][:], rtol=0, atol=2e-3)
    with pytest.raises(tl.StoreMismatchError, match="format is 1 in the store and 3 in this call"):
        tl.extract(model, "0", data, folder, shard_size=2)


def test_a_file_that_is_gone_is_an_error_of_its_item(photos: Path, tmp_path: Path) -> None:
    files = [str(photos / name) for name in ("0.png", "gone.png", "2.png")]
    store = tl.extract(nn.Sequential(nn.Conv2d(3, 2, 3)), "0", files, tmp_path / "store", reduce="mean")
    assert list(store.ids) == [files[0], files[2]]
    assert [error.id for error in store.errors] == [files[1]]


@pytest.mark.parametrize("kind", ["package", "module", "namespace", "checkout"])
def test_packages_outside_of_this_environment(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a user's site-packages or a folder of `pip --target`: known by their version, not by values that change."""
    name, code = f"elsewhere_{kind}", "calls = []\ndef scale(feat):\n    calls.append(1)\n    return feat"
    place = {"module": f"{name}.py", "namespace": f"{name}/inner.py"}.get(kind, f"{name}/__init__.py")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(code)
    if kind != "checkout":
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    scale = importlib.import_module(f"{name}.inner" if kind == "namespace" else name).scale
    packages: set[str] = set()
    before = digest(scale, packages=packages)
    scale(torch.ones(1))
    assert (digest(scale) == before) is (kind != "checkout")
    assert packages == (set() if kind == "checkout" else {name})


# Of a user's project: `main.py`, and `helpers/inner.py` with the value that differs.
INNER = "class Times:\n    factor = {0}\n\ndef times(x):\n    return x * {0}\n"
SOURCES = {
    "a module": "import helpers.inner\n\ndef scale(x):\n    return helpers.inner.times(x)",
    "a module by another name": "import helpers.inner as ops\n\ndef scale(x):\n    return ops.times(x)",
    "a constant of a module": "from helpers import inner\n\ndef scale(x):\n    return x * inner.Times.factor",
    "an import inside": "def scale(x):\n    import helpers.inner\n    return helpers.inner.times(x)",
    "a name imported inside": "def scale(x):\n    from helpers.inner import times as by\n    return by(x)",
    "a module of a closure": (
        "from helpers import inner\n\ndef make(ops):\n    return lambda x: ops.times(x)\n\nscale = make(inner)"
    ),
    "a module as an argument": (
        "import functools\nfrom helpers import inner\n\ndef call(x, ops):\n    return getattr(ops, 'ti' + 'mes')(x)\n\n"
        "scale = functools.partial(call, ops=inner)"
    ),
    "a function with a cache": (
        "import functools\n\n@functools.cache\ndef factor():\n    return {0}\n\ndef scale(x):\n    return x * factor()"
    ),
    "a class of a class": (
        "class Scale:\n    class Options:\n        factor = {0}\n\n"
        "    def __call__(self, x):\n        return x * self.Options.factor\n\nscale = Scale()"
    ),
    "an array of a class": (
        "import numpy as np\n\nclass Scale:\n    factor = np.array([{0}])\n\n"
        "    def __call__(self, x):\n        return x * self.factor\n\nscale = Scale()"
    ),
    "an operator of a class": (
        "import torch\n\nclass Scale:\n    function = [torch.relu, torch.sigmoid][{0} - 1]\n\n"
        "    def __call__(self, x):\n        return Scale.function(x)\n\nscale = Scale()"
    ),
    "a cached property": (
        "import functools\n\nclass Scale:\n    @functools.cached_property\n    def factor(self):\n"
        "        return {0}\n\n    def __call__(self, x):\n        return x * self.factor\n\nscale = Scale()"
    ),
    "a descriptor": (
        "class Constant:\n    def __init__(self, value):\n        self.value = value\n\n"
        "    def __get__(self, owner, kind):\n        return self.value\n\n"
        "class Scale:\n    factor = Constant({0})\n\n    def __call__(self, x):\n        return x * self.factor\n\n"
        "scale = Scale()"
    ),
    "a metaclass": (
        "class Meta(type):\n    factor = {0}\n\nclass Scale(metaclass=Meta):\n    def __call__(self, x):\n"
        "        return x * type(self).factor\n\nscale = Scale()"
    ),
    "a bound method of a dict": "scale = {{'a': {0}}}.get",
    "a bound method of a tensor": "import torch\n\nscale = torch.tensor([float({0})]).mul",
    "a function of NumPy": "import numpy as np\n\ndef scale(x, f=[np.sin, np.cos][{0} - 1]):\n    return f(x)",
    "a view of a dict": (
        "import types\n\nV = types.MappingProxyType({{'a': {0}}})\n\ndef scale(x):\n    return x * V['a']"
    ),
    "a view of bytes": "V = memoryview(bytes([{0}]))\n\ndef scale(x):\n    return x * V[0]",
}


@pytest.mark.parametrize("name", SOURCES)
def test_code_that_a_function_reaches_belongs_to_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files of the same second would be taken for the same
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").touch()

    def found(value: int) -> str:
        (tmp_path / "helpers" / "inner.py").write_text(INNER.format(value))
        (tmp_path / "main_of_a_user.py").write_text(SOURCES[name].format(value))
        for module in ("helpers", "helpers.inner", "main_of_a_user"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        return digest(importlib.import_module("main_of_a_user").scale)

    one, again, other = found(1), found(1), found(2)
    assert one == again != other


def test_a_module_of_a_user_with_the_name_of_one_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "this.py").write_text("def scale(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    is_installed.cache_clear()
    packages: set[str] = set()
    scale = importlib.import_module("this").scale
    before = digest(scale, packages=packages)
    monkeypatch.setattr(scale, "__code__", (lambda x: x + 1).__code__)
    assert (digest(scale) != before, packages) == (True, set())
    monkeypatch.delitem(sys.modules, "this")
    is_installed.cache_clear()


def test_a_function_of_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module is `__main__`, whose file may be that of an installed package."""
    (tmp_path / "site-packages").mkdir()
    main = types.ModuleType("__main__")
    main.__file__ = str(tmp_path / "site-packages" / "kernel.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    is_installed.cache_clear()
    exec("def scale(x):\n    return x", vars(main))  # noqa: S102
    before = digest(main.scale)
    exec("def scale(x):\n    return x + 1", vars(main))  # noqa: S102
    assert digest(main.scale) != before
    is_installed.cache_clear()


class Script(nn.Module):
    """For TorchScript: a number and a tensor that are no parameters."""

    def __init__(self, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = factor, torch.tensor(shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor + self.shift


class Script2(Script):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor - self.shift


def exported(model: nn.Module) -> nn.Module:
    return torch.export.export(model.eval(), (torch.ones(8, 4),)).module()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("how", ["script", "trace", "export", "fx"])
def test_other_compiled_modules_are_refused(how: str, tmp_path: Path) -> None:
    """Their code is not that of their class."""

    def model(module: nn.Module) -> nn.Module:
        makers: dict[str, Callable[[nn.Module], Any]] = {
            "script": torch.jit.script,
            "trace": lambda module: torch.jit.trace(module, torch.ones(8, 4)),
            "export": exported,
            "fx": torch.fx.symbolic_trace,
        }
        return nn.Sequential(nn.Dropout(), makers[how](module), nn.Identity())

    store = tl.extract(model(Script()), "2", ITEMS, tmp_path, dtype=None)
    assert torch.equal(store["2"][:], torch.stack([row for _, row in ITEMS]))  # without dropout, also beside an export
    tl.extract(model(Script()), "2", ITEMS, tmp_path, dtype=None)
    for other in (Script2(), Script(2.0), Script(shift=1.0)):
        with pytest.raises(tl.StoreMismatchError):
            tl.extract(model(other), "2", ITEMS, tmp_path, dtype=None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_functions_of_torchscript_have_digests() -> None:
    def traced(factor: float) -> Any:
        tensor = torch.full((4,), factor)
        return torch.jit.trace(lambda x: x * tensor, torch.ones(4))

    assert digest(traced(1.0)) == digest(traced(1.0)) != digest(traced(2.0))


def test_packages_without_a_version_have_that_of_their_metadata() -> None:
    found = package_versions({"timm", "sybil"})
    assert not hasattr(importlib.import_module("sybil"), "__version__")
    assert found == {"timm": metadata.version("timm"), "sybil": metadata.version("sybil")}
    assert package_versions({"no_such_package"}) == {}


def test_an_enclosing_autocast_is_that_of_the_extraction(tmp_path: Path) -> None:
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    plain = tl.extract(network(), "0", rows, tmp_path / "store", dtype=None)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(tl.StoreMismatchError, match="autocast is"):
        tl.extract(network(), "0", rows, tmp_path / "store", dtype=None)
    with torch.autocast("cpu", torch.bfloat16):
        store = tl.extract(network(), "0", rows, tmp_path / "half", dtype=None)
        right = tl.FeatureLayer(network(), "0").features(rows)
    assert plain["0"].dtype is torch.float32
    assert store["0"].dtype is right.dtype is torch.bfloat16
    assert torch.equal(store["0"][:], right)
    same = tl.extract(network(), "0", rows, tmp_path / "half", dtype=None, autocast=torch.bfloat16)
    assert torch.equal(same["0"][:], right)


def test_hooks_of_all_modules_belong_to_a_model() -> None:
    before = model_digests(network(), set())
    handle = torch.nn.modules.module.register_module_forward_hook(lambda _, __, output: output * 2)
    try:
        assert model_digests(network(), set())["code"] != before["code"]
    finally:
        handle.remove()
    assert model_digests(network(), set()) == before


@pytest.mark.parametrize("place", ["class", "base", "module", "functional"])
def test_functions_of_packages_that_the_user_replaced(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = vision.swin_t(weights=None).eval()
    before = model_digests(model, set())
    swin = sys.modules["torchvision.models.swin_transformer"]
    owner, name = {
        "class": (swin.ShiftedWindowAttention, "forward"),
        "base": (nn.Module, "__call__"),
        "module": (swin, "shifted_window_attention"),
        "functional": (torch.nn.functional, "gelu"),
    }[place]
    for factor in (1, 2):
        monkeypatch.setattr(owner, name, scaled_by(factor))
        changed = model_digests(model, set())
        assert changed["code"] != before["code"]
        before = changed


def test_long_chains_of_functions_have_digests() -> None:
    def chain(last: int) -> Callable[[int], int]:
        function: Callable[[int], int] = lambda x: x * last  # noqa: E731
        for _ in range(5000):
            function = (lambda inner: lambda x: inner(x))(function)
        return function

    assert digest(chain(1)) == digest(chain(1)) != digest(chain(2))


def test_attributes_of_classes_without_a_digest_are_no_error() -> None:
    """They may be locks, but what a function refers to itself must have one."""

    class Locked:
        lock = threading.Lock()

        def __call__(self, x: int) -> int:
            return x

    lock = threading.Lock()
    assert digest(Locked()) == digest(Locked())
    for value in (lambda: lock, [Locked(), lock]):
        with pytest.raises(TypeError, match="lock has no digest"):
            digest(value)


def test_a_tokenizer_is_its_rules() -> None:
    """Not its vocabulary alone, and not what its last call left in it."""
    one, other = make_tokenizer("bert"), make_tokenizer("bert")
    one(["a cat"], padding="max_length", max_length=8)
    assert digest(one) == digest(other)
    other.backend_tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    assert digest(one) != digest(other)
