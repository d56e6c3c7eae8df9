"""The same dataset by one process, by torchrun and by Ray: images per second, and whether the bytes are the same.

Then Ray with 1, 2 and 4 actors and a model that waits .1 s for each batch, as for another device.

python -m benchmarks.backends [--images 600]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._report import report
from benchmarks.extraction import make_photos
from tests.store.digests import digests

RUN = """
import sys, torch
import torch_featurelayer as tl
from torchvision import models
if __name__ == "__main__":
    torch.manual_seed(0)
    tl.extract(models.resnet50(weights=None), "layer4", sys.argv[1], sys.argv[2], reduce="mean", shard_size=64,
               num_workers=1, num_threads=int(sys.argv[3]), backend=sys.argv[4] if len(sys.argv) > 4 else None)
"""
DELAY = """
import sys, time
import ray, torch
import torch_featurelayer as tl
from torch import nn

class Delay(nn.Module):
    def forward(self, x):
        time.sleep(.1)
        return x + 0

if __name__ == "__main__":
    actors = int(sys.argv[2])
    ray.init(num_cpus=5, include_dashboard=False, log_to_driver=False)
    rows, at = torch.randn(16 * 4 * 20 * actors, 8), []
    start = time.perf_counter()
    tl.extract(nn.Sequential(Delay()), "0", rows, sys.argv[1], batch_size=16, shard_size=64, num_threads=1,
               backend="ray", num_actors=actors,
               progress=lambda now: at.append((time.perf_counter() - start, now.done)))
    (first, _), (begin, done), (end, last) = at[0], at[actors], at[-actors]
    print(first, (last - done) / (end - begin) / (160 * actors))
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def delay_bound(actors: int) -> tuple[float, float]:
    """Returns the seconds to the first shard, and the rate in steady state relative to that of the waiting alone."""
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / "delay.py").write_text(DELAY)
        command = [sys.executable, f"{temporary}/delay.py", f"{temporary}/out", str(actors)]
        first, share = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-2:]
    return float(first), float(share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600)
    count = parser.parse_args().images
    lines, numbers = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "photos").mkdir()
        make_photos(root / "photos", count)
        (root / "run.py").write_text(RUN)
        right: dict[str, dict[str, str]] = {}
        for name, launcher, threads, engine in (
            ("one process, 2 threads", [], "2", []),
            ("Ray, 1 actor, 2 threads", [], "2", ["ray"]),
            ("one process, 1 thread", [], "1", []),
            ("torchrun, 2 ranks of 1 thread", TORCHRUN, "1", ["torchrun"]),
        ):
            out = root / name.replace(" ", "-")
            command = [
                sys.executable,
                *launcher,
                str(root / "run.py"),
                str(root / "photos"),
                str(out),
                threads,
                *engine,
            ]
            start = time.perf_counter()
            quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
            subprocess.run(command, check=True, capture_output=True, env=quiet)
            rate = count / (time.perf_counter() - start)
            same = digests(out) == right.setdefault(threads, digests(out))
            lines.append(f"| {name} | {rate:.1f} | {'the same' if same else 'OTHER'} |")
            numbers[name] = {"images_per_second": rate, "same_bytes": same}
            print(lines[-1], flush=True)
    lines += ["", "| actors | first shard, s after the call | rows/s of the ideal, in steady state |", "|---|---|---|"]
    for actors in (1, 2, 4):
        first, share = delay_bound(actors)
        lines.append(f"| {actors} | {first:.1f} | {share:.3f} |")
        numbers[f"{actors} actors"] = {"first_shard": first, "of_ideal": share}
    about = f"""
{count} images through ResNet-50 at 224 × 224, eager; whole processes, start-up included. The bytes are compared with
one process that uses as many threads. A machine with 2 cores gains nothing from several processes; this table shows
their cost. The second table has a model that waits .1 s for each batch of 16: 160 rows/s for each actor are the ideal.
"""
    report(
        "backends", "One process, torchrun, Ray", about, ["| | images/s | bytes |", "|---|---|---|", *lines], numbers
    )


if __name__ == "__main__":
    main()
