"""The same dataset by one process, by torchrun and by Ray: images per second, and whether the bytes are the same.

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
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


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
    about = f"""
{count} images through ResNet-50 at 224 × 224, eager; whole processes, start-up included. The bytes are compared with
one process that uses as many threads. A machine with 2 cores gains nothing from several processes; this table shows
their cost.
"""
    report(
        "backends", "One process, torchrun, Ray", about, ["| | images/s | bytes |", "|---|---|---|", *lines], numbers
    )


if __name__ == "__main__":
    main()
