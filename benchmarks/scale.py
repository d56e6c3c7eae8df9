"""Stores of millions of rows: opening, reading, sampling and searching them, beside a NumPy memmap.

python -m benchmarks.scale [--rows 5000000] [--shards 200000]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import torch_featurelayer as tl
from benchmarks._report import report
from benchmarks._timing import Timing, race
from torch_featurelayer.store import StoreWriter

WIDTH, SHARD, BATCH = 64, 65_536, 1024

OPEN = """
import json, sys, time
from pathlib import Path
import torch, pyarrow, safetensors, numpy
import torch_featurelayer as tl
from torch_featurelayer.store import open_store
open_store(sys.argv[2])  # another store: what is imported at the first call
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
before = resident()
start = time.perf_counter()
store = tl.open_store(sys.argv[1])
count, layer = len(store), store["fc"]
layer[count // 2]
taken = time.perf_counter() - start
print(json.dumps({"rows": count, "seconds": taken, "MB": resident() - before}))
"""


def write(folder: Path, rows: int, shard: int) -> float:
    """Writes a store of random rows; returns the seconds that the manifest took."""
    values = torch.randn(shard, WIDTH).half()
    with StoreWriter.open(folder, {"num_items": rows, "shard_size": shard}) as writer:
        for number, start in enumerate(range(0, rows, shard)):
            stop = min(start + shard, rows)
            writer.write(number, {"fc": values[: stop - start]}, [f"{place:09}.jpg" for place in range(start, stop)])
        start_time = time.perf_counter()
        writer.finish()
    return time.perf_counter() - start_time


def opened(folder: Path, other: Path, runs: int = 5) -> list[dict[str, float]]:
    """Opens a store in new processes."""
    command = [sys.executable, "-c", OPEN, str(folder), str(other)]
    return [json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(runs)]


class Memmap(Dataset[Any]):
    """The plainest data set of rows: one file, with `__getitems__`."""

    def __init__(self, path: Path, rows: int) -> None:
        self._rows = np.memmap(path, dtype=np.float16, mode="r", shape=(rows, WIDTH))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, places: list[int]) -> list[torch.Tensor]:
        return list(torch.from_numpy(self._rows[places]))


def sample(data: Dataset[Any], batches: int = 50) -> None:
    """Reads batches in random order, as a training loop does."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(0, len(data), (batches * BATCH,), generator=generator).tolist()  # type: ignore[arg-type]
    for _ in DataLoader(data, batch_size=BATCH, sampler=places):
        pass


def framework(batch_size: int, rounds: int = 5) -> float:
    """Returns the seconds of a batch that are not those of the model, in steady state, for a model that takes no time.

    The difference between two lengths of data set leaves out what an extraction takes once.
    """
    model, values = nn.Linear(WIDTH, WIDTH).eval(), torch.randn(360_000, WIDTH)
    short = len(values) // 6

    def extract(rows: torch.Tensor) -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            tl.extract(nn.Sequential(model), "0", rows, f"{folder}/out", batch_size=batch_size, shard_size=SHARD)
            return time.perf_counter() - start

    def bare(rows: torch.Tensor) -> float:
        start = time.perf_counter()
        with torch.no_grad():
            for batch in rows.split(batch_size):
                model(batch)
        return time.perf_counter() - start

    extract(values[:short])
    took = [extract(values) - extract(values[:short]) - bare(values[short:]) for _ in range(rounds)]
    return statistics.median(took) / (len(values) - short) * batch_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--shards", type=int, default=200_000)
    options = parser.parse_args()
    lines, numbers = ["| | Time | |", "|---|---|---|"], {}
    numbers["framework"] = {str(size): framework(size) * 1e6 for size in (16, 64, 1024)}
    for size, micro in numbers["framework"].items():
        each = f"{micro / int(size):.1f} µs a row"
        lines.append(
            f"| Extract {WIDTH} numbers of a `Linear`, a batch of {size}, without the model | {micro:.0f} µs | {each} |"
        )
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write(root / "small", 100, 100)
        start = time.perf_counter()
        manifest = write(root / "rows", options.rows, SHARD)
        total = time.perf_counter() - start
        lines.append(f"| Write {options.rows:,} rows of {WIDTH} float16 | {total:.1f} s | manifest {manifest:.1f} s |")
        runs = opened(root / "rows", root / "small")
        lines.append(_opened(f"Open {options.rows:,} rows, read one", runs, numbers, "open_rows"))
        store = tl.open_store(root / "rows")
        layer = store["fc"]
        with (root / "memmap").open("wb") as file:
            for part in layer.rows(SHARD):
                file.write(part.numpy().tobytes())
        memmap = Memmap(root / "memmap", options.rows)
        places = torch.randint(0, options.rows, (1000,)).tolist()
        times = race(
            {
                "1,000 random rows, one by one": lambda: [layer[place] for place in places],
                f"`DataLoader` in random order, batches of {BATCH}": lambda: sample(layer),
                "the same of a NumPy memmap": lambda: sample(memmap),
                "1,000 ids, one by one": lambda: [store.ids[place] for place in places],
                "the place of an id": lambda: store.ids.index(f"{options.rows // 2:09}.jpg"),
            },
            9,
        )
        lines += [f"| {name} | {timing} | {_note(name, times)} |" for name, timing in times.items()]
        loader = f"`DataLoader` in random order, batches of {BATCH}"
        numbers["loader_of_memmap"] = times["the same of a NumPy memmap"].median / times[loader].median
        numbers["random_row_ms"] = times["1,000 random rows, one by one"].median
        manifest = write(root / "shards", options.shards * 10, 10)
        many = tl.open_store(root / "shards")
        lines.append(f"| Write the manifest of {options.shards:,} shards | {manifest:.1f} s | |")
        runs = opened(root / "shards", root / "small")
        lines.append(_opened(f"Open {options.shards:,} shards, read one", runs, numbers, "open_shards"))
        start = time.perf_counter()
        sample(many["fc"], 10)
        lines.append(
            f"| {10 * BATCH:,} random rows of {options.shards:,} shards | {time.perf_counter() - start:.1f} s | |"
        )
        start = time.perf_counter()
        tl.similarity.search(many, torch.randn(WIDTH), k=5)
        maps = len(Path("/proc/self/maps").read_text().splitlines())
        lines.append(f"| Search {options.shards:,} shards | {time.perf_counter() - start:.1f} s | {maps} memory maps |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    numbers["peak_GB"] = peak
    row = numbers["open_rows"]["MB"] / options.rows * 1e6
    about = f"""
Rows of {WIDTH} float16 in shards of {SHARD:,}, and many shards of 10 rows; medians and quartiles of runs in turns;
opening in a new process each time. The peak of this process was {peak:.1f} GB, the pages of mapped files among them.

**A hundred million rows.** Opening lists the shards and maps the items of the manifest, so it depends on the number of
shards: {100_000_000 // SHARD:,} shards of {SHARD:,} rows, fewer than the {options.shards:,} measured here. Memory at
open is that of the list of shards, and {row:.2f} MB for a million rows of it; the items stay in their file, of about 40
bytes a row, 4 GB.
"""
    report("scale", "Millions of rows", about, lines, numbers)


def _opened(title: str, runs: list[dict[str, float]], numbers: dict[str, Any], name: str) -> str:
    seconds, memory = (sorted(run[key] for run in runs) for key in ("seconds", "MB"))
    numbers[name] = {"seconds": seconds[len(runs) // 2], "MB": memory[len(runs) // 2]}
    return f"| {title} | {seconds[0]:.3f} to {seconds[-1]:.3f} s | {memory[-1]:.1f} MB of memory |"


def _note(name: str, times: dict[str, Timing]) -> str:
    if name.startswith("`DataLoader`"):
        ratio = times["the same of a NumPy memmap"].median / times[name].median
        return f"{50 * BATCH / times[name].median:,.0f} rows/s, {ratio:.2f} of the memmap"
    return f"{times[name].median * 1000:.1f} µs each" if name.startswith("1,000") else ""


if __name__ == "__main__":
    main()
