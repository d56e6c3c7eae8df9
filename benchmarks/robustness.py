"""Memory over long runs, kills at random moments, broken files.

python -m benchmarks.robustness [--kills 30] [--ray-kills 5]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import torch_featurelayer as tl
from benchmarks._report import report
from tests.extraction.broken import KINDS, broken
from tests.extraction.images import CUT, make_images, network
from tests.store.digests import digests

SHARDS = 120
# glibc raises the size from which it gives memory back at once; a model's activations then leave holes
MALLOCS = {"malloc as it comes": {}, "with a fixed `MALLOC_MMAP_THRESHOLD_`": {"MALLOC_MMAP_THRESHOLD_": "65536"}}
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
LONG = """
import resource, sys, torch
import torch_featurelayer as tl
from torch.utils.data import Dataset
from tests.extraction.images import network
class Noise(Dataset):
    def __len__(self): return int(sys.argv[1])
    def __getitem__(self, place): return torch.full((3, 96, 96), place / 20000)
tl.extract(network(), "features.12", Noise(), sys.argv[2], num_workers=1, shard_size=512, batch_size=32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
RUN = """
import sys
import torch_featurelayer as tl
from tests.extraction.images import CUT, network
tl.extract(network(), ["features.3", "features.6"], sys.argv[1], sys.argv[2], preprocess=CUT, reduce="mean",
           batch_size=4, shard_size=16, num_workers=1, num_threads=2,
           backend=sys.argv[3] if len(sys.argv) > 3 else None)
"""


def memory(rows: int, folder: Path, **environment: str) -> float:
    """Peak resident memory of a run over so many rows of whole maps, in MB."""
    command, variables = [sys.executable, "-c", LONG, str(rows), str(folder)], {**os.environ, **environment}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return int(done.stdout) / 1000


def killed(images: Path, out: Path, right: dict[str, str], times: int, *engine: str) -> tuple[int, bool]:
    """Kills so many runs, drivers and actors together, at random moments; a store that is finished is begun anew.

    Returns how many of those killed had written shards, and whether every finished store had the right bytes.
    """
    command = [sys.executable, "-c", RUN, str(images), str(out), *engine]
    begun, done, same = 0, 0, True
    while done < times:
        before = _shards(out)
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        if random.random() < 0.3:  # while it starts, or reads what is there
            time.sleep(random.uniform(0, 5))
        else:
            while process.poll() is None and _shards(out) <= before:
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.05))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            done += 1
            begun += _shards(out) > before
        process.wait()
        if _shards(out) == SHARDS:
            subprocess.run(command, check=True, **QUIET)
            same = same and digests(out) == right
            shutil.rmtree(out)
        elif (out / "metadata.json").exists():
            with suppress(tl.StoreIncompleteError):  # raised once the shards that are there are verified
                tl.open_store(out).verify()
    subprocess.run(command, check=True, **QUIET)
    return begun, same and digests(out) == right


def _shards(out: Path) -> int:
    return len(list(out.glob("shards/*.safetensors")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--ray-kills", type=int, default=5)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    lines, numbers = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name, environment in MALLOCS.items():
            few, many = (memory(rows, root / f"{name[:7]}{rows}", **environment) for rows in (2000, 20000))
            told = f"{few:.0f} MB, {many:.0f} MB: × {many / few:.3f}"
            lines.append(f"| peak memory over 2,000 and 20,000 rows, {name} | {told} |")
            numbers[f"memory, {name}"] = many / few
            print(lines[-1], flush=True)
        make_images(root / "images", SHARDS * 16)
        subprocess.run([sys.executable, "-c", RUN, str(root / "images"), str(root / "whole")], check=True)
        right = digests(root / "whole")
        for name, times, engine in (
            ("one process", options.kills, ()),
            ("Ray, driver and actors", options.ray_kills, ("ray",)),
        ):
            out = root / f"killed-{name[:3]}"
            begun, same = killed(root / "images", out, right, times, *engine)
            told = f"{begun} of them had written; at the end {'the same bytes' if same else 'OTHER BYTES'}"
            lines.append(f"| killed (-9) {times} times, {name} | {told} |")
            numbers[f"kills, {name}"] = {"times": times, "same_bytes": same}
            print(lines[-1], flush=True)
        ids = make_images(root / "broken", 1000)
        bad = sorted(random.Random(0).sample(ids, 100))
        for number, name in enumerate(bad):
            (root / "broken" / name).write_bytes(broken(number % KINDS))
        store = tl.extract(
            network(), "features.3", root / "broken", root / "errors", preprocess=CUT, reduce="mean", num_workers=1
        )
        good = [name for name in ids if name not in set(bad)]
        layer = tl.FeatureLayer(network().eval(), "features.3", reduce="mean")
        wrong = sum(
            not torch.allclose(
                row.float(), layer.features(CUT(root / "broken" / name))[0].detach(), rtol=2e-3, atol=2e-3
            )
            for name, row in zip(store.ids, store["features.3"], strict=True)
        )
        named = [error.id for error in store.errors] == bad and list(store.ids) == good
        lines.append(
            f"| 1,000 files, 100 broken in {KINDS} ways | {len(store)} rows, {wrong} wrong, "
            f"{len(store.errors)} errors, {'each' if named else 'NOT each'} by its name |"
        )
        numbers["broken"] = {"rows": len(store), "wrong": wrong, "errors": len(store.errors), "named": named}
    about = """
After each kill, the store is opened and verified before extraction resumes. At the end, every file is compared with the
files of an uninterrupted run.
"""
    report("robustness", "Robustness of extraction", about, ["| | |", "|---|---|", *lines], numbers)


if __name__ == "__main__":
    main()
