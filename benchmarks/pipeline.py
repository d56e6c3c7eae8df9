"""Extraction of images beside a plain loop and the best loop by hand, and what the pipeline itself costs.

python -m benchmarks.pipeline [--images 480] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from skimage import data
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import torch_featurelayer as tl
from benchmarks._report import report
from torch_featurelayer.models import Preprocess

BATCH, SHARD = 16, 128
LAYERS = {"resnet50": "layer4", "vit_small_patch16_224": "blocks.11"}


def make_images(folder: Path, count: int) -> None:
    """Writes JPEGs of 500 × 375 pixels, cut from sample images."""
    folder.mkdir()
    whole = [Image.fromarray(getattr(data, name)()) for name in ("chelsea", "coffee", "astronaut", "rocket")]
    for number in range(count):
        image = whole[number % 4]
        left, top = number % 50, number % 20
        image.crop((left, top, left + 380, top + 280)).resize((500, 375)).save(folder / f"{number:05}.jpg", quality=90)


def make_model(name: str) -> nn.Module:
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False).eval()


class Images(Dataset[Tensor]):
    """Images as a user writes them."""

    def __init__(self, folder: Path, prepare: Callable[[Any], Tensor]) -> None:
        self._files, self._prepare = sorted(folder.iterdir()), prepare

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> Tensor:
        return self._prepare(Image.open(self._files[place]))[0]


def plain(name: str, folder: Path, _: Path) -> list[float]:
    """What most people write: one worker, a hook, fp32."""
    model, kept, taken = make_model(name), [], []
    handle = model.get_submodule(LAYERS[name]).register_forward_hook(lambda *args: kept.append(args[2]))
    start = time.perf_counter()
    with torch.no_grad():
        for batch in DataLoader(Images(folder, Preprocess()), batch_size=BATCH, num_workers=1):
            model(batch)
            feature = kept.pop()
            (feature.mean((2, 3)) if feature.ndim == 4 else feature.mean(1)).half()
            taken.append(time.perf_counter() - start)
    handle.remove()
    return taken


def by_hand(name: str, folder: Path, _: Path, dtype: torch.dtype, workers: int) -> list[float]:
    """The best loop: weights in `dtype`, channels last, compiled with freezing, memory kept."""
    from torch_featurelayer.extraction.memory import keep_memory

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = make_model(name)

        def forward(self, x: Tensor) -> Tensor:
            feature = self.model.forward_features(x)
            return (feature.mean((2, 3)) if feature.ndim == 4 else feature.mean(1)).half()

    model = torch.compile(
        Pooled().eval().to(dtype).to(memory_format=torch.channels_last), dynamic=False, options={"freezing": True}
    )
    taken = []
    with torch.no_grad(), keep_memory():
        model(torch.zeros(BATCH, 3, 224, 224, dtype=dtype).to(memory_format=torch.channels_last))
        start = time.perf_counter()
        for batch in DataLoader(Images(folder, Preprocess()), batch_size=BATCH, num_workers=workers):
            model(batch.to(dtype).contiguous(memory_format=torch.channels_last))
            taken.append(time.perf_counter() - start)
    return taken


def ours(name: str, folder: Path, out: Path, **options: Any) -> list[float]:
    """`tl.extract`: the seconds from the call to the first batch without that batch, and those to each shard."""
    taken: dict[int, float] = {}
    model = make_model(name)
    start = time.perf_counter()
    tl.extract(
        model, LAYERS[name], folder, out, reduce="mean", batch_size=BATCH, shard_size=SHARD,
        preprocess=Preprocess(), progress=lambda at: taken.setdefault(at.done, time.perf_counter() - start), **options,
    )  # fmt: skip
    shards = [taken[done] for done in sorted(taken) if done and done % SHARD == 0]
    first = min(done for done in taken if done)
    return [taken[first] - first * (shards[-1] - shards[0]) / (len(shards) - 1) / SHARD, *shards]


BFLOAT16 = torch.bfloat16
CONTENDERS: dict[str, Callable[..., list[float]]] = {
    "plain loop, 1 worker": plain,
    "`tl.extract`, no options": ours,
    "`tl.extract(autotune=True)`": partial(ours, autotune=True),
    "best loop by hand, fp32": partial(by_hand, dtype=torch.float32, workers=1),
}
if torch.ops.mkldnn._is_mkldnn_bf16_supported():  # else the processor only imitates it, very slowly
    CONTENDERS |= {
        "`tl.extract(precision=torch.bfloat16)`": partial(ours, precision=BFLOAT16),
        "`tl.extract(precision=torch.bfloat16, autotune=True)`": partial(
            ours, precision=BFLOAT16, autotune=True, num_workers=2
        ),
        "best loop by hand, bf16": partial(by_hand, dtype=BFLOAT16, workers=1),
    }


def run_one(contender: str, name: str, folder: str, out: str) -> None:
    """Runs a contender in this process; prints the rate in steady state, all seconds, and those to the first batch."""
    start = time.perf_counter()
    taken = CONTENDERS[contender](name, Path(folder), Path(out))
    total = time.perf_counter() - start
    begin = taken[0]
    if contender.startswith("`tl"):
        # From the end of the first shard to that of the last full one.
        shards = taken[1:]
        rate = (len(shards) - 1) * SHARD / (shards[-1] - shards[0])
    else:
        first = SHARD // BATCH - 1
        rate = (len(taken) - 1 - first) * BATCH / (taken[-1] - taken[first])
    print(f"{rate:.3f} {total:.3f} {begin:.3f}")


def in_process(contender: str, name: str, folder: Path, out: Path) -> tuple[float, float, float]:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.pipeline", "--one", contender, name, str(folder), str(out)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(text[-3]), float(text[-2]), float(text[-1])


class Delay(nn.Module):
    """A stand-in for a model on another device: it waits, and computes next to nothing."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.scale = seconds, nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """Waits."""
        time.sleep(self.seconds)
        return x.flatten(1)[:, :64] * self.scale


def delay_bound(images: int, root: Path) -> tuple[float, float]:
    """The seconds of an extraction from tensors in memory in steady state, and those of the delay alone."""
    rows, seconds = torch.randn(images, 3, 32, 32), 0.05
    at: dict[int, float] = {}
    tl.extract(
        nn.Sequential(Delay(seconds)), "0", rows, root, batch_size=BATCH, shard_size=SHARD,
        progress=lambda progress: at.setdefault(progress.done, time.perf_counter()),
    )  # fmt: skip
    shards = [at[done] for done in sorted(at) if done % SHARD == 0]
    start = time.perf_counter()
    for _ in range(SHARD // BATCH):
        time.sleep(seconds)
    return (shards[-1] - shards[0]) / (len(shards) - 1), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=list(LAYERS))
    parser.add_argument("--one", nargs=4)
    options = parser.parse_args()
    if options.one:
        run_one(*options.one)
        return
    lines, numbers = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        os.environ["FEATURELAYER_CACHE"] = str(root / "cache")
        taken, alone = delay_bound(1280, root / "delay")
        numbers["loop_of_delay"] = taken / alone
        lines += [
            f"With a model that waits 50 ms: a shard {taken:.3f} s, the waiting {alone:.3f} s: {taken / alone:.3f}.",
            "",
        ]
        make_images(root / "images", options.images)
        for name in options.models:
            rates: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
            totals: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
            starts: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
            for _ in range(options.rounds):
                for contender in CONTENDERS:
                    rate, total, begin = in_process(contender, name, root / "images", root / "out")
                    rates[contender].append(rate)
                    totals[contender].append(total)
                    starts[contender].append(begin)
            base = statistics.median(rates["plain loop, 1 worker"])
            lines += [f"## {name}", "", "| | images/s | of the plain loop | seconds for all | first and second start |"]
            lines.append("|---|---|---|---|---|")
            for contender, found in rates.items():
                rate = statistics.median(found)
                numbers[f"{name} {contender}"] = rate
                first, *later = starts[contender]
                begin = ""
                if contender.startswith("`tl") and later:
                    numbers[f"{name} {contender} second start"] = statistics.median(later)
                    begin = f"{first:.1f} s, {statistics.median(later):.1f} s"
                lines.append(
                    f"| {contender} | {rate:.1f} ({min(found):.1f} to {max(found):.1f}) | {rate / base:.2f} | "
                    f"{statistics.median(totals[contender]):.1f} | {begin} |"
                )
            lines.append("")
    about = f"""
{options.images} JPEGs of 500 × 375 pixels, {BATCH} at a time, in shards of {SHARD}: the mean over positions of the last
stage in float16. Each contender in a process of its own, in turns, {options.rounds} times; medians, with the lowest and
highest. The rate is that after the first shard; the seconds are for all, with measuring and compiling in them (both are
kept after the first round); a start is the time from the call to the first batch, without that of a batch. All
prepare images in the same way, in one worker process. The best loop by hand has channels last, `torch.compile` with
freezing, and memory that glibc keeps.
"""
    report("pipeline", "The pipeline of extraction", about, lines, numbers)


if __name__ == "__main__":
    main()
