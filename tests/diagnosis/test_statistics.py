"""`tl.statistics` equals a direct computation over all features, whatever interrupted it."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torch_featurelayer as tl
from tests.engine.test_padding import IMAGES, PIXELS, make_detr, path_of
from tests.extraction.images import CUT, make_images, network
from tests.texts import make_tokenizer
from tests.versions import STATES
from torch_featurelayer.diagnosis import LayerStatistics
from torch_featurelayer.diagnosis._accumulate import ChannelAccumulator

BLOCK = f"encoder.layer.1{STATES}"
LAYERS = ["features.3", "features.6", "classifier.3"]


def by_hand(model: nn.Module, inputs: Tensor, layer: str) -> Tensor:
    """Returns the values `[N, positions, C]` of a layer, in float64."""
    with torch.no_grad():
        feat = torch.cat([tl.FeatureLayer(model.eval(), layer)(part)[0] for part in inputs.split(16)])
    return feat.double().flatten(2).transpose(1, 2)


def check(found: LayerStatistics, values: Tensor, ids: list[str], *, top: int = 9) -> None:
    """Compares everything with a direct computation over `[N, positions, C]`."""
    flat = values.flatten(0, 1)
    assert found.positions == len(flat)
    scale = flat.std(0, correction=0) + flat.mean(0).abs()
    assert ((found.mean - flat.mean(0)).abs() <= 1e-6 * scale).all()
    torch.testing.assert_close(found.variance, flat.var(0, correction=0), rtol=1e-5, atol=1e-12)
    assert ((found.variance - flat.var(0, correction=0)).abs() <= 1e-6 * flat.square().mean(0) + 1e-12).all()
    varies = flat.std(0) > 0
    kurtosis = ((flat - flat.mean(0)) ** 4).mean(0) / flat.var(0, correction=0) ** 2
    torch.testing.assert_close(found.kurtosis[varies], kurtosis[varies], rtol=1e-4, atol=1e-6)
    assert torch.equal(found.min, flat.amin(0))
    assert torch.equal(found.max, flat.amax(0))
    assert torch.equal(found.zeros, (flat == 0).double().mean(0))
    assert found.dead.tolist() == (flat.amin(0) == flat.amax(0)).nonzero().flatten().tolist()
    for share in (0, 0.01, 0.3, 0.5, 0.99, 1):
        right = torch.quantile(flat, share, dim=0, interpolation="lower")
        assert ((found.quantile(share) - right).abs() <= right.abs() / 64 + 2.0**-20).all()
    best = values.amax(1)
    for channel in range(0, best.shape[1], 7):
        order = best[:, channel].argsort(descending=True, stable=True)[:top]
        assert found.top(channel) == [(ids[at], pytest.approx(float(best[at, channel]))) for at in order.tolist()]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], Tensor]:
    folder = tmp_path_factory.mktemp("images")
    ids = make_images(folder, 2000)
    inputs = torch.cat([CUT(folder / name) for name in ids]).contiguous(memory_format=torch.channels_last)
    return folder, ids, inputs


def test_images(images: tuple[Path, list[str], Tensor], tmp_path: Path) -> None:
    """Maps `[N, C, H, W]`: each pixel counts; the file holds the same numbers."""
    folder, ids, inputs = images
    model = network().train()
    seen: list[int] = []
    found = tl.statistics(
        model, LAYERS, folder, tmp_path / "stats", preprocess=CUT, batch_size=16, progress=seen.append
    )
    assert seen[-1] == found.num_items == 2000
    assert seen == sorted(seen)
    assert model.training
    again = tl.open_statistics(tmp_path / "stats")
    assert list(again) == LAYERS
    for layer in LAYERS:
        values = by_hand(network(), inputs, layer)
        check(found[layer], values, ids)
        check(again[layer], values, ids)
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(tl.FeatureNotFoundError, match=r"Did you mean 'features.3'"):
        _ = found["features.33"]


RUN = """
import os, signal, sys
import torch_featurelayer as tl
from tests.extraction.images import CUT, network

def progress(count):
    if sys.argv[3] == "kill" and count >= 272:
        os.kill(os.getpid(), signal.SIGKILL)

tl.statistics(network(), ["features.3"], sys.argv[1], sys.argv[2], preprocess=CUT, num_workers=0, num_threads=1,
              covariance=True, progress=progress)
"""


@pytest.mark.slow
def test_killed_and_continued(images: tuple[Path, list[str], Tensor], tmp_path: Path) -> None:
    """The same bytes as without an interruption."""
    (tmp_path / "run.py").write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(out: str, how: str) -> int:
        command = [sys.executable, str(tmp_path / "run.py"), str(images[0]), str(tmp_path / out), how]
        return subprocess.run(command, env=environment, check=False).returncode

    assert run("killed", "kill") == -signal.SIGKILL
    partial = tl.open_statistics(tmp_path / "killed")
    assert partial.num_items == 256
    assert run("killed", "continue") == run("whole", "continue") == 0
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("killed", "whole")]
    assert digests[0] == digests[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "run.py", "whole"]
    values = by_hand(network(), images[2], "features.3").flatten(0, 1)
    found = tl.open_statistics(tmp_path / "whole")["features.3"]
    torch.testing.assert_close(found.covariance, torch.cov(values.T, correction=0), rtol=1e-4, atol=1e-8)


def test_other_features_or_data_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    rows = torch.randn(20, 4)
    tl.statistics(model, "1", rows, tmp_path / "stats")
    assert tl.statistics(model, "1", rows, tmp_path / "stats").num_items == 20
    changed = rows.clone()
    changed[3] += 1
    with pytest.raises(tl.StoreMismatchError, match="changed since"):
        tl.statistics(model, "1", changed, tmp_path / "stats")
    with pytest.raises(tl.StoreMismatchError, match="layers"):
        tl.statistics(model, "0", rows, tmp_path / "stats")
    with pytest.raises(tl.StoreMismatchError, match="top is 9"):
        tl.statistics(model, "1", rows, tmp_path / "stats", top=3)
    model[0].bias.data += 1  # type: ignore[union-attr, operator]
    with pytest.raises(tl.StoreMismatchError, match="weights"):
        tl.statistics(model, "1", rows, tmp_path / "stats")
    (tmp_path / "other").write_bytes(b"something")
    with pytest.raises(tl.StoreCorruptError, match="no statistics"):
        tl.statistics(model, "1", rows, tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        tl.open_statistics(tmp_path / "none")


def tokenizer() -> Any:
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **{word: 4 + n for n, word in enumerate("abcdefgh")}}
    path = Path(os.environ["FEATURELAYER_CACHE"], "vocab.txt")
    path.write_text("\n".join(words))
    return transformers.BertTokenizer(str(path))


def test_tokens_without_padding() -> None:
    """Texts of different lengths in one batch: only their tokens count."""
    torch.manual_seed(0)
    config = transformers.BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=12)
    model = transformers.BertModel(config).eval()
    texts = [(str(place), " ".join("abcdefgh"[: 1 + place % 7])) for place in range(30)]
    words = tokenizer()
    found = tl.statistics(model, BLOCK, texts, preprocess=words, batch_size=8, top=4)[BLOCK]
    parts = []
    with torch.no_grad():
        for _, text in texts:
            feat, _ = tl.FeatureLayer(model, BLOCK)(**words(text, return_tensors="pt"))
            parts.append(feat[0].double())
    flat = torch.cat(parts)
    assert found.positions == len(flat)
    torch.testing.assert_close(found.mean, flat.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.variance, flat.var(0, correction=0), rtol=1e-4, atol=1e-6)
    best = torch.stack([part.amax(0) for part in parts])
    for channel in range(32):
        names, values = zip(*found.top(channel), strict=True)
        assert list(values) == sorted(values, reverse=True)
        assert values[0] == pytest.approx(float(best[:, channel].max()), abs=1e-5)
        assert all(
            float(best[int(name), channel]) == pytest.approx(value, abs=1e-5)
            for name, value in zip(names, values, strict=True)
        )
    content = tl.statistics(model, BLOCK, texts, preprocess=words, tokens="content")[BLOCK]
    assert content.positions == len(flat) - 2 * len(texts)


class Picky(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if (x > 100).any():
            raise ValueError("too large")
        return x * torch.tensor([1.0, 0.0, 20.0, torch.nan])


@pytest.mark.parametrize("kind", ["padded by the tokenizer", "padded in batches"])
def test_padding_of_texts_that_were_tokenized_before(kind: str) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=24, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    model, layer = transformers.BertModel(config).eval(), f"encoder.layer.0{STATES}"
    tokenizer, texts = make_tokenizer("bert"), ["the cat sat", "a dog ran away from the house", "home"]
    data: Any = tokenizer(texts, padding=True, return_tensors="pt")
    options: dict[str, Any] = {}
    if kind == "padded in batches":
        data = [dict(tokenizer(text)) for text in texts]
        options["collate_fn"] = transformers.DataCollatorWithPadding(tokenizer)
    found = tl.statistics(model, layer, data, **options)[layer]
    alone = [tl.FeatureLayer(model, layer)(**tokenizer(text, return_tensors="pt"))[0][0].detach() for text in texts]
    assert found.positions == sum(map(len, alone))
    torch.testing.assert_close(found.mean.float(), torch.cat(alone).mean(0), rtol=1e-4, atol=1e-5)


def test_padding_of_images() -> None:
    """DETR: pixels of the second image that are padding do not count."""
    model = make_detr()
    layer = path_of(model, "stages.3")
    data = [{"pixel_values": image, "pixel_mask": mask} for image, mask in zip(IMAGES, PIXELS, strict=True)]
    found = tl.statistics(model, layer, data)[layer]
    maps = tl.FeatureLayer(model, layer)(pixel_values=IMAGES, pixel_mask=PIXELS)[0].detach()
    real = torch.cat([maps[0].flatten(1), maps[1, :, :2, :3].flatten(1)], 1)
    assert found.positions == real.shape[1]
    torch.testing.assert_close(found.mean.float(), real.mean(1), rtol=1e-4, atol=1e-5)


def test_bad_values_dead_channels_and_errors() -> None:
    """NaN is counted and left out; an item that the model rejects is an error of its own."""
    rows = torch.randn(40, 4)
    rows[7, 0] = 101
    model = nn.Sequential(Picky())
    found = tl.statistics(model, "0", rows, batch_size=8)
    assert found.errors == (("7", "ValueError: too large"),)
    assert found.num_items == 40
    layer = found["0"]
    assert layer.nonfinite.tolist() == [0, 0, 0, 39]
    assert layer.count.tolist() == [39, 39, 39, 0]
    assert math.isnan(float(layer.mean[3]))
    assert layer.dead.tolist() == [1]
    assert layer.top(3) == []
    assert layer.zeros[1] == 1
    wide = tl.statistics(
        nn.Sequential(nn.Identity()), "0", torch.ones(3, 50) * torch.cat([torch.ones(49), torch.tensor([99.0])])
    )
    assert wide["0"].outliers.tolist() == [49]
    with pytest.raises(ValueError, match="too large"):
        tl.statistics(model, "0", torch.full((30, 4), 101.0))
    with pytest.raises(tl.LayoutError, match="dimension of the channels"):
        tl.statistics(nn.Sequential(nn.Identity()), "0", torch.randn(4, 3, 5))
    assert tl.statistics(nn.Sequential(nn.Identity()), "0", torch.randn(4, 3, 5), layout="NTC")["0"].positions == 12
    with pytest.raises(ValueError, match="covariance=True"):
        _ = layer.covariance
    with pytest.raises(ValueError, match="from 0 to 1"):
        layer.quantile(2)


def test_tables(tmp_path: Path) -> None:
    found = tl.statistics(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), ["0", "1"], torch.randn(20, 4), top=2)
    found.to_parquet(tmp_path / "stats.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "stats.parquet").to_pylist()
    assert rows == found.to_dicts()
    assert [(row["layer"], row["channel"]) for row in rows] == [(layer, n) for layer in "01" for n in range(3)]
    assert len(rows[0]["top"]) == 2
    assert repr(found).splitlines()[1] == "LayerStatistics('0': 3 channels over 20 positions, 0 dead, 0 outliers)"


def test_a_stream_is_read_once() -> None:
    rows = torch.randn(300, 4)
    found = tl.statistics(nn.Sequential(nn.Linear(4, 3)), "0", iter(rows))
    assert found["0"].positions == 300


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.lists(st.floats(-1e5, 1e5, width=32), min_size=2, max_size=60),
        st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=2, max_size=60),
        st.lists(st.floats(-(2.0**-60), 2.0**-60, width=32, allow_subnormal=False), min_size=2, max_size=60),
    ),
    st.integers(1, 7),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
def test_any_values_in_any_parts(values: list[float], part: int, share: float) -> None:
    """Moments and quantiles do not depend on how the values are divided."""
    flat = torch.tensor(values).unsqueeze(1)
    state = ChannelAccumulator(1, 3)
    for number, each in enumerate(flat.split(part)):
        state.add(each, [1] * len(each), [part * number + place for place in range(len(each))])
    found = LayerStatistics("a", state.state, {place: str(place) for place in range(len(values))})
    wide = flat.double()
    scale = float(wide.abs().max())
    assert float((found.mean - wide.mean()).abs()) <= 1e-6 * scale
    assert float((found.variance - wide.var(correction=0)).abs()) <= 1e-6 * scale**2
    right = torch.quantile(wide, share, interpolation="lower")
    assert float((found.quantile(share) - right).abs()) <= float(right.abs()) / 64 + scale * 2.0**-20
    best = flat.flatten().argsort(descending=True, stable=True)[:3].tolist()
    assert [name for name, _ in found.top(0)] == [str(place) for place in best]


@pytest.mark.parametrize("size", [1e-40, 1e-30, 1.0, 1e12, 1e30])
@pytest.mark.parametrize("count", [40, 70_000])  # fewer values than buckets, and several parts
@pytest.mark.parametrize("bad", [(), (math.nan, math.inf)])
def test_values_of_any_size(size: float, count: int, bad: tuple[float, ...]) -> None:
    """Their fourth powers are in no float32; numbers of values are exact."""
    values = torch.randn(count, 3, generator=torch.Generator().manual_seed(0)).relu() * size
    values[:, 1] = 0.1 * size
    values[5 : 5 + len(bad), 2] = torch.tensor(bad)
    state = ChannelAccumulator(3, 1)
    state.add(values, [count // 2] * 2, [0, 1])
    found = LayerStatistics("layer", state.state, {0: "a", 1: "b"})
    assert int(state.state["buckets"].sum()) == 3 * count - len(bad)
    assert found.dead.tolist() == [1]
    assert float(found.variance[1]) == 0
    for channel in range(3):
        column = values[:, channel].double()
        right = column[column.isfinite()]
        off = right - right.mean()
        assert int(found.count[channel]) == len(right)
        assert float(found.mean[channel]) == pytest.approx(float(right.mean()), rel=1e-6)
        assert float(found.variance[channel]) == pytest.approx(float(off.square().mean()), rel=2e-6)
        assert float(found.zeros[channel]) == float((right == 0).double().mean())
        if channel != 1:
            kurtosis = float(off.pow(4).mean() / off.square().mean() ** 2)
            assert float(found.kurtosis[channel]) == pytest.approx(kurtosis, rel=1e-4 if size < 1e-37 else 2e-6)
        if size > 1e-37:  # the smallest float32 with all digits
            middle = float(right.quantile(0.9, interpolation="lower"))
            assert float(found.quantile(0.9)[channel]) == pytest.approx(middle, rel=1 / 64)


def test_most_channels_are_dead() -> None:
    """Their median is zero, of which everything is ten times as much."""
    rows = torch.randn(30, 20)
    rows[:, :15] = 0
    rows[:, 19] = 100
    found = tl.statistics(nn.Sequential(nn.Identity()), "0", rows)["0"]
    assert found.outliers.tolist() == [19]
    assert found.dead.tolist() == [*range(15), 19]
    assert tl.statistics(nn.Sequential(nn.Identity()), "0", rows[:, :15])["0"].outliers.tolist() == []


def test_the_range_of_quantiles_follows_the_values() -> None:
    """Each channel has its own: values that grow from 1e-14 to 1e9, zeros first, and some that stay small."""
    state, generator, parts = ChannelAccumulator(3, 1), torch.Generator().manual_seed(0), []
    for size in (0.0, 1e-14, 1e-3, 1.0, 1e9):
        part = torch.rand(200, 3, generator=generator) * torch.tensor([size, 1e-14, size])
        parts.append(part * torch.tensor([1.0, 1.0, -1.0]))
        state.add(parts[-1], [200], [0])
    found, values = LayerStatistics("layer", state.state, {0: "a"}), torch.cat(parts).double()
    assert state.state["buckets"].sum(1).tolist() == [1000] * 3
    for share in (0.05, 0.5, 0.9, 1.0):
        right = torch.quantile(values, share, dim=0, interpolation="lower")
        lost = values.abs().amax(0) * 2.0**-20
        assert ((found.quantile(share) - right).abs() <= right.abs() / 64 + lost).all()
    counts, edges = found.histogram(5)
    for channel in range(3):
        column = values[:, channel].numpy()
        assert counts[channel].tolist() == pytest.approx(np.histogram(column, edges[channel].numpy())[0], abs=12)


def test_a_file_without_ranges_is_continued() -> None:
    """Those of earlier versions had one range for all values."""
    state = ChannelAccumulator(2, 1)
    state.add(torch.rand(50, 2) + 1, [50], [0])  # of which the range is nearly the fixed one
    older = {name: value for name, value in state.state.items() if name != "exponent"}
    restored = ChannelAccumulator.restore(older)
    restored.add(torch.rand(50, 2), [50], [1])
    assert restored.state["exponent"].tolist() == [0, 0]
    assert restored.state["buckets"].sum(1).tolist() == [100, 100]


@settings(deadline=None)
@given(
    column=st.lists(st.one_of(st.just(0.0), st.floats(-1e4, 1e4, width=32)), min_size=1, max_size=60),
    bins=st.integers(1, 40),
)
def test_a_histogram_holds_all_values(column: list[float], bins: int) -> None:
    """Every bin has at least the values that are inside it by more than the width of a bucket, and no others."""
    values = torch.tensor(column)[:, None]
    state = ChannelAccumulator(1, 1)
    state.add(values, [1] * len(values), list(range(len(values))))
    counts, edges = LayerStatistics("layer", state.state, {}).histogram(bins)
    assert counts.shape == (1, bins)
    assert float(counts.sum()) == pytest.approx(len(values))
    assert (counts >= 0).all()
    assert (float(edges[0, 0]), float(edges[0, -1])) == (float(values.min()), float(values.max()))
    reach = values.double().abs() / 32 + 2.0**-19
    for bin_ in range(bins):
        low, high = edges[0, bin_], edges[0, bin_ + 1]
        inside = ((values - reach >= low) & (values + reach <= high)).sum()
        near = ((values + reach >= low) & (values - reach <= high)).sum()
        assert float(inside) - 1e-6 <= float(counts[0, bin_]) <= float(near) + 1e-6


def test_a_histogram_needs_bins() -> None:
    with pytest.raises(ValueError, match="one or more bins, not 0"):
        tl.statistics(network(), "features.3", torch.rand(4, 3, 32, 32))["features.3"].histogram(0)
