"""A folder of JPEGs through ResNet-50: images per second, beside a plain loop and thingsvision.

python -m benchmarks.extraction [--images 2000]

What thingsvision imports for its other backends, and is not installed, is left empty.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models

import torch_featurelayer as tl
from benchmarks._peers import APART, thingsvision_extractor
from benchmarks._report import report

LAYER, BATCH = "avgpool", 16
PREPARE = tl.models.Preprocess()
RESNET50_FLOP = 2 * 4.09e9  # for one image of 224 × 224


def make_photos(folder: Path, count: int) -> None:
    """JPEGs of 500 × 375, cut from real photos."""
    from skimage import data

    sources = [getattr(data, name)() for name in ("chelsea", "coffee", "astronaut", "rocket")]
    generator = np.random.default_rng(0)
    for number in range(count):
        photo = Image.fromarray(sources[number % len(sources)])
        left, top = generator.integers(0, photo.width // 3), generator.integers(0, photo.height // 3)
        part = photo.crop((left, top, left + photo.width * 2 // 3, top + photo.height * 2 // 3))
        part.resize((500, 375)).save(folder / f"{number:05}.jpg", quality=90)


class Photos(Dataset[torch.Tensor]):
    """What people write: a list of files, opened one by one."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        return PREPARE(self.files[place])[0]


def plain_loop(model: nn.Module, folder: Path, out: Path, workers: int) -> None:
    """The bare model, whole; its pooled features by a hook; one file for each batch."""
    kept: list[torch.Tensor] = []
    handle = model.get_submodule(LAYER).register_forward_hook(lambda _, __, output: kept.append(output.flatten(1)))
    with torch.no_grad():
        for number, batch in enumerate(DataLoader(Photos(folder), batch_size=BATCH, num_workers=workers)):
            model(batch)
            np.save(out / f"{number}.npy", kept.pop().numpy())
    handle.remove()


def with_thingsvision(model: nn.Module, folder: Path, out: Path) -> None:
    extractor = thingsvision_extractor(model)
    loader = DataLoader(Photos(folder), batch_size=BATCH, num_workers=0)
    found = extractor.extract_features(batches=loader, module_name=LAYER, flatten_acts=True, output_type="ndarray")
    np.save(out / "features.npy", found)


def ours(model: nn.Module, folder: Path, out: Path, **options: Any) -> str:
    store = tl.extract(
        model, LAYER, folder, out / "store", reduce="flatten", num_workers=1, batch_size=BATCH, **options
    )
    return str(store.metadata["mode"])


def seconds(call: Callable[[], object], runs: int = 5) -> float:
    call()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def parts(model: nn.Module, folder: Path) -> dict[str, float]:
    """Where the time goes, each part alone, in seconds for one image."""
    photos, batch = Photos(folder), torch.randn(BATCH, 3, 224, 224)
    layers = tl.FeatureLayers(model, LAYER, reduce="flatten", detach=True)
    faster = tl.FeatureLayers(model, LAYER, reduce="flatten", detach=True)
    rows = torch.randn(1024, 2048).half()
    with tempfile.TemporaryDirectory() as temporary, torch.no_grad():
        with tl.store.StoreWriter.open(temporary, {}) as writer:
            pass
        faster.compile(dynamic=False)
        faster.features(batch)
        told = {
            "reading and decoding a JPEG, one process": seconds(lambda: [photos[place] for place in range(64)]) / 64,
            "the model, eager, 2 threads": seconds(lambda: layers.features(batch)) / BATCH,
            "the model, compiled, 2 threads": seconds(lambda: faster.features(batch)) / BATCH,
            "writing a row (a shard of 1,024, fsync)": seconds(
                lambda: writer.write(0, {LAYER: rows}, [str(row) for row in range(1024)])
            ) / 1024,
        }  # fmt: skip
        faster.uncompile()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    count = parser.parse_args().images
    torch.manual_seed(0)
    model = models.resnet50(weights=None).eval()
    square = torch.randn(2048, 2048)
    peak = 2 * 2048**3 / seconds(lambda: square @ square, 10)
    probe = torch.randn(BATCH, 3, 224, 224)
    lines, base, numbers = [], 0.0, {}
    with tempfile.TemporaryDirectory() as temporary:
        apart = Path(temporary) / "thingsvision"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(apart)]
        subprocess.run([*pip, APART["thingsvision"]], check=True)
        sys.path.append(str(apart))
        folder = Path(temporary) / "photos"
        folder.mkdir()
        make_photos(folder, count)
        contenders: dict[str, Callable[[Path], object]] = {
            "plain loop, DataLoader as it comes": lambda out: plain_loop(model, folder, out, 0),
            "plain loop, 1 worker": lambda out: plain_loop(model, folder, out, 1),
            "thingsvision": lambda out: with_thingsvision(model, folder, out),
            "tl.extract": lambda out: ours(model, folder, out),
            "tl.extract, autotune=True": lambda out: ours(model, folder, out, autotune=True),
        }
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # else the processor only imitates it, very slowly
            contenders["tl.extract, autotune=True, autocast=bfloat16"] = lambda out: ours(
                model, folder, out, autotune=True, autocast=torch.bfloat16
            )
        for name, call in contenders.items():
            with torch.no_grad():
                bare = seconds(lambda: model(probe), 3)
            with tempfile.TemporaryDirectory() as out:
                start = time.perf_counter()
                mode = call(Path(out))
                rate = count / (time.perf_counter() - start)
            base = base or rate
            used = rate * RESNET50_FLOP / peak
            said = f" ({mode})" if mode else ""
            lines.append(f"| {name}{said} | {rate:.1f} | {rate / base:.2f} | {used:.2f} | {BATCH / bare:.1f} |")
            numbers[name] = {"images_per_second": rate, "of_plain_loop": rate / base}
            print(lines[-1], flush=True)
        split = parts(model, folder)
    about = f"""
{count} JPEGs of 500 × 375, features of `{LAYER}` (batches of {BATCH}, 224 × 224, random weights), one run after
another; the measurements and the compilation of `autotune` are included. Peak: {peak / 1e9:.0f} GFLOP/s, from a
float32 product of 2048 × 2048. Bare model: the images/s of the model without reading, measured before each row, which
shows how steady the machine was.
"""
    head = ["| | images/s | × plain loop | of the fp32 peak | bare model, images/s |", "|---|---|---|---|---|"]
    after = ["", "Where the time goes, each part alone, for one image:", "", "| | |", "|---|---|"]
    after += [f"| {name} | {taken * 1000:.3f} ms |" for name, taken in split.items()]
    report("extraction", "A dataset through ResNet-50", about, [*head, *lines, *after], {**numbers, "parts": split})


if __name__ == "__main__":
    main()
